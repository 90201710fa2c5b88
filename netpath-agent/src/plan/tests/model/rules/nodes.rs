//! How node `a` reaches the others: netpath's own rules, from the words of ARCHITECTURE.md.
//!
//! Nodes with an address of a family on one segment send each other that family directly. All else goes through the one tunnel that
//! two nodes have: over IPv4 where both have it, whatever it carries; over IPv6 where they have no IPv4 in common, and then it
//! carries IPv6 alone. A tunnel begins and ends at a node's first address of its family. One that would leave IPv6 less than its
//! 1280 bytes takes none of it. Pods that nothing leads to are nobody's.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;

use super::super::world::{Family, ROUTERS, Settings, World, segment};

/// How a packet gets to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To this neighbour.
    Direct(IpAddr),
    Tunnel {
        local: IpAddr,
        remote: IpAddr,
        /// Where the uplink sends it, if that is known: to the other end itself on the segment.
        next_hop: Option<IpAddr>,
    },
}

/// The nodes as node `a` must know them.
#[derive(Debug, Default)]
pub struct Nodes {
    /// The addresses of all nodes.
    addresses: BTreeSet<IpAddr>,
    /// The subnet of its own pods, in each family.
    own: Vec<IpNet>,
    /// The subnets of other nodes' pods.
    pub subnets: BTreeMap<IpNet, Way>,
    /// The addresses of other nodes.
    pub others: BTreeMap<IpNet, Way>,
    /// What pods' packets may have.
    pub pod_mtu: u16,
}

/// The least that IPv6 needs.
const LEAST: u16 = 1280;

/// What a tunnel over a family leaves of a packet: it adds IP, UDP, VXLAN and the inner frame's Ethernet header.
fn left(over: Family, settings: &Settings) -> u16 {
    let ip = match over {
        Family::V4 => 20,
        Family::V6 => 40,
    };
    settings.mtu - ip - 8 - 8 - 14
}

fn internal_ips(node: &core::Node) -> Vec<IpAddr> {
    let addresses = node.status.as_ref().and_then(|status| status.addresses.as_ref());
    let internal = addresses.into_iter().flatten().filter(|one| one.type_ == "InternalIP");
    internal.map(|one| one.address.parse().unwrap()).collect()
}

/// The subnets of a node's pods that are of the families.
fn pod_cidrs(node: &core::Node, families: &[Family]) -> Vec<IpNet> {
    let written = node.spec.as_ref().and_then(|spec| spec.pod_cidrs.as_ref());
    let subnets = written
        .into_iter()
        .flatten()
        .map(|subnet| subnet.parse::<IpNet>().unwrap());
    subnets
        .filter(|subnet| families.contains(&Family::of(subnet.addr())))
        .collect()
}

fn first(addresses: &[IpAddr], family: Family) -> Option<IpAddr> {
    addresses.iter().copied().find(|address| Family::of(*address) == family)
}

fn on_segment(address: IpAddr, settings: &Settings) -> bool {
    settings.addresses().any(|own| segment(own).contains(&address))
}

impl Nodes {
    pub fn of(world: &World, settings: &Settings) -> Self {
        let own = internal_ips(&world.nodes["a"]);
        let mut nodes = Self {
            addresses: settings.addresses().collect(),
            own: pod_cidrs(&world.nodes["a"], settings.families),
            subnets: BTreeMap::new(),
            others: BTreeMap::new(),
            pod_mtu: left(Family::of(own[0]), settings),
        };
        for (name, node) in &world.nodes {
            let theirs = internal_ips(node);
            nodes.addresses.extend(&theirs);
            // Where there is one tunnel of IPv6, what comes by another may go on through it.
            let only_ipv6 = first(&theirs, Family::V4).is_none() && !theirs.is_empty();
            let narrow = left(Family::V6, settings);
            if settings.families.contains(&Family::V6) && only_ipv6 && narrow >= LEAST {
                nodes.pod_mtu = narrow;
            }
            if name == "a" {
                continue;
            }
            for subnet in pod_cidrs(node, settings.families) {
                let family = Family::of(subnet.addr());
                let way = way(&own, first(&theirs, family), family, &theirs, settings);
                nodes.subnets.extend(way.map(|way| (subnet, way)));
            }
            for address in &theirs {
                let family = Family::of(*address);
                // Tunnels of IPv4 bring pods' packets of IPv6 too: from whom is known also where no pod has IPv4.
                if family == Family::V4 || settings.families.contains(&family) {
                    let way = way(&own, Some(*address), family, &theirs, settings);
                    nodes.others.extend(way.map(|way| (IpNet::from(*address), way)));
                }
            }
        }
        nodes
    }

    /// Whether a node or its pods have an address.
    pub fn have(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address) || self.have_pod(address)
    }

    /// Whether an address is in the subnet of a node's pods.
    pub fn have_pod(&self, address: IpAddr) -> bool {
        let mut subnets = self.own.iter().chain(self.subnets.keys());
        subnets.any(|subnet| subnet.contains(&address))
    }

    /// Whether an address is a node's own toward its pods: the first of their subnet.
    pub fn have_gateway(&self, address: IpAddr) -> bool {
        let is_first = match address {
            IpAddr::V4(address) => address.octets()[3] == 1,
            IpAddr::V6(address) => address.segments()[4..] == [0, 0, 0, 1],
        };
        is_first && self.have_pod(address)
    }
}

/// The way to what is of a family and has this address on a node, or none.
fn way(own: &[IpAddr], address: Option<IpAddr>, family: Family, theirs: &[IpAddr], settings: &Settings) -> Option<Way> {
    if let Some(neighbour) = address.filter(|address| on_segment(*address, settings) && first(own, family).is_some()) {
        return Some(Way::Direct(neighbour));
    }
    let over = |outer| Some((first(own, outer)?, first(theirs, outer)?));
    let (local, remote) = match (over(Family::V4), family) {
        (Some(ends), _) => ends,
        (None, Family::V6) => over(Family::V6)?,
        (None, Family::V4) => return None,
    };
    if family == Family::V6 && left(Family::of(remote), settings) < LEAST {
        return None;
    }
    let router = ROUTERS.iter().find(|(node, _)| *node == remote);
    let next_hop = match on_segment(remote, settings) {
        true => Some(remote),
        false => router.map(|(_, router)| *router),
    };
    Some(Way::Tunnel {
        local,
        remote,
        next_hop,
    })
}
