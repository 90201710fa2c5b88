//! Which node has which addresses and subnets, once their claims are held against each other.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net};

use super::{NodeFacts, subnets::Claims};
use crate::model::{Cluster, Node, ObjectName, Problem, unusable};

/// A node that packets can be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where its tunnel ends: its first address.
    pub address: Ipv4Addr,
    /// All its own addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// Its pod subnets.
    pub subnets: Vec<Ipv4Net>,
}

/// Judges all nodes, the elder first; the node of the facts is among them if it has an address.
pub(super) fn place<'a>(cluster: &'a Cluster, facts: &NodeFacts, problems: &mut Vec<Problem>) -> Vec<Placed<'a>> {
    let mut by_age: Vec<_> = cluster.nodes.iter().collect();
    by_age.sort_by_key(|(name, node)| (node.created, *name));

    let mut owners: BTreeMap<Ipv4Addr, &str> = BTreeMap::new();
    let mut placed = Vec::with_capacity(by_age.len());
    for (name, node) in &by_age {
        let addresses = own_addresses(name, node, &mut owners, problems);
        if let Some(address) = addresses.first().copied() {
            placed.push(Placed {
                name,
                address,
                addresses,
                subnets: Vec::new(),
            });
        }
    }

    let mut claims = Claims::default();
    for range in &facts.service_cidrs {
        if let IpNet::V4(range) = range {
            claims.reserve(*range, format!("the services' range {range}"));
        }
    }
    for address in &facts.uplink.addresses {
        if let IpNet::V4(segment) = address {
            claims.reserve(segment.trunc(), format!("the nodes' own network {}", segment.trunc()));
        }
    }
    for node in &mut placed {
        let Some(object) = cluster.nodes.get(node.name) else {
            continue;
        };
        node.subnets = own_subnets(node.name, object, &owners, &mut claims, problems);
    }
    placed
}

fn refused(name: &str, what: String, remedy: &str) -> Problem {
    Problem::refused_global("Node", name, what, remedy)
}

fn own_addresses<'a>(
    name: &'a str,
    node: &Node,
    owners: &mut BTreeMap<Ipv4Addr, &'a str>,
    problems: &mut Vec<Problem>,
) -> Vec<Ipv4Addr> {
    let mut addresses = Vec::new();
    for address in &node.internal_ips {
        let IpAddr::V4(v4) = *address else { continue };
        if let Some(why) = unusable(*address) {
            let what = format!("status.addresses: InternalIP {v4} {why}");
            problems.push(refused(
                name,
                what,
                "give the node an address that the other nodes reach (the kubelet's --node-ip)",
            ));
            continue;
        }
        match owners.get(&v4) {
            Some(owner) if *owner == name => {}
            Some(owner) => problems.push(refused(
                name,
                format!("status.addresses: InternalIP {v4} is node {owner}'s already"),
                "give each node an address of its own",
            )),
            None => {
                owners.insert(v4, name);
                addresses.push(v4);
            }
        }
    }
    if node.internal_ips.iter().all(IpAddr::is_ipv6) {
        problems.push(refused(
            name,
            "status.addresses: there is no InternalIP of IPv4".into(),
            "wait for the kubelet to register it, or set the kubelet's --node-ip",
        ));
    }
    addresses
}

fn own_subnets(
    name: &str,
    node: &Node,
    owners: &BTreeMap<Ipv4Addr, &str>,
    claims: &mut Claims,
    problems: &mut Vec<Problem>,
) -> Vec<Ipv4Net> {
    let mut subnets = Vec::new();
    for subnet in &node.pod_cidrs {
        let subnet = match subnet {
            IpNet::V4(subnet) => *subnet,
            IpNet::V6(subnet) => {
                problems.push(Problem::not_served(
                    "Node",
                    &ObjectName::new("", name),
                    format!("spec.podCIDRs: {subnet} is IPv6, which is not served yet"),
                    "pods have IPv4 addresses alone until then; nothing needs to be done",
                ));
                continue;
            }
        };
        let why = unusable(subnet.network().into()).or_else(|| unusable(subnet.broadcast().into()));
        let conflict = why.map(|why| format!("one end of it {why}")).or_else(|| {
            let inside = owners.range(subnet.network()..=subnet.broadcast()).next();
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
                format!("spec.podCIDRs: {subnet} is refused: {conflict}"),
                "give each node a pod subnet of its own, apart from services and nodes (--cluster-cidr of the controller manager)",
            )),
        }
    }
    if !node.pod_cidrs.iter().any(|subnet| matches!(subnet, IpNet::V4(_))) {
        problems.push(refused(
            name,
            "spec.podCIDRs: there is no IPv4 subnet".into(),
            "let the controller manager allocate one (--allocate-node-cidrs), or write it into the node",
        ));
    }
    subnets
}
