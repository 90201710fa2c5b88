//! Random frames of addresses and ports that the tables know, so that they go deep; some are answers to what left before,
//! some are broken on the way.

use std::cell::{Cell, RefCell};

use anyhow::{Result, anyhow};
use netpath_common::{abi::Mac, hook::Hook};
use netpath_tests::{
    frame::{Frame, Socket, TcpFlags},
    sctp::{self, chunk},
};
use proptest::{
    prelude::{Just, Strategy, any, prop_oneof},
    sample::select,
    test_runner::{Config, TestCaseError, TestRunner},
};

use super::{Pair, Visit, with_devices};
use crate::logic::node::{
    At, BALANCED, BRIDGE, CLIENT, DATABASE, DIAMETER, EMPTY, FAR, GATEWAY, LONE, MAC_A, MAC_B, MAC_BRIDGE, MAC_ROUTER,
    MAC_UPLINK, NODE, OVERLAY, PEER, POD_A, POD_B, POD_FAR, POD_LONE, POD_PEER, PORT_A, PORT_B, ROUTER, SELF, SIGNAL,
    SPREAD, SPREAD_PORT, STICKY, UNKNOWN, UPLINK, VNI, WEB,
};

/// What is carried.
#[derive(Clone, Debug)]
enum Load {
    Tcp(u8),
    /// By the type of its first chunk.
    Sctp(u8),
    SctpWithoutChecksum,
    Udp,
    UdpWithoutChecksum,
    Echo,
    EchoReply,
    Error(u8),
    Fragment(u16, bool),
    SctpFragment(u16, bool),
    /// UDP behind options for the destination; IPv6 alone has them.
    Optional,
    Other(u8),
}

/// A frame to be.
#[derive(Clone, Debug)]
struct Plan {
    place: (Hook, u32, Mac, Mac),
    ipv6: bool,
    source: Socket,
    destination: Socket,
    load: Load,
    ttl: u8,
    dont_fragment: bool,
    payload: usize,
    gso_size: usize,
    /// The sender, whether over IPv6, and the network.
    tunnel: Option<([u8; 4], bool, u32)>,
    answers: bool,
    damage: Option<(usize, u8)>,
    cut: Option<usize>,
}

fn places() -> impl Strategy<Value = (Hook, u32, Mac, Mac)> {
    select(vec![
        (Hook::FromPod, PORT_A, MAC_A, MAC_BRIDGE),
        (Hook::FromPod, PORT_A, MAC_A, MAC_B),
        (Hook::FromPod, PORT_B, MAC_B, MAC_BRIDGE),
        (Hook::FromPod, PORT_B, MAC_A, MAC_BRIDGE),
        (Hook::FromWire, UPLINK, MAC_ROUTER, MAC_UPLINK),
        (Hook::FromWire, UPLINK, MAC_ROUTER, MAC_UPLINK),
        (Hook::FromWire, UPLINK, MAC_ROUTER, MAC_A),
        (Hook::FromWireXdp, UPLINK, MAC_ROUTER, MAC_UPLINK),
        (Hook::FromHost, BRIDGE, MAC_BRIDGE, MAC_A),
        (Hook::ToWire, UPLINK, MAC_UPLINK, MAC_ROUTER),
        (Hook::FromOverlay, OVERLAY, MAC_UPLINK, MAC_BRIDGE),
    ])
}

fn sockets() -> impl Strategy<Value = Socket> {
    let address = select(vec![
        POD_A,
        POD_A,
        POD_B,
        POD_B,
        POD_PEER,
        POD_FAR,
        POD_LONE,
        NODE,
        GATEWAY,
        PEER,
        FAR,
        LONE,
        ROUTER,
        CLIENT,
        WEB,
        DATABASE,
        EMPTY,
        SELF,
        STICKY,
        BALANCED,
        BALANCED,
        SPREAD.0,
        SPREAD.0,
        UNKNOWN,
        [10, 244, 1, 99],
    ]);
    let port = prop_oneof![
        6 => select(vec![
            80, 8080, 53, 5353, 5432, 30_080, 30_054, 30_081, 30_082, 30_083, 4789, 40_000, SIGNAL, SIGNAL, DIAMETER, 30_084,
            30_085, SPREAD_PORT, SPREAD_PORT,
        ]),
        1 => 50_000u16..50_010,
        1 => any::<u16>(),
    ];
    (address, port)
}

fn loads() -> impl Strategy<Value = Load> {
    prop_oneof![
        4 => select(vec![0x02, 0x12, 0x10, 0x11, 0x04]).prop_map(Load::Tcp),
        3 => select(vec![0, 1, 1, 2, 4, 6, 7, 8, 14, 15, 16, 0xc1]).prop_map(Load::Sctp),
        1 => Just(Load::SctpWithoutChecksum),
        2 => Just(Load::Udp),
        1 => Just(Load::UdpWithoutChecksum),
        1 => Just(Load::Echo),
        1 => Just(Load::EchoReply),
        2 => select(vec![6, 17, 1, 58, 132]).prop_map(Load::Error),
        1 => (0u16..3, any::<bool>()).prop_map(|(offset, more)| Load::Fragment(offset, more)),
        1 => (0u16..3, any::<bool>()).prop_map(|(offset, more)| Load::SctpFragment(offset, more)),
        1 => Just(Load::Optional),
        1 => select(vec![2, 43, 44, 47, 50, 60, 132]).prop_map(Load::Other),
    ]
}

