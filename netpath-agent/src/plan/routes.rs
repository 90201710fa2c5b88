//! `np_route4` and `np_route6`: a node on the uplink's segment is direct, any other is behind a tunnel.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use netpath_common::abi::{
    config::ROUTE_PREFIXES,
    route::{Route, RouteKey, VIA_DIRECT, VIA_LOCAL, VIA_SERVICE, VIA_TUNNEL},
};

use super::{
    NodeFacts,
    ends::{Ends, Tunnel},
    nodes::Placed,
};
use crate::{
    family::Family,
    model::{POD_CIDRS, Problem},
};

/// The routes. Takes from the nodes those subnets that find no place among them, or that nothing leads to.
pub(super) fn routes<F: Family>(
    own: &mut Placed<F>,
    others: &mut [Placed<F>],
    node: &Ends,
    facts: &NodeFacts,
    problems: &mut Vec<Problem>,
) -> BTreeMap<F::RouteKey, F::Route> {
    let mut table = Table::<F>::default();
    let local = Route {
        node: own.addresses.first().copied().map(F::octets).unwrap_or_default(),
        via: VIA_LOCAL,
        ..Route::default()
    };
    table.insert_all(own, local.into(), problems);
    let nobody = Route {
        via: VIA_SERVICE,
        ..Route::default()
    };
    for range in facts.service_cidrs.iter().filter_map(|range| F::net(range.trunc())) {
        if let Err(full) = table.insert(range, nobody.into()) {
            problems.push(full.about("Setting", "service-cidr"));
        }
    }
    for other in others {
        for address in &other.addresses {
            if let Some(reach) = reach_at(Some(*address), other, node, facts) {
                table.insert_node(*address, reach.route(facts));
            }
        }
        match reach(other, node, facts) {
            Some(reach) => table.insert_all(other, reach.route(facts), problems),
            None => cut_off(other, node, facts, problems),
        }
    }
    table.routes
}

/// How another node is reached.
pub(super) enum Reach<F: Family> {
    /// At its address on the segment.
    Direct(F::Address),
    /// Through a tunnel that carries the family.
    Tunnel(Tunnel),
}

/// How another node's pods are reached; `None` if no tunnel can be.
pub(super) fn reach<F: Family>(node: &Placed<F>, own: &Ends, facts: &NodeFacts) -> Option<Reach<F>> {
    reach_at(node.addresses.first().copied(), node, own, facts)
}

/// The same of one of its addresses, if it has one. All that is not on the segment goes through the node's one tunnel.
fn reach_at<F: Family>(
    address: Option<F::Address>,
    node: &Placed<F>,
    own: &Ends,
    facts: &NodeFacts,
) -> Option<Reach<F>> {
    let direct = address.filter(|address| own.address::<F>().is_some() && is_direct((*address).into(), facts));
    match direct {
        Some(address) => Some(Reach::Direct(address)),
        None => own.tunnel_to::<F>(&node.ends, facts).map(Reach::Tunnel),
    }
}

/// Of a family that the node has no pods of, though tunnels may come by it: the addresses of the nodes at their other ends. None
/// of any other.
pub(super) fn senders<F: Family>(
    placed: &[Placed<F>],
    own: &Ends,
    facts: &NodeFacts,
) -> BTreeMap<F::RouteKey, F::Route> {
    let mut table = Table::<F>::default();
    let (here, others): (Vec<_>, Vec<_>) = placed.iter().partition(|node| *node.name == *facts.name);
    if here.iter().any(|node| !node.subnets.is_empty()) {
        return table.routes;
    }
    for node in others {
        for address in &node.addresses {
            if let Some(reach) = reach_at(Some(*address), node, own, facts) {
                table.insert_node(*address, reach.route(facts));
            }
        }
    }
    table.routes
}

impl<F: Family> Reach<F> {
    fn route(&self, facts: &NodeFacts) -> F::Route {
        let (via, node, next_hop) = match *self {
            Self::Direct(address) => (VIA_DIRECT, Some(address), Some(address)),
            Self::Tunnel(Tunnel { remote, .. }) => (
                VIA_TUNNEL,
                F::carrier(remote),
                next_hop(remote, facts).and_then(F::carrier),
            ),
        };
        let route = Route {
            node: node.map(F::octets).unwrap_or_default(),
            next_hop: next_hop.map(F::octets).unwrap_or_default(),
            via,
            reserved: [0; 3],
        };
        route.into()
    }
}

/// Where the uplink sends what is for a tunnel's end: a neighbour of the end's own family, if one is known.
fn next_hop(end: IpAddr, facts: &NodeFacts) -> Option<IpAddr> {
    if is_direct(end, facts) {
        return Some(end);
    }
    let router = facts.next_hops.get(&end).copied();
    router.filter(|router| router.is_ipv4() == end.is_ipv4())
}

