//! The ports that services have on every node: each is one service's, in both families.

use std::collections::HashMap;

use super::NodeFacts;
use crate::model::{ObjectName, Problem, Protocol};

/// The ports that are given.
pub(super) struct NodePorts<'a> {
    facts: &'a NodeFacts,
    given: HashMap<(u16, Protocol), &'a ObjectName>,
}

impl<'a> NodePorts<'a> {
    /// None is.
    pub fn new(facts: &'a NodeFacts) -> Self {
        Self {
            facts,
            given: HashMap::new(),
        }
    }

    /// Claims a port of every node; `field` says for what.
    ///
    /// # Errors
    /// It is no service's to have, or another's.
    pub fn claim(&mut self, name: &'a ObjectName, field: &str, port: u16, protocol: Protocol) -> Result<(), Problem> {
        let refused =
            |what: String, remedy: &str| Err(Problem::refused("Service", name, format!("{field} {what}"), remedy));
        let range = &self.facts.node_ports;
        if !range.contains(&port) {
            return refused(
                format!("is outside of the range {}-{}", range.start(), range.end()),
                "use a port of the range, or leave the field out and let the API server choose",
            );
        }
        if protocol == Protocol::Udp && port == self.facts.vxlan_port {
            return refused("is the tunnel's port".into(), "use another");
        }
        match self.given.get(&(port, protocol)) {
            Some(other) => refused(
                format!("is service {other}'s already"),
                "use another, or leave the field out and let the API server choose",
            ),
            None => {
                self.given.insert((port, protocol), name);
                Ok(())
            }
        }
    }
}
