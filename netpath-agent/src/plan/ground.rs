//! What services are planned on: the node itself, and where all others are. No service changes it, so that it stands until a
//! node, a device or a setting does.

use std::{collections::BTreeSet, iter, net::IpAddr, sync::Arc};

use imbl::OrdMap;

use super::{
    FamilyPlan, KernelRoute, NodeFacts, Plan, Problem, Severity, config, endpoints,
    ends::{self, Ends},
    kernel_routes,
    nodes::{self, Places},
    own,
    part::Part,
    routes,
    site::Site,
    topology::Here,
};
use crate::{
    family::{Family, V4, V6},
    model::{Cluster, Node},
};

/// The ground of one node.
pub(super) struct Ground {
    nodes: OrdMap<String, Arc<Node>>,
    /// What it was found by.
    pub facts: NodeFacts,
    /// Where services are served by IPv4, if the node has pods of it.
    pub v4: Option<Site<V4>>,
    /// The same by IPv6.
    pub v6: Option<Site<V6>>,
    /// What is wrong with nodes.
    pub problems: Vec<Problem>,
}

impl Ground {
    /// Finds it, and the plan of a node without services. The problems of both are in the ground.
    ///
    /// # Errors
    /// The node itself cannot be planned: the first problem is the reason, the others are those of all other nodes, and of what
    /// the source could not read.
    pub fn find(cluster: &Cluster, facts: &NodeFacts) -> Result<(Self, Plan), Vec<Problem>> {
        let mut problems = Vec::new();
        let places = nodes::place(cluster, facts, &mut problems);
        let (v4, v6, plan) = match plan(cluster, facts, places, &mut problems) {
            Ok(planned) => planned,
            Err(reason) => {
                let all: BTreeSet<_> = cluster.problems.iter().cloned().chain(problems).collect();
                let others = all.into_iter().filter(|problem| *problem != reason);
                return Err(iter::once(reason.clone()).chain(others).collect());
            }
        };
        let ground = Self {
            nodes: cluster.nodes.clone(),
            facts: facts.clone(),
            v4,
            v6,
            problems,
        };
        Ok((ground, plan))
    }

    /// Whether it is still that of a cluster and of the node's facts.
    pub fn holds(&self, cluster: &Cluster, facts: &NodeFacts) -> bool {
        (self.nodes.ptr_eq(&cluster.nodes) || self.nodes == cluster.nodes) && self.facts == *facts
    }

    /// Where the node is.
    pub fn here(&self) -> Here<'_> {
        Here::of(&self.nodes, &self.facts.name)
    }
}

type Planned = (Option<Site<V4>>, Option<Site<V6>>, Plan);

fn plan(cluster: &Cluster, facts: &NodeFacts, places: Places, problems: &mut Vec<Problem>) -> Result<Planned, Problem> {
    let own = match own::ends(&places, facts) {
        Ok(own) => own,
        Err(why) => return Err(own_problem(cluster, facts, problems, why)),
    };
    own::tell_elsewhere(&places.v4, &own, facts, problems);
    own::tell_elsewhere(&places.v6, &own, facts, problems);
    let pod_mtu = ends::pod_mtu(&own, &places, facts);
    let senders = routes::senders(&places.v4, &own, facts);
    let v4 = Part::of(places.v4, &own, facts, pod_mtu, problems);
    let v6 = Part::of(places.v6, &own, facts, pod_mtu, problems);
    let lacks = lacks(&v4, pod_mtu, cluster, facts) || lacks(&v6, pod_mtu, cluster, facts);
    if lacks || v4.is_none() && v6.is_none() {
        let why = "it has no pod subnet of its own with room for pods";
        return Err(own_problem(cluster, facts, problems, why));
    }
    let sites = (
        v4.as_ref().map(|part| Site::of(part, facts, problems)),
        v6.as_ref().map(|part| Site::of(part, facts, problems)),
    );
    let asked_on_v4 = sites.0.iter().flat_map(Site::asked_on).map(IpAddr::V4);
    let asked_on_v6 = sites.1.iter().flat_map(Site::asked_on).map(IpAddr::V6);
    let mut kernel_routes = BTreeSet::new();
    let plan = Plan {
        health_check_addresses: asked_on_v4.chain(asked_on_v6).collect(),
        config: config::config(facts, &own, pod_mtu, (v4.as_ref(), v6.as_ref())),
        v4: match v4.zip(sites.0.as_ref()) {
            Some(place) => tables(place, &own, facts, &mut kernel_routes),
            None => FamilyPlan {
                routes: senders,
                ..FamilyPlan::default()
            },
        },
        v6: v6.zip(sites.1.as_ref()).map_or_else(FamilyPlan::default, |place| {
            tables(place, &own, facts, &mut kernel_routes)
        }),
        kernel_routes,
        leaving: cluster.nodes.get(&facts.name).is_some_and(|node| node.leaving),
        ..Plan::default()
    };
    Ok((sites.0, sites.1, plan))
}

/// Whether the node is to have pods of a family, and could, and yet has no place for them.
fn lacks<F: Family>(part: &Option<Part<F>>, pod_mtu: u16, cluster: &Cluster, facts: &NodeFacts) -> bool {
    let asks = |node: &Arc<Node>| node.pod_cidrs.iter().any(|subnet| F::net(*subnet).is_some());
    part.is_none() && pod_mtu >= F::LEAST_MTU && cluster.nodes.get(&facts.name).is_some_and(asks)
}

/// A family's tables without services; its routes of the node's own stack go to those of the other.
fn tables<F: Family>(
    (part, site): (Part<F>, &Site<F>),
    own: &Ends,
    facts: &NodeFacts,
    kernel_routes: &mut BTreeSet<KernelRoute>,
) -> FamilyPlan<F> {
    kernel_routes.extend(kernel_routes::kernel_routes(&part, own, facts));
    FamilyPlan {
        endpoints: endpoints::endpoints(&part.own, &site.local_addresses, facts),
        subnets: part.own.subnets,
        routes: part.routes,
        ..FamilyPlan::default()
    }
}

/// Why the node itself cannot be planned, in the words of the problem that lies behind it, if there is one.
fn own_problem(cluster: &Cluster, facts: &NodeFacts, problems: &[Problem], why: &str) -> Problem {
    let mut all = cluster.problems.iter().chain(problems);
    let is_cause = |problem: &&Problem| {
        problem.kind == "Node" && problem.name == facts.name && problem.severity == Severity::Refused
    };
    if let Some(cause) = all.find(is_cause) {
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
