//! What a whole round found, for the rounds after it that are for services and endpoints alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;

use crate::model::{Cluster, Node, ServiceCidr};
use crate::plan::NodeFacts;

/// What stands as long as neither nodes nor the ranges of services change, nor anything in the kernel.
pub struct Standing {
    nodes: OrdMap<String, Arc<Node>>,
    service_cidrs: OrdMap<String, Arc<ServiceCidr>>,
    /// The node, as it found itself.
    pub facts: NodeFacts,
    /// What is wrong with the node itself.
    pub warnings: BTreeSet<String>,
}

impl Standing {
    /// What was found with a cluster's objects.
    pub fn of(cluster: &Cluster, facts: NodeFacts, warnings: BTreeSet<String>) -> Self {
        Self {
            nodes: cluster.nodes.clone(),
            service_cidrs: cluster.service_cidrs.clone(),
            facts,
            warnings,
        }
    }

    /// Whether it stands with a cluster's objects too.
    pub fn holds(&self, cluster: &Cluster) -> bool {
        self.nodes == cluster.nodes && self.service_cidrs == cluster.service_cidrs
    }
}
