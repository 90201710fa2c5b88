//! Where the services of a family are served: what no service may take, and where NodePorts answer.

use std::collections::BTreeSet;

use netpath_common::abi::service::FLAG_NODE_PORT;

use super::{NodeFacts, Problem, endpoints, judge::Judge, occupied::Occupied, part::Part};
use crate::{family::Family, model::ObjectName};

/// The place of a family's services.
pub(super) struct Site<F: Family> {
    /// Of the addresses of endpoints.
    pub judge: Judge<F>,
    /// The addresses that nodes and pods have.
    pub taken: Occupied<F>,
    /// All addresses that the node's stack has.
    pub local_addresses: BTreeSet<F::Address>,
    /// Where NodePorts answer.
    pub node_port_addresses: Vec<F::Address>,
    /// `FLAG_NODE_PORT` or `FLAG_NODE_PORT_HERE`.
    pub node_port_flag: u16,
    /// Where the NodePorts answer that other nodes relay: without an address, if they do.
    pub relayed: Option<F::Address>,
}

impl<F: Family> Site<F> {
    /// The place that a node gives them.
    pub fn of(part: &Part<F>, facts: &NodeFacts, problems: &mut Vec<Problem>) -> Self {
        let Part { own, others, node, .. } = part;
        let own_addresses = endpoints::own_addresses(own, facts);
        let is_known = !own_addresses.is_empty();
        let taken = Occupied::of(&own_addresses, own, others);
        let local_addresses = endpoints::local_addresses(own_addresses, &taken, facts);
        let (node_port_addresses, node_port_flag) = facts.node_port_addresses.of::<F>(&local_addresses, *node);
        if node_port_addresses.is_empty() && is_known {
            problems.push(Problem::not_served(
                "Node",
                &ObjectName::new("", &facts.name),
                format!(
                    "no {} address of the node is in the ranges that are set for NodePorts, {}: they answer nowhere on it",
                    F::NAME,
                    facts.node_port_addresses
                ),
                "correct the agent's --node-port-addresses",
            ));
        }
        Self {
            judge: Judge::of(others.iter().chain([own])),
            taken,
            local_addresses,
            node_port_addresses,
            node_port_flag,
            relayed: facts.relays().then(|| F::default().into()),
        }
    }

    /// Where load balancers may ask for services: where NodePorts answer. Where that is on all addresses, it is the unspecified
    /// one, with those that no service is on.
    pub fn asked_on(&self) -> Vec<F::Address> {
        match self.node_port_flag {
            FLAG_NODE_PORT => vec![F::default().into()],
            _ => self.node_port_addresses.clone(),
        }
    }
}
