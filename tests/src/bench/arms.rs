//! The names of all arms, and those of the rivals; netpath's own are in [`super::own`].

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};

use super::{
    floor::{self, Crossing},
    measure::{Arm, Group},
    rivals::{self, Pair, Way, uplink},
    rules::{self, Rules},
    workload::{Ends, PORT},
};

/// One bare veth pair between two pods.
pub const BARE: &str = "bare veth pair";
/// The same over IPv6.
pub const BARE_6: &str = "bare veth pair, IPv6";
/// Two pods on the kernel's bridge.
pub const BRIDGE: &str = "bridge";
/// The same under kube-proxy's rules.
pub const BRIDGE_CHAINS: &str = "bridge + kube-proxy, 10 services";
/// The same with many services.
pub const BRIDGE_MANY: &str = "bridge + kube-proxy, 10,000 services";
/// The same under the rules of kube-proxy's nftables mode.
pub const BRIDGE_FLAT: &str = "bridge + kube-proxy nftables";
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

/// The same behind the rules of its nftables mode, which cost the same for any number.
pub const SERVICE_FLAT: &str = "kube-proxy nftables";
/// Programs that only redirect, between two pods of one node.
pub const FLOOR: &str = "floor: redirect alone";
/// The same out of the uplink and into a pod of another node.
pub const FLOOR_DIRECT: &str = "floor: redirects alone, direct";
/// The same with VXLAN headers put on and taken off.
pub const FLOOR_TUNNEL: &str = "floor: redirects alone, tunnel";
/// Two pods of one node under netpath.
pub const NETPATH: &str = "netpath";
/// The same over IPv6.
pub const NETPATH_6: &str = "netpath, IPv6";
/// Pods of two nodes on one segment.
pub const NETPATH_DIRECT: &str = "netpath direct";
/// The same over IPv6.
pub const NETPATH_DIRECT_6: &str = "netpath direct, IPv6";
/// Pods of two nodes with a router between.
pub const NETPATH_TUNNEL: &str = "netpath tunnel";
/// The same over IPv6.
pub const NETPATH_TUNNEL_6: &str = "netpath tunnel, IPv6";
/// A ClusterIP whose backend is on the client's node.
pub const NETPATH_SERVICE: &str = "netpath, local backend";
/// A ClusterIP whose backend is on another node, reached directly.
pub const NETPATH_SERVICE_DIRECT: &str = "netpath, remote backend";
/// The same over IPv6.
pub const NETPATH_SERVICE_6: &str = "netpath, remote backend, IPv6";
/// The same among many services.
pub const NETPATH_SERVICE_MANY: &str = "netpath, 45,000 services";
/// A pod of another node, from a process of a node.
pub const NETPATH_HOST: &str = "netpath, the pod's own address";
/// The same behind a ClusterIP.
pub const NETPATH_HOST_SERVICE: &str = "netpath, ClusterIP";
/// From outside to a node's port whose backend is on another node.
pub const NETPATH_NODE_PORT: &str = "netpath, NodePort";
/// The same behind kube-proxy's rules.
pub const NODE_PORT_CHAINS: &str = "kube-proxy, NodePort, 10 services";
/// The same behind the rules of its nftables mode.
pub const NODE_PORT_FLAT: &str = "kube-proxy nftables, NodePort";

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

fn arm(name: &'static str, group: Group, pair: Pair, port: u16, target: SocketAddr) -> Result<Arm> {
    let ends = Ends::open(&pair.client, &pair.server, port, target).with_context(|| name.to_owned())?;
    Ok(Arm {
        name,
        group,
        ends,
        nodes: pair.nodes,
        links: pair.links,
    })
}

/// Builds every rival that is asked for.
///
/// # Errors
/// When the kernel or the tool for netfilter's rules refuses a part; the error names the arm.
pub fn rivals(selection: &Selection<'_>) -> Result<Vec<Arm>> {
    let mut arms = Vec::new();
    for rival in RIVALS {
        let Rival { name, group, .. } = rival;
        if !selection.wants(name) || rival.long() && selection.quick {
            continue;
        }
        if let Some(tool) = rival.rules.tool().filter(|tool| !tool.available()) {
            eprintln!(
                "skipped: {name}, for {} is missing: install the package {}",
                tool.program, tool.package
            );
            continue;
        }
        eprintln!("setting up: {name}");
        let pair = rival.build().with_context(|| name.to_owned())?;
        let target: (IpAddr, u16) = match group {
            Group::Service => (rules::SERVICE.into(), rules::SERVICE_PORT),
            Group::NodePort => (uplink(1).into(), rules::NODE_PORT),
            Group::SameNode | Group::AcrossNodes | Group::Host => (pair.address, PORT),
        };
        arms.push(arm(name, group, pair, PORT, target.into())?);
    }
    Ok(arms)
}

