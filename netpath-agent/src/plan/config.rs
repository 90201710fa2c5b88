//! `np_config`: the node as the programs see it.

use netpath_common::abi::{ABI_VERSION, config::Config};

use super::{NodeFacts, ends::Ends, part::Part, routes};
use crate::family::{Family, V4, V6};

/// The entry.
pub(super) fn config(
    facts: &NodeFacts,
    own: &Ends,
    pod_mtu: u16,
    (v4, v6): (Option<&Part<V4>>, Option<&Part<V6>>),
) -> Config {
    let mut config = Config {
        abi_version: ABI_VERSION,
        hash_seed: facts.hash_seed,
        netns_cookie: facts.netns_cookie,
        uplink_ifindex: facts.uplink.device.ifindex,
        overlay_ifindex: facts.overlay.ifindex,
        bridge_ifindex: facts.bridge.ifindex,
        vni: facts.vni,
        vxlan_port: facts.vxlan_port,
        uplink_mtu: facts.uplink_mtu(),
        pod_mtu,
        nat_port_min: *facts.nat_ports.start(),
        nat_port_max: *facts.nat_ports.end(),
        uplink_mac: facts.uplink.device.mac,
        bridge_mac: facts.bridge.mac,
        overlay_mac: facts.overlay.mac,
        outside_seed: facts.maglev_seed.unwrap_or_default(),
        direct_return: facts.relays().into(),
        ..Config::default()
    };
    configure(&mut config, own.v4, v4);
    configure(&mut config, own.v6, v6);
    config
}

/// Of a family without pods here only the node's address is told: tunnels begin and end there.
fn configure<F: Family>(config: &mut Config, node: Option<F::Address>, part: Option<&Part<F>>) {
    let node = node.map(F::octets).unwrap_or_default();
    let gateway = part.map(|part| F::octets(part.gateway)).unwrap_or_default();
    let prefixes = part
        .map(|part| routes::prefix_lengths::<F>(&part.routes))
        .unwrap_or_default();
    F::configure(config, node, gateway, prefixes);
}
