//! A service is rolled, endpoint by endpoint, while its clients go on: the agent's own planner and maps, the loaded program, and
//! no pods. No packet goes to an endpoint once its end is in the maps, none finds nobody, and whoever reads a set of backends
//! finds it whole.

mod own;

use std::{
    collections::HashMap,
    iter,
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::programs::SchedClassifier;
use netpath_agent::{
    datapath::{load, maps::Table, pins::Pins, sizes::Sizes},
    model::Protocol,
};
use netpath_common::{
    abi::{
        bridge::Port,
        service::{
            BackendKey, Service,
            v4::{Backend, Frontend},
        },
    },
    hook::Hook,
    names,
    reason::Reason,
};
use netpath_tests::{
    entries,
    frame::{Frame, TcpFlags},
    lab::{home::Home, namespace::Namespace},
};
use rtnetlink::{LinkMessageBuilder, packet_route::link::InfoKind};

use self::own::Own;
use crate::parity::{TCX_REDIRECT, kernel::run_tc};

const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 80);
/// The first endpoint; the others follow it, on the other node.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 245, 0, 10);
const MAC_BRIDGE: [u8; 6] = [2, 0, 0, 0, 1, 1];
const UPLINK: u32 = 2;
const BRIDGE: u32 = 3;
const OVERLAY: u32 = 4;
/// The clients' devices. A connection of TCP is one of its own with each packet, and takes a port of its own.
const CLIENTS: u32 = 8;
const FIRST_CLIENT: u32 = 11;
const PORTS: u32 = 30_000;
/// How many packets go out at once, how many until the next endpoint's end, and how long who asks or reads rests meanwhile.
const BURST: u32 = 16;
const EACH: u32 = 200;
const REST: Duration = Duration::from_millis(1);

/// A thousand, each connection to them a new one.
#[test]
fn no_connection_meets_an_endpoint_whose_end_is_in_the_maps() -> Result<()> {
    roll(&Rolled {
        protocol: Protocol::Tcp,
        endpoints: 1_000,
        flows: CLIENTS * PORTS,
    })
}

/// Datagrams of few flows, which stay with an endpoint on its way out, but not beyond its end.
#[test]
fn no_datagram_meets_an_endpoint_whose_end_is_in_the_maps() -> Result<()> {
    roll(&Rolled {
        protocol: Protocol::Udp,
        endpoints: 100,
        flows: 64,
    })
}

/// The service that is rolled.
struct Rolled {
    protocol: Protocol,
    endpoints: u32,
    /// How many flows its clients have; the last is followed by the first again.
    flows: u32,
}

/// What the maps must hold by now, as those who ask them know it.
struct Course {
    /// The events whose outcome is in the maps.
    event: AtomicU32,
    /// Of each endpoint the first event that may, and the first that must show; none yet where that is the highest number.
    begins: Vec<AtomicU32>,
    ends: Vec<AtomicU32>,
    over: AtomicBool,
}

impl Course {
    fn new(endpoints: u32) -> Self {
        let never = || iter::repeat_with(|| AtomicU32::new(u32::MAX)).take(endpoints as usize);
        Self {
            event: AtomicU32::new(0),
            begins: never().collect(),
            ends: never().collect(),
            over: AtomicBool::new(false),
        }
    }

    /// Whether an endpoint may be found by someone who began to look after this event.
    fn may_be(&self, address: Ipv4Addr, after: u32) -> bool {
        let number = address.to_bits().wrapping_sub(FIRST.to_bits()) as usize;
        let Some((begin, end)) = self.begins.get(number).zip(self.ends.get(number)) else {
            return false;
        };
        begin.load(SeqCst) != u32::MAX && end.load(SeqCst) > after
    }
}

/// Ends the others' work, however its owner ends.
struct Over<'a>(&'a Course);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, SeqCst);
    }
}

fn roll(rolled: &Rolled) -> Result<()> {
    let home = Home::unique()?;
    let namespace = Namespace::create(&home.namespace("roll"))?;
    let devices = [UPLINK, BRIDGE, OVERLAY].into_iter().chain(clients());
    namespace.netlink(async move |handle| {
        for index in devices {
            // The kind does not matter to a test run, only that there is such a device.
            let device = LinkMessageBuilder::<rtnetlink::LinkUnspec>::new_with_info_kind(InfoKind::Bridge);
            let device = device.name(format!("d{index}")).index(index).build();
            handle.link().add(device).execute().await?;
        }
        Ok(())
    })?;
    let pins = Pins::new(home.bpf_root().join("roll"));
    load::load(&pins, &Sizes::default())?;
    let mut ports = Table::<u32, Port>::open(&pins, names::BRIDGE)?;
    for index in clients() {
        ports.insert(&index, &client(index))?;
    }
    let mut own = Own::begin(&pins, rolled)?;
    namespace.run(|| {
        let course = Course::new(rolled.endpoints * 2);
        own.start(&course)?;
        thread::scope(|scope| {
            let over = Over(&course);
            let asking = scope.spawn(|| ask(&pins, rolled, &course));
            let reading = scope.spawn(|| read(&pins, rolled, &course));
            let rolled = own.roll(&course);
            drop(over);
            let packets = join(asking)?;
            let sets = join(reading)?;
            let mut times = rolled?;
            times.sort_unstable();
            let (middle, most) = (times[times.len() / 2], times[times.len() - 1]);
            eprintln!(
                "{} events, in the maps after {middle:?}, {most:?} at most; {packets} packets, {sets} sets read meanwhile",
                times.len()
            );
            Ok(())
        })
    })
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread panicked"))?
}