fn plans() -> impl Strategy<Value = Plan> {
    let rest = (
        select(vec![64, 64, 64, 2, 1, 0]),
        any::<bool>(),
        select(vec![0, 1, 7, 8, 33, 600, 1397, 1452, 1500, 3000]),
        select(vec![0, 0, 0, 0, 1300, 1460, 0xffff]),
        prop_oneof![
            3 => Just(None),
            1 => (select(vec![FAR, PEER, CLIENT, LONE]), any::<bool>(), select(vec![VNI, VNI, 5])).prop_map(Some),
        ],
    );
    let spoilt = (
        any::<bool>(),
        prop_oneof![9 => Just(None), 1 => (12usize..150, any::<u8>()).prop_map(Some)],
        prop_oneof![9 => Just(None), 1 => (34usize..170).prop_map(Some)],
    );
    (places(), any::<bool>(), sockets(), sockets(), loads(), rest, spoilt).prop_map(
        |(
            place,
            ipv6,
            source,
            destination,
            load,
            (ttl, dont_fragment, payload, gso_size, tunnel),
            (answers, damage, cut),
        )| {
            Plan {
                place,
                ipv6,
                source,
                destination,
                load,
                ttl,
                dont_fragment,
                payload,
                gso_size,
                tunnel,
                answers,
                damage,
                cut,
            }
        },
    )
}

/// The fragments of one datagram, in any order, some of them missing or twice.
fn datagrams() -> impl Strategy<Value = Vec<Plan>> {
    let destination = select(vec![DATABASE, WEB, NODE, NODE, CLIENT, BALANCED, POD_B, POD_FAR]);
    let part = (0u16..4, any::<bool>(), select(vec![0, 1, 8, 600, 1452, 3000]));
    (plans(), destination, proptest::collection::vec(part, 2..7)).prop_map(|(plan, destination, parts)| {
        let of = |(offset, more, payload)| Plan {
            destination: (destination, 53),
            load: Load::Fragment(offset, more),
            payload,
            answers: false,
            damage: None,
            cut: None,
            ..plan.clone()
        };
        parts.into_iter().map(of).collect()
    })
}

impl Plan {
    /// The frame; `before` is what left last.
    fn visit(&self, before: &[u8]) -> Result<Visit> {
        let (hook, ifindex, from, to) = self.place;
        let mut frame = match answer(before, from, to) {
            Some(answer) if self.answers => answer,
            _ if self.ipv6 => self.frame::<[u8; 16]>(from, to)?,
            _ => self.frame::<[u8; 4]>(from, to)?,
        };
        if let (Some((sender, over_ipv6, vni)), Hook::FromWire | Hook::FromWireXdp) = (self.tunnel, hook) {
            frame = match over_ipv6 {
                true => tunnelled::<[u8; 16]>(Frame::new(from, to), sender, vni, &frame)?,
                false => tunnelled::<[u8; 4]>(Frame::new(from, to), sender, vni, &frame)?,
            };
        }
        if let Some((at, value)) = self.damage
            && let Some(byte) = frame.get_mut(at)
        {
            *byte = value;
        }
        // The kernel takes no shorter packet for a test run.
        let least = if frame.get(12..14) == Some(&[0x86, 0xdd]) {
            54
        } else {
            34
        };
        frame.truncate(self.cut.map_or(usize::MAX, |cut| cut.max(least)));
        // XDP knows no segments to be, and in a test run the kernel takes no headers off them. An answer may be tunnelled too.
        let is_vxlan = |at: usize| frame.get(at..at + 2) == Some(&4789u16.to_be_bytes());
        let whole = hook == Hook::FromWireXdp || is_vxlan(36) || is_vxlan(56);
        let gso_size = if whole { 0 } else { self.gso_size };
        Ok(Visit {
            hook,
            ifindex,
            frame,
            gso_size,
        })
    }

