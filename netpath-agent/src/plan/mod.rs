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
mod frontends;
mod judge;
mod kernel_routes;
mod node_port_addresses;
mod node_ports;
mod nodes;
mod occupied;
mod own;
mod part;
mod routes;
mod services;
mod sources;
mod subnets;
mod topology;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ipnet::IpNet;
use netpath_common::abi::{config::Config, endpoint::Endpoint};

use crate::{
    family::{Family, V4, V6},
    model::{Cluster, Node, ObjectName},
};
use frontends::Frontends;
use nodes::Places;
use own::Own;
use part::Part;
use topology::Here;

pub use crate::model::{Problem, Severity};
pub use config::OVERLAY_OVERHEAD;
pub use facts::{Device, NODE_PORTS, NodeFacts, Uplink};
pub use kernel_routes::{KernelRoute, Way};
pub use node_port_addresses::NodePortAddresses;

/// What the kernel must hold. All of it is exact: what is not here must not be in the maps either.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// `np_config`.
    pub config: Config,
    /// The tables of IPv4.
    pub v4: FamilyPlan<V4>,
    /// The tables of IPv6. At least one family has subnets.
    pub v6: FamilyPlan<V6>,
    /// Where load balancers ask whether services have endpoints here, by port.
    pub health_checks: BTreeMap<u16, HealthCheck>,
    /// Whether the node is going away, and ought to get nothing new from load balancers.
    pub leaving: bool,
    /// The routes of the node's own stack.
    pub kernel_routes: BTreeSet<KernelRoute>,
    /// What of the objects is refused, or served otherwise than they ask; in order, each once.
    pub problems: Vec<Problem>,
}

impl Plan {
    /// The node's own pod subnets, whose gateways are the bridge's addresses: those of IPv4 first. Never none.
    pub fn subnets(&self) -> Vec<IpNet> {
        let v4 = self.v4.subnets.iter().copied().map(IpNet::V4);
        let v6 = self.v6.subnets.iter().copied().map(IpNet::V6);
        v4.chain(v6).collect()
    }
}

/// The tables of a family; empty where the node has no pods of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FamilyPlan<F: Family> {
    /// The node's own pod subnets.
    pub subnets: Vec<F::Net>,
    /// The entries of `np_endpoint*` that stand for the node itself (`KIND_HOST`). Those of pods are the CNI plugin's.
    pub endpoints: BTreeMap<F, Endpoint>,
    /// `np_route*`.
    pub routes: BTreeMap<F::RouteKey, F::Route>,
    /// `np_service*`, each with what its set in `np_backend*` holds.
    pub services: BTreeMap<F::Frontend, ServicePlan<F>>,
    /// `np_source*`: the lists of clients that frontends name.
    pub sources: BTreeMap<F::SourceKey, u32>,
    /// The addresses that services have, with their `FLAG_*`: what they serve nothing on is refused. Entries of `np_service*`
    /// too.
    pub addresses: BTreeMap<F, u16>,
}

/// A frontend of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePlan<F: Family> {
    /// `FLAG_*` of [`netpath_common::abi::service`].
    pub flags: u16,
    /// Who answers this node's pods and the node itself, in the order of their addresses and ports, each once. With none,
    /// connections are refused, or dropped if the flags say so.
    pub backends: Arc<[F::Backend]>,
    /// Who answers what comes from elsewhere: the same, unless external traffic stays on the node.
    pub outside: Arc<[F::Backend]>,
    /// Of UDP, all that answer, also those that nothing new is sent to: flows to these stay.
    pub serving: Arc<[F::Backend]>,
    /// The list of clients in `np_source*` that may connect; 0 where everyone may.
    pub sources: u32,
    /// The number under which clients are remembered; 0 without session affinity.
    pub affinity: u32,
    /// How long after its last new connection a client keeps its backend, in seconds.
    pub affinity_timeout: u32,
}

impl<F: Family> ServicePlan<F> {
    /// A frontend that sends everyone to the same backends, which are in order.
    pub fn alike(flags: u16, backends: impl Into<Arc<[F::Backend]>>) -> Self {
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
    let places = nodes::place(cluster, facts, &mut problems);
    let planned = plan_node(cluster, facts, places, &mut problems);
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
    places: Places<'_>,
    problems: &mut Vec<Problem>,
) -> Result<Plan, Problem> {
    let own = match Own::find(&places, facts) {
        Ok(own) => own,
        Err(why) => return Err(own_problem(cluster, facts, problems, why)),
    };
    let v4 = Part::of(places.v4, &own, facts, problems);
    let v6 = Part::of(places.v6, &own, facts, problems);
    let lacks = lacks::<V4>(v4.is_some(), cluster, facts) || lacks::<V6>(v6.is_some(), cluster, facts);
    if lacks || v4.is_none() && v6.is_none() {
        let why = "it has no pod subnet of its own with room for pods";
        return Err(own_problem(cluster, facts, problems, why));
    }
    let here = Here::of(cluster, &facts.name);
    let mut frontends4 = v4.as_ref().map(|part| Frontends::new(part, here, facts, problems));
    let mut frontends6 = v6.as_ref().map(|part| Frontends::new(part, here, facts, problems));
    let both = (frontends4.as_mut(), frontends6.as_mut());
    let health_checks = services::services(cluster, facts, both, problems);
    let config = config::config(facts, &own, (v4.as_ref(), v6.as_ref()));
    let mut kernel_routes = BTreeSet::new();
    Ok(Plan {
        config,
        v4: tables(v4.zip(frontends4), &own, facts, &mut kernel_routes),
        v6: tables(v6.zip(frontends6), &own, facts, &mut kernel_routes),
        kernel_routes,
        health_checks,
        leaving: cluster.nodes.get(&facts.name).is_some_and(|node| node.leaving),
        problems: Vec::new(),
    })
}

/// Whether the node is to have pods of a family, and could, and yet has no place for them.
fn lacks<F: Family>(is_there: bool, cluster: &Cluster, facts: &NodeFacts) -> bool {
    let asks = |node: &Node| node.pod_cidrs.iter().any(|subnet| F::net(*subnet).is_some());
    !is_there && config::pod_mtu(facts) >= F::LEAST_MTU && cluster.nodes.get(&facts.name).is_some_and(asks)
}

/// A family's tables; its routes of the node's own stack go to those of the other.
fn tables<F: Family>(
    found: Option<(Part<'_, F>, Frontends<'_, F>)>,
    own: &Own,
    facts: &NodeFacts,
    kernel_routes: &mut BTreeSet<KernelRoute>,
) -> FamilyPlan<F> {
    let Some((part, frontends)) = found else {
        return FamilyPlan::default();
    };
    kernel_routes.extend(kernel_routes::kernel_routes(&part, own, facts));
    let mut plan = FamilyPlan {
        endpoints: endpoints::endpoints(&part.own, facts),
        subnets: part.own.subnets,
        routes: part.routes,
        ..FamilyPlan::default()
    };
    frontends.finish(&mut plan);
    plan
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

#[cfg(test)]
mod tests;
