//! What a plan must know of its node, from the kernel and the settings.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use netpath_common::names::{BRIDGE_DEVICE, OVERLAY_DEVICE};

use super::{
    Settings,
    settings::{SourceRanges, Switch},
};
use crate::datapath::sys;
use crate::fnv;
use crate::model::{Cluster, Node};
use crate::net::{Error, Netlink, Result, link::Link, uplink::Uplink};
use crate::plan::{self, Device, NodeFacts};

/// The facts, with the uplink's name and kind, which no plan needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What the plan is told.
    pub facts: NodeFacts,
    /// The uplink; `None` if the node has no address yet.
    pub uplink: Option<Uplink>,
}

/// Looks at the kernel. Devices that are not there yet have index 0.
///
/// # Errors
/// The uplink is missing, or the kernel cannot be asked.
pub async fn find(netlink: &Netlink, settings: &Settings, name: &str, seed: u32, cluster: &Cluster) -> Result<Found> {
    let own = cluster.nodes.get(name);
    let uplink = match own {
        Some(node) => uplink(netlink, settings.uplink.as_deref(), node).await?,
        None => None,
    };
    let next_hops = match &uplink {
        Some(uplink) => next_hops(netlink, uplink, cluster, name).await?,
        None => BTreeMap::new(),
    };
    let facts = NodeFacts {
        name: name.to_owned(),
        uplink: uplink
            .as_ref()
            .map(|uplink| planned(uplink, settings.mtu))
            .unwrap_or_default(),
        overlay: device(netlink.link(OVERLAY_DEVICE).await?.as_ref()),
        bridge: device(netlink.link(BRIDGE_DEVICE).await?.as_ref()),
        vni: settings.vni,
        vxlan_port: settings.vxlan_port,
        nat_ports: settings.nat_ports.clone(),
        node_ports: settings.node_ports.clone(),
        node_port_addresses: settings.node_port_addresses.clone(),
        hash_seed: seed,
        maglev_seed: settings.maglev.as_ref().map(|text| fnv::hash32(text.bytes())),
        direct_return: settings.direct_return == Switch::On,
        netns_cookie: sys::netns_cookie().map_err(cookie)?,
        service_cidrs: service_cidrs(&settings.service_cidrs, cluster),
        node_ports_have_sources: settings.source_ranges == SourceRanges::NodePorts,
        external_ip_cidrs: settings.external_ip_cidrs.clone(),
        local_routes: netlink.local_routes().await?,
        next_hops,
    };
    Ok(Found { facts, uplink })
}

fn cookie(source: std::io::Error) -> Error {
    Error::Kernel {
        action: "ask for the network namespace's cookie (Linux 5.14)".to_owned(),
        source,
    }
}

/// Where service addresses come from: what the flag says, or else the cluster, or else what most clusters have.
fn service_cidrs(given: &[IpNet], cluster: &Cluster) -> Vec<IpNet> {
    /// kubeadm's default.
    const USUAL: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 12);
    let told = || {
        cluster
            .service_cidrs
            .values()
            .flat_map(|range| range.cidrs.iter().copied())
    };
    // Ranges of the API may overlap: one that lies in another adds nothing.
    let outermost = |all: Vec<IpNet>| {
        let inside = |one: &IpNet| all.iter().any(|other| other != one && other.contains(one));
        let mut ranges: Vec<IpNet> = all.iter().filter(|one| !inside(one)).copied().collect();
        ranges.sort_unstable();
        ranges.dedup();
        ranges
    };
    match (given, outermost(told().collect())) {
        ([], told) if told.is_empty() => vec![USUAL.into()],
        ([], told) => told,
        (given, _) => given.to_vec(),
    }
}

/// A device as the plan has it.
pub fn device(link: Option<&Link>) -> Device {
    link.map(|link| Device {
        ifindex: link.index,
        mac: link.mac,
    })
    .unwrap_or_default()
}

/// The uplink as the plan has it: with the MTU of the way to other nodes.
fn planned(uplink: &Uplink, mtu: Option<u32>) -> plan::Uplink {
    plan::Uplink {
        device: Device {
            ifindex: uplink.index,
            mac: uplink.mac,
        },
        addresses: uplink.addresses.clone(),
        mtu: mtu.map_or(uplink.mtu, |mtu| mtu.min(uplink.mtu)),
    }
}

