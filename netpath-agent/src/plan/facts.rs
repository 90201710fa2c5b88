//! What a plan must know of its node beyond the cluster's objects: devices, found through netlink, and settings.

use std::{collections::BTreeMap, net::IpAddr, ops::RangeInclusive};

use ipnet::IpNet;
use netpath_common::abi::Mac;

use super::NodePortAddresses;

/// What the API server allocates NodePorts from by default (its `--service-node-port-range`).
pub const NODE_PORTS: RangeInclusive<u16> = 30000..=32767;

/// The node as it found itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// The name of its Node object.
    pub name: String,
    /// The device that leads out of the node: it has the node's InternalIP.
    pub uplink: Uplink,
    /// The idle vxlan device.
    pub overlay: Device,
    /// The bridge that owns the node's pod subnet.
    pub bridge: Device,
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// VXLAN's UDP port.
    pub vxlan_port: u16,
    /// The ports that source NAT takes from.
    pub nat_ports: RangeInclusive<u16>,
    /// The ports that services may open on nodes: [`NODE_PORTS`], unless the API server was told otherwise.
    pub node_ports: RangeInclusive<u16>,
    /// On which of the node's addresses they are opened.
    pub node_port_addresses: NodePortAddresses,
    /// Mixed into every hash of the programs. Kept over restarts, or established connections lose nothing but evenness.
    pub hash_seed: u32,
    /// Mixed into the hash by which every node spreads connections from outside alike; `None` where each spreads them by itself.
    pub maglev_seed: Option<u32>,
    /// Whether those to pods of other nodes on the segment are relayed there as they are, and answered from there. With
    /// `maglev_seed` alone.
    pub direct_return: bool,
    /// The kernel's cookie of the node's own network namespace.
    pub netns_cookie: u64,
    /// Where the cluster allocates service addresses from.
    pub service_cidrs: Vec<IpNet>,
    /// Whether a service's `loadBalancerSourceRanges` hold for its NodePorts too.
    pub node_ports_have_sources: bool,
    /// The ranges that services' `externalIPs` may be of. None: whoever may write a service could take any address with them
    /// (CVE-2020-8554).
    pub external_ip_cidrs: Vec<IpNet>,
    /// What the kernel's own routes deliver to the node itself: its addresses on all devices, and ranges that others set.
    pub local_routes: Vec<IpNet>,
    /// Of a node's address: the next hop of the kernel's own route to it, where that is not the node itself. A node that
    /// is missing here is left to the kernel's routes.
    pub next_hops: BTreeMap<IpAddr, IpAddr>,
}

impl NodeFacts {
    /// Whether what comes from outside is relayed between nodes of the segment: they must choose alike for that.
    pub fn relays(&self) -> bool {
        self.direct_return && self.maglev_seed.is_some()
    }

    /// The largest IP packet that leaves through the uplink, in bytes.
    pub fn uplink_mtu(&self) -> u16 {
        u16::try_from(self.uplink.mtu).unwrap_or(u16::MAX)
    }
}

/// A device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its interface index.
    pub ifindex: u32,
    /// Its MAC address.
    pub mac: Mac,
}

/// The device that leads out of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uplink {
    /// Its index and MAC address.
    pub device: Device,
    /// Its addresses, each with the prefix of its segment.
    pub addresses: Vec<IpNet>,
    /// The largest IP packet that it takes, in bytes.
    pub mtu: u32,
}

impl Uplink {
    /// Whether an address is the uplink's own.
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.addr() == address)
    }
}
