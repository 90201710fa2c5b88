//! The list of arms that one run times.

use std::net::SocketAddrV4;

use anyhow::{Context as _, Result};

use super::{
    chains,
    measure::{Arm, Group},
    rivals::{self, Pair, Way},
    workload::{Ends, PORT},
};

/// One bare veth pair between two pods.
pub const BARE: &str = "bare veth pair";
/// Two pods on the kernel's bridge.
pub const BRIDGE: &str = "bridge";
/// The same under kube-proxy's rules.
pub const BRIDGE_CHAINS: &str = "bridge + kube-proxy, 10 services";
/// The same with many services.
pub const BRIDGE_MANY: &str = "bridge + kube-proxy, 10,000 services";
/// Flannel's VXLAN.
pub const VXLAN: &str = "flannel vxlan";
/// The same under kube-proxy's rules.
pub const VXLAN_CHAINS: &str = "flannel vxlan + kube-proxy";
/// Flannel's host-gw.
pub const HOST_GATEWAY: &str = "flannel host-gw";
/// The same under kube-proxy's rules.
pub const HOST_GATEWAY_CHAINS: &str = "flannel host-gw + kube-proxy";
/// A ClusterIP behind kube-proxy's rules.
pub const SERVICE_CHAINS: &str = "kube-proxy, 10 services";
/// The same with many services.
pub const SERVICE_MANY: &str = "kube-proxy, 10,000 services";

/// Two pods of one node under netpath.
pub const NETPATH: &str = "netpath";
/// Pods of two nodes on one segment.
pub const NETPATH_DIRECT: &str = "netpath direct";
/// Pods of two nodes with a router between.
pub const NETPATH_TUNNEL: &str = "netpath tunnel";
/// A ClusterIP whose backend is on the client's node.
pub const NETPATH_SERVICE: &str = "netpath, backend on the same node";
/// A ClusterIP whose backend is on another node, reached directly.
pub const NETPATH_SERVICE_DIRECT: &str = "netpath, backend on another node";

/// Whether an arm is netpath's.
pub fn is_own(arm: &str) -> bool {
    arm.starts_with(NETPATH)
}

/// What to build.
pub struct Selection<'a> {
    /// Leaves out what takes long to set up.
    pub quick: bool,
    /// Only arms whose name contains this, whatever the case.
    pub only: Option<&'a str>,
}

impl Selection<'_> {
    /// Whether something of this name is asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.only
            .is_none_or(|part| name.to_lowercase().contains(&part.to_lowercase()))
    }
}

/// Builds every rival that is asked for.
///
/// # Errors
/// When the kernel or the tool for netfilter's rules refuses a part; the error names the arm.
pub fn rivals(selection: &Selection<'_>) -> Result<Vec<Arm>> {
    type Build = fn() -> Result<Pair>;
    let chains = chains::available();
    if !chains {
        eprintln!(
            "skipped: every arm with kube-proxy's rules, for {} is missing (package iptables)",
            chains::TOOL
        );
    }
    // Name, group, whether it needs the rules, whether it takes long, whether the client speaks to the service.
    let plan: [(&'static str, Group, bool, bool, bool, Build); 10] = [
        (BARE, Group::SameNode, false, false, false, rivals::bare),
        (BRIDGE, Group::SameNode, false, false, false, || rivals::bridge(None)),
        (BRIDGE_CHAINS, Group::SameNode, true, false, false, || {
            rivals::bridge(Some(10))
        }),
        (BRIDGE_MANY, Group::SameNode, true, true, false, || {
            rivals::bridge(Some(10_000))
        }),
        (VXLAN, Group::AcrossNodes, false, false, false, || {
            rivals::across(Way::Vxlan, None)
        }),
        (VXLAN_CHAINS, Group::AcrossNodes, true, false, false, || {
            rivals::across(Way::Vxlan, Some(10))
        }),
        (HOST_GATEWAY, Group::AcrossNodes, false, false, false, || {
            rivals::across(Way::HostGateway, None)
        }),
        (HOST_GATEWAY_CHAINS, Group::AcrossNodes, true, false, false, || {
            rivals::across(Way::HostGateway, Some(10))
        }),
        (SERVICE_CHAINS, Group::Service, true, false, true, || {
            rivals::bridge(Some(10))
        }),
        (SERVICE_MANY, Group::Service, true, true, true, || {
            rivals::bridge(Some(10_000))
        }),
    ];
    let mut arms = Vec::new();
    for (name, group, rules, long, service, build) in plan {
        if !selection.wants(name) || rules && !chains || long && selection.quick {
            continue;
        }
        eprintln!("setting up: {name}");
        let pair = build().with_context(|| name.to_owned())?;
        let target = if service {
            SocketAddrV4::new(chains::SERVICE, chains::SERVICE_PORT)
        } else {
            SocketAddrV4::new(pair.address, PORT)
        };
        let ends = Ends::open(&pair.client, &pair.server, target).with_context(|| name.to_owned())?;
        arms.push(Arm {
            name,
            group,
            ends,
            nodes: pair.nodes,
        });
    }
    Ok(arms)
}
