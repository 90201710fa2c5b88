//! One logic, held against itself: the same frames and tables go through the host's build and through the loaded programs.
//! Verdict, frame, counters, connections, remembered clients, fragments and those that are held must be the same.

mod associations;
mod discovery;
pub mod kernel;
mod named;
mod random;
mod reversed;
mod tunnels;

use std::{
    collections::BTreeMap,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Result, ensure};
use netpath_common::{
    abi::{
        Layouts, Mac,
        affinity::Affinity,
        conntrack::Connection,
        counter::{self, Counter},
        fragment::Datagram,
    },
    hook::Hook,
    reason::Reason,
};
use netpath_ebpf::{family::Address as _, packet::Packet as _, path, scratch::Scratch, verdict::NextHop};
use netpath_tests::{
    lab::namespace::Namespace,
    packet::HostPacket,
    tables::{FamilyTables, HostTables},
    verdict::Verdict,
};
use nix::time::{ClockId, clock_gettime};
use rtnetlink::{LinkMessageBuilder, packet_route::link::InfoKind};

use self::kernel::{Answer, Kernel};
use crate::logic::node;

/// Return values (include/uapi/linux/bpf.h).
const TCX_NEXT: i32 = -1;
const TCX_DROP: i32 = 2;
pub const TCX_REDIRECT: i32 = 7;
const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;
const XDP_TX: i32 = 3;

/// A frame on its way into a hook.
#[derive(Clone, Debug)]
pub struct Visit {
    /// The hook.
    pub hook: Hook,
    /// The device.
    pub ifindex: u32,
    /// The frame.
    pub frame: Vec<u8>,
    /// Bytes of a segment, or 0.
    pub gso_size: usize,
}

/// Both builds side by side, with the same tables.
pub struct Pair {
    host: HostTables,
    kernel: Kernel,
    counters: BTreeMap<u32, Counter>,
}

impl Pair {
    fn new() -> Result<Self> {
        let (host, mut kernel) = (node::tables(), Kernel::load()?);
        kernel.fill(&node::config(), &host)?;
        Ok(Self {
            host,
            kernel,
            counters: BTreeMap::new(),
        })
    }

    /// Begins anew with the scenarios' tables, of which programs write a few alone.
    fn reset(&mut self) -> Result<()> {
        self.host = node::tables();
        self.host.clock = clock()?;
        self.counters = self.kernel.counters()?;
        self.kernel.recall(&self.host.v4)?;
        self.kernel.recall(&self.host.v6)
    }

    /// Sends a frame through both, and compares all but the counters. Gives the frame that left.
    fn visit(&mut self, visit: &Visit) -> Result<Vec<u8>> {
        let answer = self
            .kernel
            .run(visit.hook, &visit.frame, visit.ifindex, visit.gso_size)?;
        let mut packet = HostPacket::new(visit.frame.clone(), visit.ifindex);
        packet.gso_size = visit.gso_size;
        packet.xdp = visit.hook == Hook::FromWireXdp;
        let mut verdict = host(visit.hook, &mut packet, &mut self.host);
        // A test run says how large segments are, but not of what kind, and in such a frame the kernel makes no room for
        // outer headers. All that came before is compared; the lab's traffic shows the rest.
        if visit.gso_size != 0 && verdict.reason() == Reason::ToTunnel {
            verdict = Verdict::Drop(Reason::RewriteFailed);
        }
        let counter = self
            .counters
            .entry(counter::index(visit.hook, verdict.reason()))
            .or_default();
        counter.packets += 1;
        counter.bytes += visit.frame.len() as u64;
        let expected = expected(visit, &verdict, &packet, &answer);
        ensure!(
            answer == expected,
            "{visit:02x?}\nhost {verdict:?}: {expected:02x?}\nkernel: {answer:02x?}"
        );
        let here = self.kernel.remembered(&self.host.v4)?;
        same(visit, remembered(&self.host.v4), here)?;
        let here = self.kernel.remembered(&self.host.v6)?;
        same(visit, remembered(&self.host.v6), here)?;
        Ok(packet.bytes)
    }

    /// Compares what was counted.
    fn counted(&mut self) -> Result<()> {
        let counters = self.kernel.counters()?;
        ensure!(
            counters == self.counters,
            "counted by the host: {:?}\nby the kernel: {counters:?}",
            self.counters
        );
        Ok(())
    }
}

fn host(hook: Hook, packet: &mut HostPacket, tables: &mut HostTables) -> Verdict {
    let (config, scratch) = (&node::config(), &mut Scratch::default());
    let verdict = match hook {
        Hook::FromPod => path::from_pod::run(packet, tables, config, scratch),
        Hook::FromOverlay => path::from_overlay::run(packet, tables, config, scratch),
        Hook::FromWire | Hook::FromWireXdp => path::from_wire::run(packet, tables, config, scratch),
        Hook::ToWire => path::to_wire::run(packet, tables, scratch),
        Hook::FromHost => path::from_host::run(packet, tables, config, scratch),
        _ => unreachable!("no frame comes to a socket's hook"),
    };
    Verdict::new(verdict, scratch)
}

