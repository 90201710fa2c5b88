//! A family as the node has it: its own subnets, the nodes that are reached, and the ways there.

use std::collections::BTreeMap;

use super::{NodeFacts, Problem, ends::Ends, nodes::Placed, routes};
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
    /// Finds the ways to all nodes; `None` if this one has no pods of the family, or their packets may not be large enough.
    pub fn of(
        mut placed: Vec<Placed<F>>,
        node: &Ends,
        facts: &NodeFacts,
        pod_mtu: u16,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let place = placed.iter().position(|node| *node.name == *facts.name)?;
        let mut own = placed.remove(place);
        if own.subnets.is_empty() {
            return None;
        }
        if pod_mtu < F::LEAST_MTU {
            problems.push(too_narrow::<F>(facts, pod_mtu));
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

fn too_narrow<F: Family>(facts: &NodeFacts, pod_mtu: u16) -> Problem {
    Problem::not_served(
        "Node",
        &ObjectName::new("", &facts.name),
        format!(
            "the uplink's MTU of {} leaves pods' packets {pod_mtu} bytes: {} needs {}",
            facts.uplink.mtu,
            F::NAME,
            F::LEAST_MTU
        ),
        "give the uplink a larger MTU",
    )
}
