//! What is around the node's plan and not of it: what others have on the node, and pods that the plan no longer reaches.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use netpath_common::abi::endpoint::KIND_POD;

use super::{Settings, facts};
use crate::datapath::{cgroup, pins::Pins, tables};
use crate::family::{Family, V4, V6};
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
pub fn cut_off(pins: &Pins, name: &str, subnets: &[IpNet]) -> Option<String> {
    /// How many are named.
    const NAMED: usize = 8;
    let mut outside = pods::<V4>(pins);
    outside.extend(pods::<V6>(pins));
    outside.retain(|address| !subnets.iter().any(|subnet| subnet.contains(address)));
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

/// The addresses of the node's pods in a family; none where they cannot be read, which is said where they are needed.
fn pods<F: Family>(pins: &Pins) -> Vec<IpAddr> {
    let entries = tables::endpoints::<F>(pins)
        .and_then(|table| table.entries())
        .unwrap_or_default();
    let pods = entries.into_iter().filter(|(_, endpoint)| endpoint.kind == KIND_POD);
    pods.map(|(address, _)| F::Address::from(address).into()).collect()
}
