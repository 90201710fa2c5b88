//! `np_route4`: a node on the uplink's segment is direct, any other is behind the tunnel.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net};
use netpath_common::abi::{
    config::ROUTE_PREFIXES,
    route::{
        VIA_DIRECT, VIA_LOCAL, VIA_SERVICE, VIA_TUNNEL,
        v4::{Route, RouteKey},
    },
};

use super::{NodeFacts, nodes::Placed};
use crate::model::Problem;

/// The routes. Takes from the nodes those subnets that find no place among them.
pub(super) fn routes(
    own: &mut Placed<'_>,
    others: &mut [Placed<'_>],
    facts: &NodeFacts,
    problems: &mut Vec<Problem>,
) -> BTreeMap<RouteKey, Route> {
    let mut table = Table::default();
    let local = Route {
        node: own.address.octets(),
        via: VIA_LOCAL,
        ..Route::default()
    };
    table.insert_all(own, local, problems);
    let nobody = Route {
        via: VIA_SERVICE,
        ..Route::default()
    };
    for range in &facts.service_cidrs {
        let IpNet::V4(range) = range else { continue };
        if let Err(full) = table.insert(range.trunc(), nobody) {
            problems.push(full.about("Setting", "service-cidr"));
        }
    }
    for node in others {
        for address in &node.addresses {
            table.insert_node(*address, way_to(*address, facts));
        }
        table.insert_all(node, way_to(node.address, facts), problems);
    }
    table.routes
}

/// The lengths that a routing table uses, as the configuration holds them: nodes' own addresses last, since few packets go
/// there and they lie in no other subnet; the rest longest first.
pub(super) fn prefix_lengths(routes: &BTreeMap<RouteKey, Route>) -> [u8; ROUTE_PREFIXES] {
    let lengths: BTreeSet<_> = routes.keys().map(|key| Reverse(key.prefix_len)).collect();
    let mut list = [0; ROUTE_PREFIXES];
    let (nodes, subnets): (Vec<_>, Vec<_>) = lengths.into_iter().partition(|Reverse(length)| *length == 32);
    for (place, Reverse(length)) in list.iter_mut().zip(subnets.into_iter().chain(nodes)) {
        *place = u8::try_from(length).unwrap_or(u8::MAX);
    }
    list
}

/// Whether an address is on the uplink's segment.
pub(super) fn is_direct(address: Ipv4Addr, facts: &NodeFacts) -> bool {
    facts
        .uplink
        .addresses
        .iter()
        .any(|own| own.contains(&IpAddr::V4(address)))
}

/// The way to another node.
fn way_to(node: Ipv4Addr, facts: &NodeFacts) -> Route {
    let (via, next_hop) = if is_direct(node, facts) {
        (VIA_DIRECT, node)
    } else {
        match facts.next_hops.get(&IpAddr::V4(node)) {
            Some(IpAddr::V4(router)) => (VIA_TUNNEL, *router),
            _ => (VIA_TUNNEL, Ipv4Addr::UNSPECIFIED),
        }
    };
    Route {
        node: node.octets(),
        next_hop: next_hop.octets(),
        via,
        reserved: [0; 3],
    }
}

/// Routes of at most [`ROUTE_PREFIXES`] different lengths.
struct Table {
    routes: BTreeMap<RouteKey, Route>,
    lengths: BTreeSet<u8>,
}

impl Default for Table {
    fn default() -> Self {
        // Nodes' own addresses must always find a place.
        Self {
            routes: BTreeMap::new(),
            lengths: BTreeSet::from([Ipv4Addr::BITS as u8]),
        }
    }
}

/// A subnet whose length found no place.
struct Full {
    subnet: Ipv4Net,
    lengths: String,
}

impl Table {
    fn insert(&mut self, subnet: Ipv4Net, route: Route) -> Result<(), Full> {
        if !self.lengths.contains(&subnet.prefix_len()) {
            if self.lengths.len() == ROUTE_PREFIXES {
                let lengths = self
                    .lengths
                    .iter()
                    .map(|length| format!("/{length}"))
                    .collect::<Vec<_>>()
                    .join(", ");
                return Err(Full { subnet, lengths });
            }
            self.lengths.insert(subnet.prefix_len());
        }
        let key = RouteKey {
            address: subnet.network().octets(),
            prefix_len: subnet.prefix_len().into(),
        };
        self.routes.insert(key, route);
        Ok(())
    }

    fn insert_all(&mut self, node: &mut Placed<'_>, route: Route, problems: &mut Vec<Problem>) {
        let name = node.name;
        node.subnets.retain(|subnet| {
            let inserted = self.insert(*subnet, route);
            if let Err(full) = &inserted {
                problems.push(full.about("Node", name));
            }
            inserted.is_ok()
        });
    }

    fn insert_node(&mut self, node: Ipv4Addr, route: Route) {
        self.routes.insert(
            RouteKey {
                address: node.octets(),
                prefix_len: Ipv4Addr::BITS,
            },
            route,
        );
    }
}

impl Full {
    fn about(&self, kind: &'static str, name: &str) -> Problem {
        let Self { subnet, lengths } = self;
        let what = format!("{subnet} is refused: routes have {ROUTE_PREFIXES} prefix lengths already ({lengths})");
        Problem::refused_global(kind, name, what, "give all nodes pod subnets of the same size")
    }
}