/// The device with one of the node's InternalIPs, unless it is named: of IPv4, as tunnels are then, if there is one.
///
/// # Errors
/// [`Error::Missing`] if no device has one of them, or there is none of that name; [`Error::Kernel`].
pub async fn uplink(netlink: &Netlink, name: Option<&str>, node: &Node) -> Result<Option<Uplink>> {
    let has_v4 = node.internal_ips.iter().any(IpAddr::is_ipv4);
    let addresses = node.internal_ips.iter();
    let mut first = None;
    for address in addresses.filter(|address| address.is_ipv4() == has_v4) {
        match netlink.uplink(name, *address).await {
            Ok(uplink) => return Ok(Some(uplink)),
            Err(error) => first = first.or(Some(error)),
        }
    }
    first.map_or(Ok(None), Err)
}

/// Of each other node that is not on the uplink's segment, the router that the kernel would send to, by the family of the tunnel
/// there: IPv4 if both nodes have it. A node that the kernel reaches over another device is left to the kernel.
async fn next_hops(
    netlink: &Netlink,
    uplink: &Uplink,
    cluster: &Cluster,
    own: &str,
) -> Result<BTreeMap<IpAddr, IpAddr>> {
    let has_v4 = |node: &Node| node.internal_ips.iter().any(IpAddr::is_ipv4);
    let own_has_v4 = cluster.nodes.get(own).is_some_and(|node| has_v4(node));
    let others = cluster.nodes.iter().filter(|(name, _)| *name != own);
    let ends = others.flat_map(|(_, node)| {
        let over_v4 = own_has_v4 && has_v4(node);
        node.internal_ips
            .iter()
            .filter(move |address| address.is_ipv4() == over_v4)
    });
    let addresses: BTreeSet<IpAddr> = ends
        .copied()
        .filter(|address| !uplink.addresses.iter().any(|segment| segment.contains(address)))
        .collect();
    let mut hops = BTreeMap::new();
    for address in addresses {
        let hop = netlink
            .next_hop(address)
            .await?
            .filter(|hop| hop.device == uplink.index);
        if let Some(gateway) = hop.and_then(|hop| hop.gateway) {
            hops.insert(address, gateway);
        }
    }
    Ok(hops)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::ServiceCidr;

    fn nets<const N: usize>(texts: [&str; N]) -> Vec<IpNet> {
        texts.map(|text| text.parse().unwrap()).to_vec()
    }

    #[test]
    fn what_passes_between_nodes_may_be_less_than_the_uplink_takes_and_never_more() {
        let uplink = Uplink {
            index: 2,
            name: "eth0".into(),
            kind: String::new(),
            mtu: 9_001,
            mac: [2; 6],
            addresses: Vec::new(),
        };
        for (set, mtu) in [(None, 9_001), (Some(1_500), 1_500), (Some(9_216), 9_001)] {
            assert_eq!(planned(&uplink, set).mtu, mtu);
        }
    }

    #[test]
    fn the_flag_wins_over_the_cluster_and_that_over_the_usual() {
        let mut cluster = Cluster::default();
        assert_eq!(service_cidrs(&[], &cluster), nets(["10.96.0.0/12"]));
        for (name, cidrs) in [
            ("kubernetes", nets(["10.43.0.0/16", "fd00::/108"])),
            ("inside", nets(["10.43.7.0/24"])),
            ("twice", nets(["10.43.0.0/16"])),
            ("beside", nets(["10.44.0.0/20"])),
        ] {
            cluster
                .service_cidrs
                .insert(name.to_owned(), Arc::new(ServiceCidr { cidrs }));
        }
        let told = nets(["10.43.0.0/16", "10.44.0.0/20", "fd00::/108"]);
        assert_eq!(service_cidrs(&[], &cluster), told);
        let given = nets(["10.0.0.0/24"]);
        assert_eq!(service_cidrs(&given, &cluster), given);
    }
}
