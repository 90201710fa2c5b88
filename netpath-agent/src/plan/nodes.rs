//! Which node has which addresses and subnets, once their claims are held against each other.

use std::{collections::BTreeMap, iter, sync::Arc};

use ipnet::IpNet;

use super::{NodeFacts, ends::Ends, subnets::Claims};
use crate::{
    family::{Family, V4, V6},
    model::{Cluster, Node, POD_CIDRS, Problem, unusable},
};

/// A node that packets of a family can be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed<F: Family> {
    /// Its name.
    pub name: Arc<str>,
    /// Its own addresses. One without any is reached through its tunnel.
    pub addresses: Vec<F::Address>,
    /// Its pod subnets.
    pub subnets: Vec<F::Net>,
    /// Where its tunnels end: its first address of each family.
    pub ends: Ends,
}

/// The nodes of each family.
pub(super) struct Places {
    pub v4: Vec<Placed<V4>>,
    pub v6: Vec<Placed<V6>>,
}

/// Judges all nodes, the elder first; the node of the facts is among them if it has an address.
pub(super) fn place(cluster: &Cluster, facts: &NodeFacts, problems: &mut Vec<Problem>) -> Places {
    let nodes = cluster.nodes.iter();
    let mut by_age: Vec<(&str, &Node)> = nodes.map(|(name, node)| (name.as_str(), node.as_ref())).collect();
    by_age.sort_by_key(|(name, node)| (node.created, *name));
    for (name, node) in &by_age {
        tell_missing(name, node, problems);
    }
    let v4 = Addresses::<V4>::of(&by_age, problems);
    let v6 = Addresses::<V6>::of(&by_age, problems);
    let both = iter::zip(&v4.by_node, &v6.by_node);
    let ends: Vec<Ends> = both
        .map(|(v4, v6)| Ends {
            v4: v4.first().copied(),
            v6: v6.first().copied(),
        })
        .collect();
    Places {
        v4: v4.place(&by_age, &ends, facts, problems),
        v6: v6.place(&by_age, &ends, facts, problems),
    }
}

fn refused(name: &str, what: String, remedy: &str) -> Problem {
    Problem::refused_global("Node", name, what, remedy)
}

/// What a node must have that pods are to be reached on.
fn tell_missing(name: &str, node: &Node, problems: &mut Vec<Problem>) {
    let has_v4_pods = node.pod_cidrs.iter().any(|subnet| matches!(subnet, IpNet::V4(_)));
    let what = if node.internal_ips.is_empty() {
        "there is no InternalIP"
    } else if has_v4_pods && !node.internal_ips.iter().any(|address| address.is_ipv4()) {
        "there is no InternalIP of IPv4"
    } else {
        if node.pod_cidrs.is_empty() {
            problems.push(refused(
                name,
                format!("{POD_CIDRS}: there is no subnet"),
                "let the controller manager allocate one (--allocate-node-cidrs), or write it into the node",
            ));
        }
        return;
    };
    problems.push(refused(
        name,
        format!("status.addresses: {what}"),
        "wait for the kubelet to register it, or set the kubelet's --node-ip",
    ));
}

/// The nodes' own addresses of a family.
struct Addresses<'a, F: Family> {
    owners: BTreeMap<F::Address, &'a str>,
    /// Of each node, in the order in which they were judged.
    by_node: Vec<Vec<F::Address>>,
}

impl<'a, F: Family> Addresses<'a, F> {
    fn of(by_age: &[(&'a str, &Node)], problems: &mut Vec<Problem>) -> Self {
        let mut addresses = Self {
            owners: BTreeMap::new(),
            by_node: Vec::with_capacity(by_age.len()),
        };
        for (name, node) in by_age {
            let own = addresses.claim(name, node, problems);
            addresses.by_node.push(own);
        }
        addresses
    }

    fn claim(&mut self, name: &'a str, node: &Node, problems: &mut Vec<Problem>) -> Vec<F::Address> {
        let mut own = Vec::new();
        for address in node.internal_ips.iter().copied().filter_map(F::address) {
            if let Some(why) = unusable(address.into()) {
                let what = format!("status.addresses: InternalIP {address} {why}");
                problems.push(refused(
                    name,
                    what,
                    "give the node an address that the other nodes reach (the kubelet's --node-ip)",
                ));
                continue;
            }
            match self.owners.get(&address) {
                Some(owner) if *owner == name => {}
                Some(owner) => problems.push(refused(
                    name,
                    format!("status.addresses: InternalIP {address} is node {owner}'s already"),
                    "give each node an address of its own",
                )),
                None => {
                    self.owners.insert(address, name);
                    own.push(address);
                }
            }
        }
        own
    }

    /// The nodes that have an address of the family, or pods that a tunnel leads to.
    fn place(
        self,
        by_age: &[(&'a str, &Node)],
        ends: &[Ends],
        facts: &NodeFacts,
        problems: &mut Vec<Problem>,
    ) -> Vec<Placed<F>> {
        let mut claims = Claims::<F>::default();
        for range in facts.service_cidrs.iter().copied().filter_map(F::net) {
            claims.reserve(range, format!("the services' range {range}"));
        }
        for segment in &facts.uplink.addresses {
            if let Some(segment) = F::net(segment.trunc()) {
                claims.reserve(segment, format!("the nodes' own network {segment}"));
            }
        }
        let mut placed = Vec::new();
        for (((name, node), addresses), ends) in by_age.iter().zip(self.by_node).zip(ends) {
            let has_pods = || node.pod_cidrs.iter().any(|subnet| F::net(*subnet).is_some());
            if addresses.is_empty() && (ends.v4.is_none() || !has_pods()) {
                continue;
            }
            placed.push(Placed {
                name: (*name).into(),
                addresses,
                subnets: own_subnets::<F>(name, node, &self.owners, &mut claims, problems),
                ends: *ends,
            });
        }
        placed
    }
}

fn own_subnets<F: Family>(
    name: &str,
    node: &Node,
    owners: &BTreeMap<F::Address, &str>,
    claims: &mut Claims<F>,
    problems: &mut Vec<Problem>,
) -> Vec<F::Net> {
    let mut subnets = Vec::new();
    for subnet in node.pod_cidrs.iter().copied().filter_map(F::net) {
        let (first, last) = (F::first(subnet), F::last(subnet));
        let why = unusable(first.into()).or_else(|| unusable(last.into()));
        let conflict = why.map(|why| format!("one end of it {why}")).or_else(|| {
            let inside = owners.range(first..=last).next();
            inside.map(|(address, owner)| format!("it holds {address}, the address of node {owner}"))
        });
        let verdict = match conflict {
            Some(conflict) => Err(conflict),
            None => claims
                .claim(subnet, format!("{subnet} of node {name}"))
                .map_err(|other| format!("it overlaps {other}")),
        };
        match verdict {
            Ok(()) => subnets.push(subnet),
            Err(conflict) => problems.push(refused(
                name,
                format!("{POD_CIDRS}: {subnet} is refused: {conflict}"),
                "give each node a pod subnet of its own, apart from services and nodes (--cluster-cidr of the controller manager)",
            )),
        }
    }
    subnets
}
