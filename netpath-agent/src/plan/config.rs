//! `np_config`: the node as the programs see it.

use std::{collections::BTreeMap, net::Ipv4Addr};

use netpath_common::abi::{
    ABI_VERSION,
    config::Config,
    route::v4::{Route, RouteKey},
};

use super::{NodeFacts, routes};

/// What VXLAN adds to an IP packet: outer IPv4 20, UDP 8, VXLAN 8 and the inner Ethernet header 14 bytes (RFC 7348).
pub const OVERLAY_OVERHEAD: u16 = 50;

/// The entry.
pub(super) fn config(
    facts: &NodeFacts,
    node: Ipv4Addr,
    gateway: Ipv4Addr,
    routes: &BTreeMap<RouteKey, Route>,
) -> Config {
    let uplink_mtu = u16::try_from(facts.uplink.mtu).unwrap_or(u16::MAX);
    Config {
        abi_version: ABI_VERSION,
        hash_seed: facts.hash_seed,
        netns_cookie: facts.netns_cookie,
        uplink_ifindex: facts.uplink.device.ifindex,
        overlay_ifindex: facts.overlay.ifindex,
        bridge_ifindex: facts.bridge.ifindex,
        vni: facts.vni,
        vxlan_port: facts.vxlan_port,
        uplink_mtu,
        pod_mtu: uplink_mtu.saturating_sub(OVERLAY_OVERHEAD),
        nat_port_min: *facts.nat_ports.start(),
        nat_port_max: *facts.nat_ports.end(),
        uplink_mac: facts.uplink.device.mac,
        bridge_mac: facts.bridge.mac,
        overlay_mac: facts.overlay.mac,
        node4: node.octets(),
        gateway4: gateway.octets(),
        route_prefixes4: routes::prefix_lengths(routes),
        ..Config::default()
    }
}
