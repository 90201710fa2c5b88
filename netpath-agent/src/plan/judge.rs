//! Whether an address may answer for a service, once all nodes have their places: what its own slice cannot tell
//! ([`crate::model::unusable`] judges the rest).

use std::{collections::HashMap, net::IpAddr};

use ipnet::IpNet;

use super::{NodeFacts, nodes::Placed};
use crate::family::Family;

/// The addresses of a family that may not.
pub(super) struct Judge<'a, F: Family> {
    facts: &'a NodeFacts,
    gateways: HashMap<F::Address, &'a str>,
}

impl<'a, F: Family> Judge<'a, F> {
    /// Gathers them from all nodes.
    pub fn of<'b>(facts: &'a NodeFacts, nodes: impl Iterator<Item = &'b Placed<'a, F>>) -> Self
    where
        'a: 'b,
    {
        let gateways = nodes.flat_map(|node| {
            let own = node.subnets.iter().copied().filter_map(F::gateway);
            own.map(|address| (address, node.name))
        });
        Self {
            facts,
            gateways: gateways.collect(),
        }
    }

    /// Why an address may not answer, for the end of a sentence.
    ///
    /// A service's address would have one service answer for another. A gateway is a node's side of its pods' network:
    /// pods on the node's own network have the node's address, and behind the gateway is only what listens for the node
    /// itself (CVE-2021-25737).
    pub fn why_not(&self, address: F::Address) -> Option<String> {
        if let Some(range) = service_range(address.into(), self.facts) {
            return Some(format!("is in the services' range {range}"));
        }
        let node = self.gateways.get(&address)?;
        Some(format!("is node {node}'s own toward its pods"))
    }
}

/// The service range that an address lies in.
pub(super) fn service_range(address: IpAddr, facts: &NodeFacts) -> Option<IpNet> {
    facts
        .service_cidrs
        .iter()
        .copied()
        .find(|range| range.contains(&address))
}
