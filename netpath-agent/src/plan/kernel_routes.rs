//! The routes of the node's own stack: what its own processes send to pods and services goes the same ways as pods'
//! packets, and so does whatever the programs leave to the kernel.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;

use super::{NodeFacts, nodes::Placed, routes::is_direct};

/// A route in the main table, of protocol 78.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KernelRoute {
    /// Where to.
    pub destination: IpNet,
    /// The way.
    pub way: Way,
    /// The source address that the node's own processes get, where they choose none: the bridge's.
    pub source: IpAddr,
}

/// How a route leads to its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    /// Everybody is on the device's segment: `dev DEVICE scope link`.
    Link {
        /// The device's index.
        device: u32,
    },
    /// Over a router, or a node that is one: `via GATEWAY dev DEVICE`.
    Gateway {
        /// The device's index.
        device: u32,
        /// The next hop.
        gateway: IpAddr,
    },
    /// In VXLAN, by a lightweight tunnel: `encap ip id VNI dst REMOTE dev DEVICE`.
    Tunnel {
        /// The metadata-mode vxlan device's index.
        device: u32,
        /// VXLAN network identifier.
        vni: u32,
        /// The node at the other end.
        remote: IpAddr,
    },
}

/// The routes to other nodes' pods and to services.
pub(super) fn kernel_routes(gateway: Ipv4Addr, others: &[Placed<'_>], facts: &NodeFacts) -> BTreeSet<KernelRoute> {
    let source = IpAddr::V4(gateway);
    let to_pods = others.iter().flat_map(|node| {
        let end = IpAddr::V4(node.address);
        let way = if is_direct(node.address, facts) {
            Way::Gateway {
                device: facts.uplink.device.ifindex,
                gateway: end,
            }
        } else {
            Way::Tunnel {
                device: facts.overlay.ifindex,
                vni: facts.vni,
                remote: end,
            }
        };
        node.subnets.iter().map(move |subnet| KernelRoute {
            destination: IpNet::V4(*subnet),
            way,
            source,
        })
    });
    let to_services = facts
        .service_cidrs
        .iter()
        .filter(|range| matches!(range, IpNet::V4(_)))
        .map(|range| KernelRoute {
            destination: range.trunc(),
            way: Way::Link {
                device: facts.bridge.ifindex,
            },
            source,
        });
    to_pods.chain(to_services).collect()
}
