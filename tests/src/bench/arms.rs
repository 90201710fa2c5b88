//! The list of arms that one run times.

use std::net::SocketAddrV4;

use anyhow::{Context as _, Result};

use super::{
    floor::{self, Crossing},
    measure::{Arm, Group},
    rivals::{self, Pair, Way},
    rules::{self, Rules},
    site::{FAR_SERVICE, Ground, NEAR_SERVICE, Site},
    workload::{Ends, PORT, SECOND_PORT},
};

/// One bare veth pair between two pods.
pub const BARE: &str = "bare veth pair";
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
/// Pods of two nodes on one segment.
pub const NETPATH_DIRECT: &str = "netpath direct";
/// Pods of two nodes with a router between.
pub const NETPATH_TUNNEL: &str = "netpath tunnel";
/// A ClusterIP whose backend is on the client's node.
pub const NETPATH_SERVICE: &str = "netpath, local backend";
/// A ClusterIP whose backend is on another node, reached directly.
pub const NETPATH_SERVICE_DIRECT: &str = "netpath, remote backend";

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

/// The arms of one of netpath's sites.
///
/// # Errors
/// When a path does not carry a connection; the error names the arm.
pub fn own(selection: &Selection<'_>, site: &Site) -> Result<Vec<Arm>> {
    let mut arms = Vec::new();
    for (name, group, ground, near, target) in OWN {
        if ground != site.ground() || !selection.wants(name) {
            continue;
        }
        let pair = if near { site.near()? } else { site.far()? };
        // A service leads to the first port, where another arm's server may listen on the same pod.
        let (port, target) = match target {
            Some(service) => (PORT, service),
            None => (SECOND_PORT, SocketAddrV4::new(pair.address, SECOND_PORT)),
        };
        arms.push(arm(name, group, pair, port, target)?);
    }
    Ok(arms)
}

/// Whether an arm of netpath's on this ground is asked for.
pub fn wants_own(selection: &Selection<'_>, ground: Ground) -> bool {
    OWN.iter()
        .any(|(name, _, on, ..)| *on == ground && selection.wants(name))
}

/// Name, group, ground, whether the server is on the client's node, the address if it is not the server's.
type Own = (&'static str, Group, Ground, bool, Option<SocketAddrV4>);
const OWN: [Own; 5] = [
    (NETPATH, Group::SameNode, Ground::Segment, true, None),
    (NETPATH_DIRECT, Group::AcrossNodes, Ground::Segment, false, None),
    (NETPATH_TUNNEL, Group::AcrossNodes, Ground::Routed, false, None),
    (
        NETPATH_SERVICE,
        Group::Service,
        Ground::Segment,
        true,
        Some(NEAR_SERVICE),
    ),
    (
        NETPATH_SERVICE_DIRECT,
        Group::Service,
        Ground::Segment,
        false,
        Some(FAR_SERVICE),
    ),
];

fn arm(name: &'static str, group: Group, pair: Pair, port: u16, target: SocketAddrV4) -> Result<Arm> {
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
        let target = match group {
            Group::Service => SocketAddrV4::new(rules::SERVICE, rules::SERVICE_PORT),
            Group::SameNode | Group::AcrossNodes => SocketAddrV4::new(pair.address, PORT),
        };
        arms.push(arm(name, group, pair, PORT, target)?);
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
    Bridge,
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

const RIVALS: [Rival; 15] = [
    rival(BARE, Group::SameNode, Kind::Bare, Rules::None),
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
];

impl Rival {
    fn build(&self) -> Result<Pair> {
        match self.ground {
            Kind::Bare => rivals::bare(),
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
