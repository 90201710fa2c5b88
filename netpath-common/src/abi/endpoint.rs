//! `np_endpoint4`, `np_endpoint6`: the addresses that live on this node. A hash from the address to [`Endpoint`].

use super::Mac;

/// The endpoint is a pod of this node.
pub const KIND_POD: u16 = 0;
/// The address is the node's own: its packets belong to the node's stack.
pub const KIND_HOST: u16 = 1;

/// Who has an address of this node. The key is the address alone, `[u8; 4]` or `[u8; 16]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Endpoint {
    /// A pod: the node's end of its veth pair. The node: 0.
    pub ifindex: u32,
    /// A pod: its MAC address. The node: the bridge's.
    pub mac: Mac,
    /// [`KIND_POD`] or [`KIND_HOST`].
    pub kind: u16,
}

const _: () = assert!(size_of::<Endpoint>() == 12);
