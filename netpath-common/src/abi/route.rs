//! `np_route4`, `np_route6`: which node has a pod subnet, and how to get there. A hash from the masked address and its
//! prefix length to [`Route`]; the lengths in use stand in the configuration, so that a lookup tries those alone (a trie
//! costs ten times a hash). Every other node's own address is here too, as a route of full length; so are the node's own
//! subnets and the services' range, so that a packet to an address there that nobody has does not leave the cluster.

use super::family::families;

/// The node is on the uplink's segment: packets go there as they are.
pub const VIA_DIRECT: u8 = 1;
/// The node is behind a router: packets go there inside VXLAN.
pub const VIA_TUNNEL: u8 = 2;
/// The subnet is this node's own: an address of it that no endpoint has is nobody's.
pub const VIA_LOCAL: u8 = 3;
/// The subnet is the services' range: what no frontend takes is nobody's.
pub const VIA_SERVICE: u8 = 4;

families! {
    /// A subnet. Bits of the address beyond the prefix are zero.
    pub struct RouteKey {
        /// The subnet's first address.
        pub address: A,
        /// Its prefix length.
        pub prefix_len: u32,
    }
    sizes: 8, 20;

    /// The way to a subnet.
    pub struct Route {
        /// The address of the node that has the subnet.
        pub node: A,
        /// The next hop on the uplink: the node itself if it is direct, otherwise the router. All zero if the agent does
        /// not know it: the kernel's routes decide then.
        pub next_hop: A,
        /// `VIA_*`.
        pub via: u8,
        /// Zero.
        pub reserved: [u8; 3],
    }
    sizes: 12, 36;
}
