//! `np_route4` and `np_route6`: a node on the uplink's segment is direct, any other is behind the tunnel. Tunnels are of
//! IPv4, whatever they carry.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use netpath_common::abi::{
    config::ROUTE_PREFIXES,
    route::{Route, RouteKey, VIA_DIRECT, VIA_LOCAL, VIA_SERVICE, VIA_TUNNEL},
};

use super::{NodeFacts, nodes::Placed, own::Own};
use crate::{family::Family, model::Problem};

/// The routes. Takes from the nodes those subnets that find no place among them, or that nothing leads to.
pub(super) fn routes<F: Family>(
    own: &mut Placed<F>,
    others: &mut [Placed<F>],
    node: &Own,
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
            if let Some(reach) = reach(Some(*address), other, node, facts) {
                table.insert_node(*address, reach.route(facts));
            }
        }
        match reach(other.addresses.first().copied(), other, node, facts) {
            Some(reach) => table.insert_all(other, reach.route(facts), problems),
            None => cut_off(other, problems),
        }
    }
    table.routes
}

/// How another node is reached.
pub(super) enum Reach<F: Family> {
    /// At its address on the segment.
    Direct(F::Address),
    /// Through the tunnel that ends there.
    Tunnel(Ipv4Addr),
}

/// How one of a node's addresses is reached, or its pods where it has no address; `None` if tunnels would have to begin or
/// end where there is no IPv4.
pub(super) fn reach<F: Family>(
    address: Option<F::Address>,
    node: &Placed<F>,
    own: &Own,
    facts: &NodeFacts,
) -> Option<Reach<F>> {
    let direct = address.filter(|address| own.address::<F>().is_some() && is_direct((*address).into(), facts));
    if let Some(address) = direct {
        return Some(Reach::Direct(address));
    }
    own.v4?;
    match address.map(Into::into) {
        Some(IpAddr::V4(address)) => Some(Reach::Tunnel(address)),
        _ => node.tunnel.map(Reach::Tunnel),
    }
}

impl<F: Family> Reach<F> {
    fn route(&self, facts: &NodeFacts) -> F::Route {
        let (via, node, next_hop) = match *self {
            Self::Direct(address) => (VIA_DIRECT, address, Some(address)),
            Self::Tunnel(end) => (VIA_TUNNEL, F::carrier(end), next_hop(end, facts).map(F::carrier)),
        };
        let route = Route {
            node: F::octets(node),
            next_hop: next_hop.map(F::octets).unwrap_or_default(),
            via,
            reserved: [0; 3],
        };
        route.into()
    }
}

/// Where the uplink sends what is for a tunnel's end.
fn next_hop(end: Ipv4Addr, facts: &NodeFacts) -> Option<Ipv4Addr> {
    if is_direct(end.into(), facts) {
        return Some(end);
    }
    match facts.next_hops.get(&IpAddr::V4(end)) {
        Some(IpAddr::V4(router)) => Some(*router),
        _ => None,
    }
}

/// Whether an address is on the uplink's segment.
fn is_direct(address: IpAddr, facts: &NodeFacts) -> bool {
    facts.uplink.addresses.iter().any(|own| own.contains(&address))
}

/// Takes from a node the subnets that nothing leads to.
fn cut_off<F: Family>(node: &mut Placed<F>, problems: &mut Vec<Problem>) {
    for subnet in node.subnets.drain(..) {
        let what = format!(
            "spec.podCIDRs: {subnet} is not reached: the node is on another segment, and a tunnel needs an InternalIP of IPv4 at \
             both ends"
        );
        let remedy = "give all nodes an InternalIP of IPv4 (the kubelet's --node-ip), or have them on one segment";
        problems.push(Problem::refused_global("Node", &*node.name, what, remedy));
    }
}

/// The lengths that a routing table uses, as the configuration holds them: nodes' own addresses last, since few packets go
/// there and they lie in no other subnet; the rest longest first.
pub(super) fn prefix_lengths<F: Family>(routes: &BTreeMap<F::RouteKey, F::Route>) -> [u8; ROUTE_PREFIXES] {
    let keys = routes.keys().map(|key| (*key).into());
    let lengths: BTreeSet<_> = keys.map(|key: RouteKey<F>| Reverse(key.prefix_len)).collect();
    let mut list = [0; ROUTE_PREFIXES];
    let (nodes, subnets): (Vec<_>, Vec<_>) = lengths
        .into_iter()
        .partition(|Reverse(length)| *length == u32::from(F::BITS));
    for (place, Reverse(length)) in list.iter_mut().zip(subnets.into_iter().chain(nodes)) {
        *place = u8::try_from(length).unwrap_or(u8::MAX);
    }
    list
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