    fn frame<A: Drawn>(&self, from: Mac, to: Mac) -> Result<Vec<u8>> {
        let mut frame = Frame::new(from, to).ttl(self.ttl);
        if !self.dont_fragment {
            frame = frame.may_fragment();
        }
        let of = |(address, port): Socket| (A::at(address), port);
        let (source, destination) = (of(self.source), of(self.destination));
        let payload = &vec![0xa5; self.payload][..];
        match self.load {
            Load::Tcp(flags) => {
                let flags = TcpFlags {
                    syn: flags & 2 != 0,
                    ack: flags & 16 != 0,
                    fin: flags & 1 != 0,
                    rst: flags & 4 != 0,
                };
                frame.tcp(source, destination, flags, payload)
            }
            Load::Sctp(kind) => Ok(frame.sctp(source, destination, &chunk(kind, payload))),
            Load::SctpWithoutChecksum => {
                Ok(frame.sctp_without_checksum(source, destination, &chunk(sctp::DATA, payload)))
            }
            Load::Udp => frame.udp(source, destination, payload),
            Load::UdpWithoutChecksum => frame.udp_without_checksum(source, destination, payload),
            Load::Echo => Ok(frame.echo(source.0, destination.0, source.1, payload)),
            Load::EchoReply => Ok(frame.echo_reply(source.0, destination.0, source.1, payload)),
            // An error about a packet that the receiver sent, or seems to have.
            Load::Error(protocol) => {
                let ports = [
                    destination.1.to_be_bytes(),
                    source.1.to_be_bytes(),
                    [0, 16],
                    [0x12, 0x34],
                ]
                .concat();
                let quote = A::packet(&Frame::new(from, to), destination.0, source.0, protocol, &ports);
                Ok(frame.icmp(source.0, destination.0, A::expired(), &quote[14..]))
            }
            Load::Fragment(offset, more) => {
                let frame = frame.fragment(7, offset, more || offset == 0);
                frame.udp(source, destination, payload)
            }
            Load::SctpFragment(offset, more) => {
                let frame = frame.fragment(7, offset, more || offset == 0);
                Ok(frame.sctp(source, destination, &chunk(sctp::DATA, payload)))
            }
            Load::Optional => A::behind_options(&frame, source, destination, payload),
            Load::Other(protocol) => Ok(A::packet(&frame, source.0, destination.0, protocol, payload)),
        }
    }
}

/// A frame in a tunnel to the node.
fn tunnelled<A: At>(outer: Frame, sender: [u8; 4], vni: u32, inner: &[u8]) -> Result<Vec<u8>> {
    outer.vxlan((A::at(sender), 51_000), (A::at(NODE), 4789), vni, inner)
}

/// A family whose frames are drawn.
trait Drawn: At {
    /// A datagram behind options for the destination, where there are such.
    fn behind_options(
        frame: &Frame,
        source: Socket<Self>,
        destination: Socket<Self>,
        payload: &[u8],
    ) -> Result<Vec<u8>>;
}

impl Drawn for [u8; 4] {
    fn behind_options(frame: &Frame, source: Socket, destination: Socket, payload: &[u8]) -> Result<Vec<u8>> {
        frame.udp(source, destination, payload)
    }
}

impl Drawn for [u8; 16] {
    fn behind_options(
        frame: &Frame,
        source: Socket<Self>,
        destination: Socket<Self>,
        payload: &[u8],
    ) -> Result<Vec<u8>> {
        let udp = frame.udp(source, destination, payload)?;
        let options = [17, 0, 1, 4, 0, 0, 0, 0];
        Ok(frame.ipv6_behind(source.0, destination.0, 60, &options, &udp[54..]))
    }
}

/// The frame that its receiver would send back: addresses and ports are exchanged, which changes no checksum but SCTP's, and
/// nobody here looks whether that is right.
fn answer(frame: &[u8], from: Mac, to: Mac) -> Option<Vec<u8>> {
    let mut answer = frame.to_vec();
    let (addresses, protocol, ports) = match answer.get(12..15)? {
        [0x08, 0x00, 0x45] => (26..34, 23, 34..38),
        [0x86, 0xdd, _] => (22..54, 20, 54..58),
        _ => return None,
    };
    if answer.len() < ports.end {
        return None;
    }
    answer[..6].copy_from_slice(&to);
    answer[6..12].copy_from_slice(&from);
    let addresses = &mut answer[addresses];
    let (source, destination) = addresses.split_at_mut(addresses.len() / 2);
    source.swap_with_slice(destination);
    if matches!(answer[protocol], 6 | 17 | 132) {
        let (source, destination) = answer[ports].split_at_mut(2);
        source.swap_with_slice(destination);
    }
    Some(answer)
}

fn play(pair: &mut Pair, plans: &[Plan]) -> Result<()> {
    pair.reset()?;
    let mut before = Vec::new();
    for plan in plans {
        before = pair.visit(&plan.visit(&before)?)?;
    }
    pair.counted()
}

#[test]
fn random_frames() -> Result<()> {
    with_devices(|pair| {
        let count = std::env::var("NETPATH_PARITY_CASES")
            .ok()
            .and_then(|count| count.parse().ok())
            .unwrap_or(256);
        let mut runner = TestRunner::new(Config {
            cases: count,
            failure_persistence: None,
            ..Config::default()
        });
        let pair = RefCell::new(pair);
        let frames = Cell::new(0);
        let cases = prop_oneof![3 => proptest::collection::vec(plans(), 1..6), 1 => datagrams()];
        runner
            .run(&cases, |plans| {
                frames.set(frames.get() + plans.len());
                play(&mut pair.borrow_mut(), &plans).map_err(|error| TestCaseError::fail(format!("{error:#}")))
            })
            .map_err(|error| anyhow!("{error}"))?;
        eprintln!("{} frames in {count} cases", frames.get());
        Ok(())
    })
}