/// What XDP notes before a frame for the program of tc, which sends it on where the kernel knows no neighbour, as here.
fn note(next_hop: NextHop) -> Vec<u8> {
    let mark = u32::from_be_bytes(*b"npgo").to_ne_bytes();
    let family = (next_hop.family as u32).to_ne_bytes();
    [&mark[..], &family, &next_hop.address].concat()
}

/// What the program must have answered. Of a dropped frame the bytes are nobody's.
fn expected(visit: &Visit, verdict: &Verdict, packet: &HostPacket, answer: &Answer) -> Answer {
    let reason = verdict.reason() as u32;
    let uplink = node::config().uplink_ifindex;
    let (tc, xdp, told) = match *verdict {
        Verdict::Pass(_) => (TCX_NEXT, XDP_PASS, [0, 1, reason, 0]),
        Verdict::Drop(_) => (TCX_DROP, XDP_DROP, [0, 2, reason, 0]),
        Verdict::Endpoint { ifindex } => (TCX_REDIRECT, XDP_PASS, [ifindex, 3, reason, 0]),
        Verdict::Wire { next_hop, .. } => (TCX_REDIRECT, XDP_PASS, [uplink, 4, reason, next_hop.address.word()]),
        Verdict::Kept(_) => (TCX_DROP, XDP_PASS, [0, 6, reason, 0]),
        Verdict::Bounce(_) => (TCX_REDIRECT, XDP_TX, [packet.ifindex(), 5, reason, 0]),
    };
    let dropped = matches!(verdict, Verdict::Drop(_));
    let frame = if dropped {
        answer.frame.clone()
    } else {
        packet.bytes.clone()
    };
    if visit.hook == Hook::FromWireXdp {
        let frame = match *verdict {
            Verdict::Wire { next_hop, .. } => [note(next_hop), frame].concat(),
            _ => frame,
        };
        Answer {
            code: xdp,
            told: None,
            frame,
        }
    } else {
        Answer {
            code: tc,
            told: Some(told),
            frame,
        }
    }
}

/// What packets leave behind in a family's tables, without the times.
#[derive(Debug, PartialEq, Eq)]
pub struct Remembered<A: Layouts> {
    connections: BTreeMap<A::Tuple, A::Connection>,
    affinities: BTreeMap<A::Client, A::Affinity>,
    fragments: BTreeMap<A::FragmentKey, Datagram>,
    held: BTreeMap<A::HeldKey, Vec<u8>>,
}

fn remembered<A: Layouts>(tables: &FamilyTables<A>) -> Remembered<A> {
    let timeless = |connection: A::Connection| -> A::Connection {
        let connection: Connection<A> = connection.into();
        Connection {
            last_seen: 0,
            ..connection
        }
        .into()
    };
    let ageless = |affinity: A::Affinity| -> A::Affinity {
        let affinity: Affinity<A> = affinity.into();
        Affinity {
            last_used: 0,
            ..affinity
        }
        .into()
    };
    let undated = |datagram: Datagram| Datagram { since: 0, ..datagram };
    let connections = tables.connections.iter();
    let affinities = tables.affinities.iter();
    Remembered {
        connections: connections.map(|(key, value)| (*key, timeless(*value))).collect(),
        affinities: affinities.map(|(key, value)| (*key, ageless(*value))).collect(),
        fragments: tables
            .fragments
            .iter()
            .map(|(key, value)| (*key, undated(*value)))
            .collect(),
        held: tables
            .held
            .iter()
            .map(|(key, (_, frame))| (*key, frame.clone()))
            .collect(),
    }
}

fn same<A: Layouts>(visit: &Visit, host: Remembered<A>, kernel: Remembered<A>) -> Result<()> {
    ensure!(host == kernel, "{visit:02x?}\nhost: {host:?}\nkernel: {kernel:?}");
    Ok(())
}

/// The programs' clock, in seconds.
fn clock() -> Result<u32> {
    Ok(clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)?.tv_sec() as u32)
}

/// Runs `test` in a namespace that has the scenarios' devices, under their numbers.
fn with_devices(test: impl FnOnce(&mut Pair) -> Result<()> + Send) -> Result<()> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("np-parity-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let namespace = Namespace::create(&name)?;
    let devices: [(u32, Mac); 5] = [
        (node::UPLINK, node::MAC_UPLINK),
        (node::BRIDGE, node::MAC_BRIDGE),
        (node::OVERLAY, node::MAC_OVERLAY),
        (node::PORT_A, [2, 0, 0, 1, 1, 2]),
        (node::PORT_B, [2, 0, 0, 1, 1, 3]),
    ];
    namespace.netlink(async move |handle| {
        for (index, mac) in devices {
            // The kind does not matter to a test run, only that there is such a device.
            let device = LinkMessageBuilder::<rtnetlink::LinkUnspec>::new_with_info_kind(InfoKind::Bridge)
                .name(format!("d{index}"))
                .index(index)
                .address(mac.to_vec())
                .build();
            handle.link().add(device).execute().await?;
        }
        Ok(())
    })?;
    namespace.run(|| {
        let mut pair = Pair::new()?;
        pair.reset()?;
        test(&mut pair)
    })
}