/// A rival's, or the floor's, place in the report, and what it is made of.
struct Rival {
    name: &'static str,
    group: Group,
    ground: Kind,
    rules: Rules,
}

/// What carries a rival's packets.
#[derive(Clone, Copy)]
enum Kind {
    Bare,
    Bare6,
    Bridge,
    ThroughNode,
    Across(Way),
    Floor,
    FloorAcross(Crossing),
}

const fn rival(name: &'static str, group: Group, ground: Kind, rules: Rules) -> Rival {
    Rival {
        name,
        group,
        ground,
        rules,
    }
}

const FEW: u16 = 10;
const MANY: u16 = 10_000;

const RIVALS: [Rival; 18] = [
    rival(BARE, Group::SameNode, Kind::Bare, Rules::None),
    rival(BARE_6, Group::SameNode, Kind::Bare6, Rules::None),
    rival(BRIDGE, Group::SameNode, Kind::Bridge, Rules::None),
    rival(BRIDGE_CHAINS, Group::SameNode, Kind::Bridge, Rules::Chains(FEW)),
    rival(BRIDGE_MANY, Group::SameNode, Kind::Bridge, Rules::Chains(MANY)),
    rival(BRIDGE_FLAT, Group::SameNode, Kind::Bridge, Rules::Flat(FEW)),
    rival(FLOOR, Group::SameNode, Kind::Floor, Rules::None),
    rival(VXLAN, Group::AcrossNodes, Kind::Across(Way::Vxlan), Rules::None),
    rival(
        VXLAN_CHAINS,
        Group::AcrossNodes,
        Kind::Across(Way::Vxlan),
        Rules::Chains(FEW),
    ),
    rival(
        HOST_GATEWAY,
        Group::AcrossNodes,
        Kind::Across(Way::HostGateway),
        Rules::None,
    ),
    rival(
        HOST_GATEWAY_CHAINS,
        Group::AcrossNodes,
        Kind::Across(Way::HostGateway),
        Rules::Chains(FEW),
    ),
    rival(
        FLOOR_DIRECT,
        Group::AcrossNodes,
        Kind::FloorAcross(Crossing::Direct),
        Rules::None,
    ),
    rival(
        FLOOR_TUNNEL,
        Group::AcrossNodes,
        Kind::FloorAcross(Crossing::Tunnel),
        Rules::None,
    ),
    rival(SERVICE_CHAINS, Group::Service, Kind::Bridge, Rules::Chains(FEW)),
    rival(SERVICE_MANY, Group::Service, Kind::Bridge, Rules::Chains(MANY)),
    rival(SERVICE_FLAT, Group::Service, Kind::Bridge, Rules::Flat(FEW)),
    rival(NODE_PORT_CHAINS, Group::NodePort, Kind::ThroughNode, Rules::Chains(FEW)),
    rival(NODE_PORT_FLAT, Group::NodePort, Kind::ThroughNode, Rules::Flat(FEW)),
];

impl Rival {
    fn build(&self) -> Result<Pair> {
        match self.ground {
            Kind::Bare => rivals::bare(rivals::pod),
            Kind::Bare6 => rivals::bare(rivals::pod6),
            Kind::ThroughNode => rivals::through_a_node(self.rules),
            Kind::Bridge => rivals::bridge(self.rules),
            Kind::Across(way) => rivals::across(way, self.rules),
            Kind::Floor => floor::same_node(),
            Kind::FloorAcross(crossing) => floor::across(crossing),
        }
    }

    /// Whether the tool needs seconds for the rules.
    fn long(&self) -> bool {
        matches!(self.rules, Rules::Chains(MANY) | Rules::Flat(MANY))
    }
}
