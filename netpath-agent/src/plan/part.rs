//! A family as the node has it: its own subnets, the nodes that are reached, and the ways there.

use std::collections::BTreeMap;

use super::{NodeFacts, Problem, config::pod_mtu, nodes::Placed, own::Own, routes};
use crate::{family::Family, model::ObjectName};

/// The family's nodes.
pub(super) struct Part<F: Family> {
    /// The node itself. It has a subnet.
    pub own: Placed<F>,
    /// Its address on the uplink.
    pub node: Option<F::Address>,
    /// The gateway of its first subnet.
    pub gateway: F::Address,
    /// All others.
    pub others: Vec<Placed<F>>,
    /// `np_route4` or `np_route6`.
    pub routes: BTreeMap<F::RouteKey, F::Route>,
}

impl<F: Family> Part<F> {
    /// Finds the ways to all nodes; `None` if this one has no pods of the family.
    pub fn of(mut placed: Vec<Placed<F>>, node: &Own, facts: &NodeFacts, problems: &mut Vec<Problem>) -> Option<Self> {
        let place = placed.iter().position(|node| *node.name == *facts.name)?;
        let mut own = placed.remove(place);
        if own.subnets.is_empty() || !has_room(facts, F::LEAST_MTU, F::NAME, problems) {
            return None;
        }
        if own.addresses.is_empty() {
            problems.push(Problem::not_served(
                "Node",
                &ObjectName::new("", &*own.name),
                format!(
                    "status.addresses: there is no InternalIP of {}: pods reach the cluster by it, through tunnels, and nothing else",
                    F::NAME
                ),
                "give the node one (the kubelet's --node-ip takes one of each family)",
            ));
        }
        let routes = routes::routes(&mut own, &mut placed, node, facts, problems);
        let gateway = own.subnets.first().copied().and_then(F::gateway)?;
        Some(Self {
            own,
            node: node.address::<F>(),
            gateway,
            others: placed,
            routes,
        })
    }
}

/// Whether pods' packets may be as large as every packet of a family must be.
pub(super) fn has_room(facts: &NodeFacts, least: u16, family: &str, problems: &mut Vec<Problem>) -> bool {
    let mtu = pod_mtu(facts);
    if mtu >= least {
        return true;
    }
    problems.push(Problem::not_served(
        "Node",
        &ObjectName::new("", &facts.name),
        format!(
            "the uplink's MTU of {} leaves pods' packets {mtu} bytes: {family} needs {least}",
            facts.uplink.mtu
        ),
        "give the uplink a larger MTU",
    ));
    false
}
