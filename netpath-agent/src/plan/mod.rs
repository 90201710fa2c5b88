//! What the kernel must hold so that the desired state comes true: a pure function of the cluster's objects and of the
//! node's own facts. [`crate::apply`] brings maps to it, [`crate::net`] the kernel's routes.
//!
//! What concerns a single object was judged when it was read ([`crate::model`]); here objects are held against each other.
//! Of two objects that claim the same, the elder keeps it (by creation, then by name), so that every node decides alike
//! and a newcomer disturbs nobody.

mod facts;
mod kernel_routes;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use netpath_common::abi::{
    config::Config,
    endpoint::Endpoint,
    route::v4::{Route, RouteKey},
    service::v4::{Backend, Frontend},
};

pub use crate::model::{Problem, Severity};
pub use facts::{Device, NodeFacts, Uplink};
pub use kernel_routes::{KernelRoute, Way};

/// What the kernel must hold. All of it is exact: what is not here must not be in the maps either.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// `np_config`.
    pub config: Config,
    /// The entries of `np_endpoint4` that stand for the node itself (`KIND_HOST`). Those of pods are the CNI plugin's.
    pub endpoints4: BTreeMap<[u8; 4], Endpoint>,
    /// `np_route4`.
    pub routes4: BTreeMap<RouteKey, Route>,
    /// `np_service4`, each with what its set in `np_backend4` holds.
    pub services4: BTreeMap<Frontend, ServicePlan>,
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
    /// Who answers, in the order of their addresses and ports, each once. With none, connections are refused.
    pub backends: Vec<Backend>,
}

/// The gateway of a pod subnet: its first address after the subnet's own; `None` where there is no room for a pod.
pub fn gateway(subnet: Ipv4Net) -> Option<Ipv4Addr> {
    (subnet.prefix_len() <= 30).then(|| Ipv4Addr::from_bits(subnet.network().to_bits() | 1))
}
