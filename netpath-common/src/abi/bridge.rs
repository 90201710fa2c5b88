//! `np_bridge`: the bridge's ports, each with the pod behind it. A hash from the port's interface index (`u32`) to
//! [`Port`]. Whatever leaves a pod is held against its entry: no other address and no other MAC may come from there.

use super::Mac;

/// A pod's end of a veth pair, as the node sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(4))]
pub struct Port {
    /// The pod's MAC address.
    pub mac: Mac,
    /// Zero.
    pub reserved: [u8; 2],
    /// The pod's IPv4 address; all zero if it has none.
    pub address4: [u8; 4],
    /// The pod's IPv6 address; all zero if it has none.
    pub address6: [u8; 16],
}

const _: () = assert!(size_of::<Port>() == 28);