fn clients() -> impl Iterator<Item = u32> + Clone {
    FIRST_CLIENT..FIRST_CLIENT + CLIENTS
}

/// The pod behind a device.
fn client(index: u32) -> Port {
    Port {
        mac: [2, 0, 0, 0, 2, index as u8],
        reserved: [0; 2],
        address4: [10, 244, 1, index as u8],
        address6: [0; 16],
    }
}

/// The clients: packets of ever new connections, or datagrams of the same flows, until all is over. How many.
fn ask(pins: &Pins, rolled: &Rolled, course: &Course) -> Result<u32> {
    let mut program = SchedClassifier::from_pin(pins.program(Hook::FromPod)).context("the program is not pinned")?;
    let mut packets = 0;
    while !course.over.load(SeqCst) {
        thread::sleep(REST);
        if packets > EACH * (course.event.load(SeqCst) + 1) {
            continue;
        }
        for _ in 0..BURST {
            let flow = packets % rolled.flows;
            let index = FIRST_CLIENT + flow % CLIENTS;
            let Port { mac, address4, .. } = client(index);
            let (from, to) = ((address4, 1_024 + (flow / CLIENTS) as u16), (SERVICE.octets(), 80));
            let frame = Frame::new(mac, MAC_BRIDGE);
            let frame = match rolled.protocol {
                Protocol::Udp => frame.udp(from, to, b"x")?,
                _ => frame.tcp(from, to, TcpFlags::SYN, &[])?,
            };
            let after = course.event.load(SeqCst);
            let answer = run_tc(&mut program, &frame, index, 0)?;
            let went = answer.told.map(|told| (told[1], told[2]));
            ensure!(
                (answer.code, went) == (TCX_REDIRECT, Some((4, Reason::ToPeer as u32))),
                "packet {packets} found nobody: {answer:02x?}"
            );
            let destination = answer.frame.get(30..34).and_then(|bytes| bytes.first_chunk::<4>());
            let destination = Ipv4Addr::from(*destination.context("a frame without addresses")?);
            ensure!(
                course.may_be(destination, after),
                "packet {packets} met {destination}, whose end was in the maps, at event {after}"
            );
            packets += 1;
        }
    }
    // A port of TCP that comes again would find a connection.
    ensure!(
        rolled.protocol == Protocol::Udp || packets <= rolled.flows,
        "{packets} packets"
    );
    ensure!(packets > rolled.endpoints, "{packets} packets");
    Ok(packets)
}

/// Reads the frontend's set again and again, as programs may: one that the frontend still names afterwards was whole, and none ever
/// changes. How many sets there were.
fn read(pins: &Pins, rolled: &Rolled, course: &Course) -> Result<usize> {
    let services = Table::<Frontend, Service>::open(pins, names::SERVICE4)?;
    let backends = Table::<BackendKey, Backend>::open(pins, names::BACKEND4)?;
    let frontend = entries::frontend(SERVICE.octets(), 80, rolled.protocol.number());
    let named = || services.get(&frontend)?.context("the frontend is gone");
    let mut known: HashMap<BackendKey, Backend> = HashMap::new();
    let mut sets = 0;
    while !course.over.load(SeqCst) {
        thread::sleep(REST);
        let after = course.event.load(SeqCst);
        let service = named()?;
        let keys = (0..service.count).map(|slot| BackendKey { set: service.set, slot });
        let found: Vec<_> = keys.map(|key| Ok((key, backends.get(&key)?))).collect::<Result<_>>()?;
        let is_named = named()? == service;
        for (key, backend) in found {
            let Some(backend) = backend else {
                ensure!(!is_named, "{key:?} of {} is missing", service.count);
                continue;
            };
            let before = *known.entry(key).or_insert(backend);
            ensure!(before == backend, "{key:?} was {before:?} and is {backend:?}");
            ensure!(
                course.may_be(backend.address.into(), after),
                "{key:?} is {backend:?} at event {after}"
            );
        }
        let sizes = rolled.endpoints - 1..=rolled.endpoints + 1;
        ensure!(sizes.contains(&service.count), "a set of {}", service.count);
        sets += 1;
    }
    Ok(sets)
}
