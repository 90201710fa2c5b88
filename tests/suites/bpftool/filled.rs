//! One entry in every map, each of its fields with a value of its own.

use anyhow::Result;
use aya::{
    maps::{Map, MapData, PerCpuArray, PerCpuValues},
    util::nr_cpus,
};
use netpath_agent::datapath::{abi::Abi, maps::Table, pins::Pins, tables};
use netpath_common::{
    abi::{
        Layouts,
        affinity::{Affinity, Client},
        bridge::Port,
        config::Config,
        conntrack::{Connection, Tuple},
        counter::{self, Counter},
        endpoint::Endpoint,
        fragment::{Datagram, FragmentKey},
        held::{FRAME, Held, HeldKey},
        maglev::{MaglevBlock, MaglevKey},
        route::{Route, RouteKey},
        service::{Backend, BackendKey, Frontend, Service},
        socket::{SocketKey, SocketPeer},
        source::SourceKey,
    },
    hook::Hook,
    names,
    reason::Reason,
};

/// Writes them.
pub fn fill(pins: &Pins) -> Result<()> {
    tables::config(pins)?.set(&Config {
        abi_version: 1,
        hash_seed: 2,
        netns_cookie: 6,
        uplink_ifindex: 3,
        overlay_ifindex: 4,
        bridge_ifindex: 5,
        vni: 78,
        vxlan_port: 4789,
        uplink_mtu: 1500,
        pod_mtu: 1450,
        nat_port_min: 49_152,
        nat_port_max: 65_535,
        uplink_mac: [2, 0, 0, 0, 0, 1],
        bridge_mac: [2, 0, 0, 0, 0, 2],
        overlay_mac: [2, 0, 0, 0, 0, 3],
        node4: [10, 0, 1, 1],
        gateway4: [10, 244, 1, 1],
        node6: ipv6(1),
        gateway6: ipv6(2),
        route_prefixes4: [24, 32, 12, 0],
        route_prefixes6: [64, 128, 112, 0],
        outside_seed: 9,
        direct_return: 1,
        reserved: [0; 7],
    })?;
    let port = Port {
        mac: [2, 0, 0, 0, 0, 4],
        reserved: [0; 2],
        address4: [10, 244, 1, 2],
        address6: ipv6(3),
    };
    tables::bridge(pins)?.insert(&7, &port)?;
    fill_family::<[u8; 4]>(pins)?;
    fill_family::<[u8; 16]>(pins)?;
    let counters = Map::from_map_data(MapData::from_pin(pins.map(names::COUNTER))?)?;
    let mut counters: PerCpuArray<MapData, Abi<Counter>> = PerCpuArray::try_from(counters)?;
    let cpus = nr_cpus().map_err(|(what, error)| anyhow::anyhow!("{what}: {error}"))?;
    let values = (0..cpus).map(|cpu| Abi(counted(cpu)));
    counters.set(counter_index(), PerCpuValues::try_from(values.collect::<Vec<_>>())?, 0)?;
    Ok(())
}

/// The same of a family's maps.
fn fill_family<A: Layouts>(pins: &Pins) -> Result<()> {
    let endpoint = Endpoint {
        ifindex: 7,
        mac: [2, 0, 0, 0, 0, 4],
        kind: 1,
    };
    tables::endpoints::<A>(pins)?.insert(&address(1), &endpoint)?;
    let subnet = RouteKey {
        address: address(31),
        prefix_len: 24,
    };
    let route = Route {
        node: address(61),
        next_hop: address(91),
        via: 2,
        reserved: [0; 3],
    };
    tables::routes::<A>(pins)?.insert(&subnet.into(), &route.into())?;
    let frontend = Frontend {
        address: address(121),
        port: 80,
        protocol: 6,
        reserved: 0,
    };
    let service = Service {
        set: 9,
        count: 2,
        outside_set: 10,
        outside_count: 1,
        affinity: 77,
        affinity_timeout: 10_800,
        sources: 55,
        flags: 1,
        maglev: 8,
        reserved: 0,
    };
    tables::services::<A>(pins)?.insert(&frontend.into(), &service)?;
    let backend = Backend {
        address: address(1),
        port: 8080,
        reserved: [0; 2],
    };
    tables::backends::<A>(pins)?.insert(&BackendKey { set: 9, slot: 1 }, &backend.into())?;
    let block = MaglevBlock {
        slots: std::array::from_fn(|place| place as u16),
    };
    tables::maglev::<A>(pins)?.insert(&MaglevKey { set: 10, block: 3 }, &block)?;
    let client = Client {
        address: address(1),
        affinity: 77,
    };
    let affinity = Affinity {
        address: address(151),
        port: 8080,
        reserved: [0; 2],
        last_used: 12_345,
    };
    tables::affinities::<A>(pins)?.insert(&client.into(), &affinity.into())?;
    let source = SourceKey {
        prefix_len: 56,
        sources: 55,
        address: address(181),
    };
    tables::sources::<A>(pins)?.insert(&source.into(), &1)?;
    let tuple = Tuple {
        source: address(1),
        destination: address(121),
        source_port: 40_000,
        destination_port: 80,
        protocol: 6,
        reserved: [0; 3],
    };
    let connection = Connection {
        source: address(211),
        destination: address(151),
        source_port: 49_152,
        destination_port: 8080,
        state: 1,
        direction: 1,
        ttl: 63,
        reserved: 0,
        last_seen: 12_345,
        set: 9,
    };
    tables::connections::<A>(pins)?.insert(&tuple.into(), &connection.into())?;
    let datagram = FragmentKey {
        source: address(1),
        destination: address(121),
        identification: 4660,
        protocol: 17,
        reserved: [0; 3],
    };
    let known = Datagram {
        held: 3,
        since: 12_345,
        source_port: 40_000,
        destination_port: 53,
        state: 2,
        reserved: [0; 7],
    };
    Table::<A::FragmentKey, Datagram>::open(pins, A::NAMES.fragment)?.insert(&datagram.into(), &known)?;
    let place = HeldKey {
        source: address(1),
        destination: address(121),
        identification: 4660,
        protocol: 17,
        place: 5,
        reserved: [0; 2],
    };
    let held = Held {
        since: 12_345,
        len: 42,
        frame: [7; FRAME],
    };
    Table::<A::HeldKey, Held>::open(pins, A::NAMES.held)?.insert(&place.into(), &held)?;
    let socket = SocketKey {
        cookie: [4097, 1],
        address: address(121),
        port: 53,
        direction: 1,
        reserved: 0,
    };
    let peer = SocketPeer {
        address: address(151),
        port: 5353,
        reserved: [0; 2],
        set: 9,
    };
    tables::sockets::<A>(pins)?.insert(&socket.into(), &peer.into())?;
    Ok(())
}

/// An address whose bytes count up from `first`: they show their order.
fn address<A: Layouts>(first: u8) -> A {
    let mut address = A::default();
    let bytes = bytemuck::bytes_of_mut(&mut address).iter_mut();
    bytes.zip(first..).for_each(|(byte, value)| *byte = value);
    address
}

/// The address fd00::`last`.
fn ipv6(last: u8) -> [u8; 16] {
    let mut address = [0; 16];
    (address[0], address[15]) = (0xfd, last);
    address
}

fn counter_index() -> u32 {
    counter::index(Hook::FromPod, Reason::ToEndpoint)
}

/// What a processor is made to have counted.
fn counted(cpu: usize) -> Counter {
    Counter {
        packets: 3 + cpu as u64,
        bytes: 1000 + cpu as u64,
    }
}