/// Whether an address is on the uplink's segment.
fn is_direct(address: IpAddr, facts: &NodeFacts) -> bool {
    facts.uplink.addresses.iter().any(|own| own.contains(&address))
}

/// Takes from a node the subnets that nothing leads to.
fn cut_off<F: Family>(node: &mut Placed<F>, own: &Ends, facts: &NodeFacts, problems: &mut Vec<Problem>) {
    let (why, remedy) = if own.meets(&node.ends) {
        (
            format!(
                "a tunnel of IPv6 leaves too little of the uplink's MTU of {} for {}",
                facts.uplink.mtu,
                F::NAME
            ),
            "give the uplink a larger MTU",
        )
    } else {
        (
            "a tunnel needs an InternalIP of one family at both ends".to_owned(),
            "give all nodes an InternalIP of one family (the kubelet's --node-ip), or have them on one segment",
        )
    };
    for subnet in node.subnets.drain(..) {
        let what = format!("{POD_CIDRS}: {subnet} is not reached: the node is on another segment, and {why}");
        problems.push(Problem::refused_global("Node", &*node.name, what, remedy));
    }
}

/// The lengths that a routing table uses, as the configuration holds them: those of pods' subnets first, since most packets are
/// for pods; nodes' own addresses last, since few are for them. None lies in a subnet of another kind. Among lengths of one kind the
/// longest is first: a service range may lie in another.
pub(super) fn prefix_lengths<F: Family>(routes: &BTreeMap<F::RouteKey, F::Route>) -> [u8; ROUTE_PREFIXES] {
    let mut kinds = BTreeMap::<u32, Kind>::new();
    for (key, route) in routes {
        let (key, route): (RouteKey<F>, Route<F>) = ((*key).into(), (*route).into());
        let kind = match route.via {
            _ if key.prefix_len == u32::from(F::BITS) => Kind::Node,
            VIA_SERVICE => Kind::Service,
            _ => Kind::Pods,
        };
        let first = kinds.entry(key.prefix_len).or_insert(kind);
        *first = kind.min(*first);
    }
    let ordered: BTreeSet<_> = kinds
        .into_iter()
        .map(|(length, kind)| (kind, Reverse(length)))
        .collect();
    let mut list = [0; ROUTE_PREFIXES];
    for (place, (_, Reverse(length))) in list.iter_mut().zip(ordered) {
        *place = u8::try_from(length).unwrap_or(u8::MAX);
    }
    list
}

/// Whose subnets have a prefix length, in the order in which they are asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Pods,
    Service,
    Node,
}

/// Routes of at most [`ROUTE_PREFIXES`] different lengths.
struct Table<F: Family> {
    routes: BTreeMap<F::RouteKey, F::Route>,
    lengths: BTreeSet<u8>,
}

impl<F: Family> Default for Table<F> {
    fn default() -> Self {
        // Nodes' own addresses must always find a place.
        Self {
            routes: BTreeMap::new(),
            lengths: BTreeSet::from([F::BITS]),
        }
    }
}

/// A subnet whose length found no place.
struct Full {
    subnet: String,
    lengths: String,
}

impl<F: Family> Table<F> {
    fn insert(&mut self, subnet: F::Net, route: F::Route) -> Result<(), Full> {
        let prefix_len = F::prefix_len(subnet);
        if !self.lengths.contains(&prefix_len) {
            if self.lengths.len() == ROUTE_PREFIXES {
                let lengths = self
                    .lengths
                    .iter()
                    .map(|length| format!("/{length}"))
                    .collect::<Vec<_>>()
                    .join(", ");
                let subnet = subnet.to_string();
                return Err(Full { subnet, lengths });
            }
            self.lengths.insert(prefix_len);
        }
        self.put(F::first(subnet), prefix_len, route);
        Ok(())
    }

    fn insert_all(&mut self, node: &mut Placed<F>, route: F::Route, problems: &mut Vec<Problem>) {
        let name = &node.name;
        node.subnets.retain(|subnet| {
            let inserted = self.insert(*subnet, route);
            if let Err(full) = &inserted {
                problems.push(full.about("Node", name));
            }
            inserted.is_ok()
        });
    }

    fn insert_node(&mut self, node: F::Address, route: F::Route) {
        self.put(node, F::BITS, route);
    }

    fn put(&mut self, address: F::Address, prefix_len: u8, route: F::Route) {
        let key = RouteKey {
            address: F::octets(address),
            prefix_len: prefix_len.into(),
        };
        self.routes.insert(key.into(), route);
    }
}

impl Full {
    fn about(&self, kind: &'static str, name: &str) -> Problem {
        let Self { subnet, lengths } = self;
        let what = format!("{subnet} is refused: routes have {ROUTE_PREFIXES} prefix lengths already ({lengths})");
        Problem::refused_global(kind, name, what, "give all nodes pod subnets of the same size")
    }
}
