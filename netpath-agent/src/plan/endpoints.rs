//! The entries of `np_endpoint4` that stand for the node itself: its own addresses, and the gateway of each of its pod
//! subnets.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use netpath_common::abi::endpoint::{Endpoint, KIND_HOST};

use super::{NodeFacts, gateway, nodes::Placed};

/// The node's own addresses: those of its object and those of its uplink.
pub(super) fn own_addresses(own: &Placed<'_>, facts: &NodeFacts) -> BTreeSet<Ipv4Addr> {
    let on_uplink = facts
        .uplink
        .addresses
        .iter()
        .filter_map(|address| match address.addr() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
    own.addresses.iter().copied().chain(on_uplink).collect()
}

/// The entries.
pub(super) fn endpoints(own: &Placed<'_>, facts: &NodeFacts) -> BTreeMap<[u8; 4], Endpoint> {
    let host = Endpoint {
        ifindex: 0,
        mac: facts.bridge.mac,
        kind: KIND_HOST,
    };
    let gateways = own.subnets.iter().copied().filter_map(gateway);
    own_addresses(own, facts)
        .into_iter()
        .chain(gateways)
        .map(|address| (address.octets(), host))
        .collect()
}
