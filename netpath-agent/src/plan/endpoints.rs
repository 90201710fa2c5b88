//! The entries of `np_endpoint4` and `np_endpoint6` that stand for the node itself: its own addresses, and the gateway of
//! each of its pod subnets.

use std::collections::{BTreeMap, BTreeSet};

use netpath_common::abi::endpoint::{Endpoint, KIND_HOST};

use super::{NodeFacts, nodes::Placed};
use crate::family::Family;

/// The node's own addresses: those of its object and those of its uplink.
pub(super) fn own_addresses<F: Family>(own: &Placed<F>, facts: &NodeFacts) -> BTreeSet<F::Address> {
    let on_uplink = facts.uplink.addresses.iter();
    let on_uplink = on_uplink.filter_map(|address| F::address(address.addr()));
    own.addresses.iter().copied().chain(on_uplink).collect()
}

/// The entries.
pub(super) fn endpoints<F: Family>(own: &Placed<F>, facts: &NodeFacts) -> BTreeMap<F, Endpoint> {
    let host = Endpoint {
        ifindex: 0,
        mac: facts.bridge.mac,
        kind: KIND_HOST,
    };
    let gateways = own.subnets.iter().copied().filter_map(F::gateway);
    own_addresses(own, facts)
        .into_iter()
        .chain(gateways)
        .map(|address| (F::octets(address), host))
        .collect()
}
