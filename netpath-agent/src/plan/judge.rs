//! Whether an address may answer for a service, once all nodes have their places: what its own slice cannot tell
//! ([`crate::model::unusable`] judges the rest).

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::{NodeFacts, nodes::Placed};
use crate::family::Family;

/// The addresses of a family that may not.
pub(super) struct Judge<F: Family> {
    gateways: HashMap<F::Address, Arc<str>>,
}

impl<F: Family> Judge<F> {
    /// Gathers them from all nodes.
    pub fn of<'a>(nodes: impl Iterator<Item = &'a Placed<F>>) -> Self {
        let gateways = nodes.flat_map(|node| {
            let own = node.subnets.iter().copied().filter_map(F::gateway);
            own.map(|address| (address, Arc::clone(&node.name)))
        });
        Self {
            gateways: gateways.collect(),
        }
    }

    /// Why an address may not answer, for the end of a sentence.
    ///
    /// A service's address would have one service answer for another. A gateway is a node's side of its pods' network:
    /// pods on the node's own network have the node's address, and behind the gateway is only what listens for the node
    /// itself (CVE-2021-25737).
    pub fn why_not(&self, address: F::Address, facts: &NodeFacts) -> Option<String> {
        if let Some(range) = service_range(address.into(), facts) {
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
