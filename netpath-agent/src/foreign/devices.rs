//! Devices of other networks, their addresses, and routes to pods that are not netpath's.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use netpath_common::names::{BRIDGE_DEVICE, OVERLAY_DEVICE};

use super::{Finding, NAMED, Scene, owners};
use crate::net::link::Link;
use crate::net::{Netlink, Result};

/// How many routes and addresses are told of each: more have one cause.
const MOST: usize = 8;

/// Everything of the kind.
///
/// # Errors
/// The kernel does not tell.
pub(super) async fn find(netlink: &Netlink, scene: &Scene<'_>) -> Result<Vec<Finding>> {
    let links = netlink.links().await?;
    let mut findings = Vec::new();
    let mut owned: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    // What hangs on a device that is told of itself goes with it.
    let mut told: BTreeSet<u32> = BTreeSet::new();
    for link in &links {
        if let Some(owner) = owners::of_device(&link.name) {
            owned.entry(owner).or_default().push(link.name.clone());
            told.insert(link.index);
        }
        if link.name == BRIDGE_DEVICE || link.name == OVERLAY_DEVICE {
            told.insert(link.index);
        } else if link.vxlan.is_some_and(|vxlan| vxlan.port == scene.vxlan_port) {
            findings.push(Finding::VxlanPort {
                device: link.name.clone(),
                port: scene.vxlan_port,
            });
        }
    }
    for (owner, mut names) in owned {
        let count = names.len();
        names.sort();
        names.truncate(NAMED);
        findings.push(Finding::Devices { owner, names, count });
    }
    let name = |index: u32| {
        let link = links.iter().find(|link: &&Link| link.index == index);
        link.map_or_else(|| format!("#{index}"), |link| link.name.clone())
    };
    let addresses = netlink.addresses().await?.into_iter();
    let addresses = addresses.filter(|(index, address)| {
        let of_pods = || holder(&scene.pod_subnets, &IpNet::from(address.addr())).is_some();
        !told.contains(index) && of_pods()
    });
    findings.extend(addresses.take(MOST).map(|(index, address)| Finding::Address {
        address,
        device: name(index),
    }));
    let routes = netlink.foreign_routes().await?.into_iter();
    let routes = routes.filter(|route| {
        let to_pods = || holder(&scene.pod_subnets, &route.destination).is_some();
        !route.device.is_some_and(|device| told.contains(&device)) && to_pods()
    });
    findings.extend(routes.take(MOST).map(|route| {
        let via = route
            .gateway
            .map_or_else(String::new, |gateway| format!(" via {gateway}"));
        let device = route
            .device
            .map_or_else(String::new, |device| format!(" dev {}", name(device)));
        let protocol = route.protocol;
        Finding::Route {
            route: format!("{}{via}{device} proto {protocol}", route.destination),
        }
    }));
    Ok(findings)
}

/// The pod subnet that holds all of a net. Pod subnets are disjoint but for mistakes, so that few begin before it and hold it.
fn holder<'a>(subnets: &'a BTreeSet<IpNet>, net: &IpNet) -> Option<&'a IpNet> {
    subnets.iter().find(|subnet| subnet.contains(net))
}
