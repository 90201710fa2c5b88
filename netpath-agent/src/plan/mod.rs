//! What the kernel must hold so that the desired state comes true: a pure function of the cluster's objects and of the
//! node's own facts. [`crate::apply`] brings maps to it, [`crate::net`] the kernel's routes.
//!
//! What concerns a single object was judged when it was read ([`crate::model`]); here objects are held against each other.
//! Of two objects that claim the same, the elder keeps it (by creation, then by name), so that every node decides alike
//! and a newcomer disturbs nobody.

mod addresses;
mod affinity;
mod backends;
mod changes;
mod claims;
mod config;
mod endpoints;
mod ends;
mod facts;
mod frontends;
mod ground;
mod judge;
mod kernel_routes;
mod node_port_addresses;
mod node_ports;
mod nodes;
mod occupied;
mod own;
mod part;
mod planner;
mod routes;
mod services;
mod site;
mod sources;
mod subnets;
mod topology;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use netpath_common::abi::{config::Config, endpoint::Endpoint};

use crate::{
    family::{Family, V4, V6},
    model::{Cluster, ObjectName},
};

pub use crate::model::{Problem, Severity};
pub use changes::{Changes, FamilyChanges};
pub use facts::{Device, NODE_PORTS, NodeFacts, Uplink};
pub use kernel_routes::{KernelRoute, Way};
pub use node_port_addresses::NodePortAddresses;
pub use planner::Planner;

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
    /// The addresses of the node on which they may ask; the unspecified one of a family is all of that family.
    pub health_check_addresses: BTreeSet<IpAddr>,
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

    /// The node's own addresses, those toward its pods among them.
    pub fn own_addresses(&self) -> BTreeSet<IpAddr> {
        let v4 = self.v4.endpoints.keys().copied().map(IpAddr::from);
        let v6 = self.v6.endpoints.keys().copied().map(IpAddr::from);
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
    /// Whether what comes from elsewhere is spread by a table in `np_maglev*`, as on every other node.
    pub maglev: bool,
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

/// Plans the node named in the facts, from nothing.
///
/// # Errors
/// The node itself cannot be planned: its object, InternalIP or pod subnet is missing or taken. Whatever the kernel holds
/// then stays as it is. The first problem is the reason; the others are those of all other nodes, and of what the source
/// could not read.
pub fn plan(cluster: &Cluster, facts: &NodeFacts) -> Result<Plan, Vec<Problem>> {
    let mut planner = Planner::default();
    planner.plan(cluster, facts).cloned()
}

#[cfg(test)]
mod tests;
