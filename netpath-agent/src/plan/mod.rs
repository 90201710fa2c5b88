//! What the kernel must hold so that the desired state comes true: a pure function of the cluster's objects and of the
//! node's own facts. [`crate::apply`] brings maps to it, [`crate::net`] the kernel's routes.
//!
//! What concerns a single object was judged when it was read ([`crate::model`]); here objects are held against each other.
//! Of two objects that claim the same, the elder keeps it (by creation, then by name), so that every node decides alike
//! and a newcomer disturbs nobody.

mod addresses;
mod affinity;
mod backends;
mod config;
mod endpoints;
mod facts;
mod judge;
mod kernel_routes;
mod node_port_addresses;
mod nodes;
mod occupied;
mod routes;
mod services;
mod sources;
mod subnets;
mod topology;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use ipnet::Ipv4Net;
use netpath_common::abi::{
    config::Config,
    endpoint::Endpoint,
    route::v4::{Route, RouteKey},
    service::v4::{Backend, Frontend},
    source::v4::SourceKey,
};

use crate::model::{Cluster, ObjectName};
use nodes::Placed;

pub use crate::model::{Problem, Severity};
pub use config::OVERLAY_OVERHEAD;
pub use facts::{Device, NODE_PORTS, NodeFacts, Uplink};
pub use kernel_routes::{KernelRoute, Way};
pub use node_port_addresses::NodePortAddresses;

/// What the kernel must hold. All of it is exact: what is not here must not be in the maps either.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The node's own pod subnets, whose gateways are the bridge's addresses. Never empty.
    pub subnets4: Vec<Ipv4Net>,
    /// `np_config`.
    pub config: Config,
    /// The entries of `np_endpoint4` that stand for the node itself (`KIND_HOST`). Those of pods are the CNI plugin's.
    pub endpoints4: BTreeMap<[u8; 4], Endpoint>,
    /// `np_route4`.
    pub routes4: BTreeMap<RouteKey, Route>,
    /// `np_service4`, each with what its set in `np_backend4` holds.
    pub services4: BTreeMap<Frontend, ServicePlan>,
    /// `np_source4`: the lists of clients that frontends name.
    pub sources4: BTreeMap<SourceKey, u32>,
    /// The addresses that services have, with their `FLAG_*`: what they serve nothing on is refused. Entries of `np_service4` too.
    pub addresses4: BTreeMap<[u8; 4], u16>,
    /// Where load balancers ask whether services have endpoints here, by port.
    pub health_checks: BTreeMap<u16, HealthCheck>,
    /// Whether the node is going away, and ought to get nothing new from load balancers.
    pub leaving: bool,
    /// The routes of the node's own stack.
    pub kernel_routes: BTreeSet<KernelRoute>,
    /// What of the objects is refused, or served otherwise than they ask; in order, each once.
    pub problems: Vec<Problem>,
}

/// A frontend of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePlan {
    /// `FLAG_*` of [`netpath_common::abi::service`].
    pub flags: u16,
    /// Who answers this node's pods and the node itself, in the order of their addresses and ports, each once. With none,
    /// connections are refused, or dropped if the flags say so.
    pub backends: Arc<[Backend]>,
    /// Who answers what comes from elsewhere: the same, unless external traffic stays on the node.
    pub outside: Arc<[Backend]>,
    /// Of UDP, all that answer, also those that nothing new is sent to: flows to these stay.
    pub serving: Arc<[Backend]>,
    /// The list of clients in `np_source4` that may connect; 0 where everyone may.
    pub sources: u32,
    /// The number under which clients are remembered; 0 without session affinity.
    pub affinity: u32,
    /// How long after its last new connection a client keeps its backend, in seconds.
    pub affinity_timeout: u32,
}

impl ServicePlan {
    /// A frontend that sends everyone to the same backends, which are in order.
    pub fn alike(flags: u16, backends: impl Into<Arc<[Backend]>>) -> Self {
        let backends = backends.into();
        Self {
            flags,
            outside: Arc::clone(&backends),
            serving: Arc::clone(&backends),
            backends,
            ..Self::default()
        }
    }
}

