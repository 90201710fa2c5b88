//! What is around the node's plan and not of it: what others have on the node, and pods that the plan no longer reaches.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use netpath_common::abi::endpoint::KIND_POD;

use super::{Settings, facts};
use crate::datapath::{cgroup, pins::Pins, tables};
use crate::foreign::{self, Finding, Scene};
use crate::model::Cluster;
use crate::net::Netlink;

/// Looks for what others have on the node.
pub async fn look(netlink: &Netlink, settings: &Settings, name: &str, cluster: &Cluster) -> BTreeSet<Finding> {
    let uplink = match cluster.nodes.get(name) {
        Some(node) => facts::uplink(netlink, settings.uplink.as_deref(), node).await,
        None => Ok(None),
    };
    // That there is none is said where it is needed.
    let uplink = uplink.ok().flatten().map(|uplink| uplink.name);
    let cgroup = cgroup::root(settings.cgroup_root.as_deref()).ok();
    let pod_subnets = cluster.nodes.values().flat_map(|node| &node.pod_cidrs);
    let scene = Scene {
        cni_conf_dir: &settings.cni_conf_dir,
        conflist_name: &settings.conflist_name,
        pins: &Pins::new(&settings.bpf_root),
        uplink: uplink.as_deref().or(settings.uplink.as_deref()),
        cgroup: cgroup.as_deref(),
        vxlan_port: settings.vxlan_port,
        pod_subnets: pod_subnets.copied().collect(),
    };
    foreign::look(netlink, &scene).await
}

/// The pods to which nobody finds a way, since the node's subnets are others than when they started.
pub fn cut_off(pins: &Pins, name: &str, subnets: &[Ipv4Net]) -> Option<String> {
    /// How many are named.
    const NAMED: usize = 8;
    // That they cannot be read is said where they are needed.
    let endpoints = tables::endpoints::<[u8; 4]>(pins)
        .and_then(|table| table.entries())
        .ok()?;
    let pods = endpoints.iter().filter(|(_, endpoint)| endpoint.kind == KIND_POD);
    let mut outside: Vec<Ipv4Addr> = pods
        .map(|(address, _)| Ipv4Addr::from(*address))
        .filter(|address| !subnets.iter().any(|subnet| subnet.contains(address)))
        .collect();
    outside.sort_unstable();
    let first = outside.first()?;
    let named: Vec<String> = outside.iter().take(NAMED).map(ToString::to_string).collect();
    let named = foreign::some(&named, outside.len());
    let subnets: Vec<String> = subnets.iter().map(ToString::to_string).collect();
    let subnets = subnets.join(", ");
    Some(format!(
        "Node {name}: its pod subnets are now {subnets}, and pods have addresses of earlier ones, to which nobody finds a way: \
         {named}; delete these pods, so that they are made anew, or give the Node the subnet of {first} back"
    ))
}
