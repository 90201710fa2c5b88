//! Lightweight tunnels: what a route says of the VXLAN that its packets get. The kernel has a kind of them for each family.

use std::net::IpAddr;

use netlink_packet_route::route::{RouteIp6Tunnel, RouteIpTunnel, RouteLwEnCapType, RouteLwTunnelEncap};

/// A lightweight tunnel of the family that its ends are of.
pub(super) fn of(vni: u32, local: IpAddr, remote: IpAddr) -> (RouteLwEnCapType, Vec<RouteLwTunnelEncap>) {
    let end = |address, is_local| match (address, is_local) {
        (IpAddr::V4(address), true) => RouteLwTunnelEncap::Ip(RouteIpTunnel::Source(address)),
        (IpAddr::V4(address), false) => RouteLwTunnelEncap::Ip(RouteIpTunnel::Destination(address)),
        (IpAddr::V6(address), true) => RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Source(address)),
        (IpAddr::V6(address), false) => RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Destination(address)),
    };
    let (kind, id) = match remote {
        IpAddr::V4(_) => (
            RouteLwEnCapType::Ip,
            RouteLwTunnelEncap::Ip(RouteIpTunnel::Id(vni.into())),
        ),
        IpAddr::V6(_) => (
            RouteLwEnCapType::Ip6,
            RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Id(vni.into())),
        ),
    };
    (kind, vec![id, end(local, true), end(remote, false)])
}

/// The network of a lightweight tunnel, its end here and its other end; `None` if it does not say all.
pub(super) fn ends(parts: &[RouteLwTunnelEncap]) -> Option<(u32, IpAddr, IpAddr)> {
    let (mut vni, mut local, mut remote) = (None, None, None);
    for part in parts {
        match part {
            RouteLwTunnelEncap::Ip(RouteIpTunnel::Id(id)) | RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Id(id)) => {
                vni = u32::try_from(*id).ok();
            }
            RouteLwTunnelEncap::Ip(RouteIpTunnel::Source(address)) => local = Some(IpAddr::V4(*address)),
            RouteLwTunnelEncap::Ip(RouteIpTunnel::Destination(address)) => remote = Some(IpAddr::V4(*address)),
            RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Source(address)) => local = Some(IpAddr::V6(*address)),
            RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Destination(address)) => remote = Some(IpAddr::V6(*address)),
            _ => {}
        }
    }
    Some((vni?, local?, remote?))
}
