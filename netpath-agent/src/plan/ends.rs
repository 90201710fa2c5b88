//! Where tunnels begin and end, and over which family they go.
//!
//! Two nodes that both have IPv4 tunnel over it, whatever they carry, and others over IPv6. An outer header of IPv6 takes 20 bytes
//! more of every packet, and nodes that were there before know each other by IPv4. It carries IPv6 alone: a route of IPv4 has no
//! place for its address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    NodeFacts,
    nodes::{Placed, Places},
};
use crate::family::{Family, V6};

/// What VXLAN adds to an IP packet behind the outer IP header: UDP 8, VXLAN 8 and the inner Ethernet header 14 bytes (RFC 7348).
const VXLAN: u16 = 30;

/// A node's addresses that tunnels begin and end at, one of each family at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
}

/// A tunnel between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tunnel {
    /// The end on this node.
    pub local: IpAddr,
    /// The end on the other.
    pub remote: IpAddr,
}

impl Ends {
    /// The address of a family.
    pub fn address<F: Family>(&self) -> Option<F::Address> {
        let both = [self.v4.map(IpAddr::V4), self.v6.map(IpAddr::V6)];
        both.into_iter().flatten().find_map(F::address)
    }

    /// The tunnel from this node to another, over whichever family it goes; `None` if they have no address of the same.
    fn pair(&self, other: &Self) -> Option<Tunnel> {
        let over_ipv4 = self
            .v4
            .zip(other.v4)
            .map(|(local, remote)| (local.into(), remote.into()));
        let over_ipv6 = self
            .v6
            .zip(other.v6)
            .map(|(local, remote)| (local.into(), remote.into()));
        let (local, remote) = over_ipv4.or(over_ipv6)?;
        Some(Tunnel { local, remote })
    }

    /// Whether there could be a tunnel to another node.
    pub fn meets(&self, other: &Self) -> bool {
        self.pair(other).is_some()
    }

    /// The tunnel that carries a family; `None` if there is none, it carries another alone, or the uplink has no room for it.
    pub fn tunnel_to<F: Family>(&self, other: &Self, facts: &NodeFacts) -> Option<Tunnel> {
        let tunnel = self.pair(other)?;
        let fits = facts.uplink_mtu().saturating_sub(room(tunnel.remote)) >= F::LEAST_MTU;
        (fits && F::carrier(tunnel.remote).is_some()).then_some(tunnel)
    }
}

/// What a tunnel adds to an IP packet, by the family of its ends.
fn room(end: IpAddr) -> u16 {
    match end {
        IpAddr::V4(_) => 20 + VXLAN,
        IpAddr::V6(_) => 40 + VXLAN,
    }
}

/// The largest IP packet of a pod: what the widest tunnel of the cluster leaves of the uplink's. A node without IPv4 has tunnels of
/// IPv6 alone, and what any other sends may go on through one of these: an answer, by way of the node whose NodePort was asked.
/// Such a packet cannot be answered where it turns out to be too large. Where that would leave too little there are none.
pub(super) fn pod_mtu(own: &Ends, places: &Places, facts: &NodeFacts) -> u16 {
    let left = |end: IpAddr| facts.uplink_mtu().saturating_sub(room(end));
    let over_ipv6 = left(Ipv6Addr::UNSPECIFIED.into());
    let has_pods = |node: &Placed<V6>| *node.name == *facts.name && !node.subnets.is_empty();
    let is_wide = || places.v6.iter().any(has_pods) && places.v6.iter().any(|node| node.ends.v4.is_none());
    match own.v4 {
        Some(end) if over_ipv6 < V6::LEAST_MTU || !is_wide() => left(end.into()),
        _ => over_ipv6,
    }
}
