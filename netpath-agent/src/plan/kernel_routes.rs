//! The routes of the node's own stack: what its own processes send to pods and services goes the same ways as pods'
//! packets, and so does whatever the programs leave to the kernel.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    NodeFacts,
    ends::Ends,
    part::Part,
    routes::{Reach, reach},
};
use crate::family::Family;

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
    /// In VXLAN, by a lightweight tunnel: `encap ip id VNI src LOCAL dst REMOTE dev DEVICE`, or `encap ip6`.
    Tunnel {
        /// The metadata-mode vxlan device's index.
        device: u32,
        /// VXLAN network identifier.
        vni: u32,
        /// The end on this node: the other knows it by this address alone.
        local: IpAddr,
        /// The end on the other, of the same family.
        remote: IpAddr,
    },
}

/// The routes to other nodes' pods and to services, in a family.
pub(super) fn kernel_routes<F: Family>(part: &Part<F>, own: &Ends, facts: &NodeFacts) -> Vec<KernelRoute> {
    let source = part.gateway.into();
    let mut routes = Vec::new();
    for node in &part.others {
        let way = match reach(node, own, facts) {
            Some(Reach::Direct(gateway)) => Way::Gateway {
                device: facts.uplink.device.ifindex,
                gateway: gateway.into(),
            },
            Some(Reach::Tunnel(tunnel)) => Way::Tunnel {
                device: facts.overlay.ifindex,
                vni: facts.vni,
                local: tunnel.local,
                remote: tunnel.remote,
            },
            None => continue,
        };
        routes.extend(node.subnets.iter().map(|subnet| KernelRoute {
            destination: (*subnet).into(),
            way,
            source,
        }));
    }
    let to_services = facts.service_cidrs.iter().filter(|range| F::net(**range).is_some());
    routes.extend(to_services.map(|range| KernelRoute {
        destination: range.trunc(),
        way: Way::Link {
            device: facts.bridge.ifindex,
        },
        source,
    }));
    routes
}