/// What a load balancer is told that asks for a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The service.
    pub service: ObjectName,
    /// How many of its endpoints are ready on this node.
    pub local_endpoints: usize,
}

/// Plans the node named in the facts.
///
/// # Errors
/// The node itself cannot be planned: its object, InternalIP or pod subnet is missing or taken. Whatever the kernel holds
/// then stays as it is. The first problem is the reason; the others are those of all other objects.
pub fn plan(cluster: &Cluster, facts: &NodeFacts) -> Result<Plan, Vec<Problem>> {
    let mut problems = cluster.problems.clone();
    let placed = nodes::place(cluster, facts, &mut problems);
    let planned = plan_node(cluster, facts, placed, &mut problems);
    problems.sort_unstable();
    problems.dedup();
    match planned {
        Ok(plan) => Ok(Plan { problems, ..plan }),
        Err(reason) => {
            problems.retain(|problem| *problem != reason);
            problems.insert(0, reason);
            Err(problems)
        }
    }
}

fn plan_node(
    cluster: &Cluster,
    facts: &NodeFacts,
    mut placed: Vec<Placed<'_>>,
    problems: &mut Vec<Problem>,
) -> Result<Plan, Problem> {
    let place = placed.iter().position(|node| node.name == facts.name);
    let Some(mut own) = place.map(|place| placed.remove(place)) else {
        return Err(own_problem(
            cluster,
            facts,
            problems,
            "it has no InternalIP of IPv4 of its own",
        ));
    };
    let node = own
        .addresses
        .iter()
        .find(|address| facts.uplink.has((**address).into()));
    let Some(node) = node.copied() else {
        return Err(own_problem(
            cluster,
            facts,
            problems,
            "its InternalIP is not an address of the uplink",
        ));
    };
    let routes4 = routes::routes(&mut own, &mut placed, facts, problems);
    let Some(gateway) = own.subnets.first().copied().and_then(gateway) else {
        return Err(own_problem(
            cluster,
            facts,
            problems,
            "it has no IPv4 pod subnet of its own with room for pods",
        ));
    };
    let services = services::services(cluster, facts, node, (&own, &placed), problems);
    Ok(Plan {
        config: config::config(facts, node, gateway, &routes4),
        endpoints4: endpoints::endpoints(&own, facts),
        kernel_routes: kernel_routes::kernel_routes(gateway, &placed, facts),
        subnets4: own.subnets,
        routes4,
        services4: services.frontends,
        sources4: services.sources,
        addresses4: services.addresses,
        health_checks: services.health_checks,
        leaving: cluster.nodes.get(&facts.name).is_some_and(|node| node.leaving),
        problems: Vec::new(),
    })
}

/// Why the node itself cannot be planned, in the words of the problem that lies behind it, if there is one.
fn own_problem(cluster: &Cluster, facts: &NodeFacts, problems: &[Problem], why: &str) -> Problem {
    if let Some(cause) = problems
        .iter()
        .find(|problem| problem.kind == "Node" && problem.name == facts.name && problem.severity == Severity::Refused)
    {
        return cause.clone();
    }
    let (why, remedy) = match cluster.nodes.contains_key(&facts.name) {
        true => (
            why,
            "correct the node, or start the agent with the device that has the node's InternalIP as uplink",
        ),
        false => (
            "there is no Node of this name",
            "wait for the kubelet to register it, or correct --node-name",
        ),
    };
    Problem::refused_global("Node", &facts.name, why, remedy)
}

/// The gateway of a pod subnet: its first address after the subnet's own; `None` where there is no room for a pod.
pub fn gateway(subnet: Ipv4Net) -> Option<Ipv4Addr> {
    (subnet.prefix_len() <= 30).then(|| Ipv4Addr::from_bits(subnet.network().to_bits() | 1))
}

#[cfg(test)]
mod tests;
