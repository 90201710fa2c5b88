//! The entries of `np_endpoint4` and `np_endpoint6` that stand for the node itself: all addresses that its stack has, and the
//! gateway of each of its pod subnets.

use std::collections::{BTreeMap, BTreeSet};

use netpath_common::abi::endpoint::{Endpoint, KIND_HOST};

use super::{NodeFacts, judge::service_range, nodes::Placed, occupied::Occupied};
use crate::family::Family;

/// The addresses by which others know the node: those of its object and those of its uplink.
pub(super) fn own_addresses<F: Family>(own: &Placed<F>, facts: &NodeFacts) -> BTreeSet<F::Address> {
    let on_uplink = facts.uplink.addresses.iter();
    let on_uplink = on_uplink.filter_map(|address| F::address(address.addr()));
    own.addresses.iter().copied().chain(on_uplink).collect()
}

/// Those, and any other that the node's stack has, on whatever device: a cache of DNS on a link-local address, a load
/// balancer's address on loopback, one of a second card. Not those that a service or a pod may have: somebody else's leftovers
/// may hold them.
pub(super) fn local_addresses<F: Family>(
    mut own: BTreeSet<F::Address>,
    taken: &Occupied<F>,
    facts: &NodeFacts,
) -> BTreeSet<F::Address> {
    let local = facts
        .local_routes
        .iter()
        .filter(|range| range.prefix_len() == range.max_prefix_len());
    let local = local.filter(|range| service_range(range.addr(), facts).is_none() && !range.addr().is_loopback());
    let local = local.filter_map(|range| F::address(range.addr()));
    own.extend(local.filter(|address| taken.by_pods(*address).is_none()));
    own
}

/// The entries, of all addresses that the node's stack has.
pub(super) fn endpoints<F: Family>(
    own: &Placed<F>,
    local: &BTreeSet<F::Address>,
    facts: &NodeFacts,
) -> BTreeMap<F, Endpoint> {
    let host = Endpoint {
        ifindex: 0,
        mac: facts.bridge.mac,
        kind: KIND_HOST,
    };
    let gateways = own.subnets.iter().copied().filter_map(F::gateway);
    local
        .iter()
        .copied()
        .chain(gateways)
        .map(|address| (F::octets(address), host))
        .collect()
}
