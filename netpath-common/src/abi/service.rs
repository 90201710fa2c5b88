//! `np_service4`, `np_service6` and `np_backend4`, `np_backend6`: what a service answers on, and who answers for it.
//!
//! A frontend names a set of backends by number. A changed set is written whole under a new number before its frontends
//! move there, so that no packet sees half a change. A set's backends stand in the order of their addresses, then of
//! their ports, each once, so that one of them is found by halving.

use super::family::families;

/// A frontend that answers on every address of a node, the loopback addresses of its own sockets included: a NodePort, or a
/// hostPort without an address.
pub const FLAG_NODE_PORT: u16 = 1;
/// A pod's hostPort: the CNI plugin's, not the agent's.
pub const FLAG_HOST_PORT: u16 = 2;
/// A set of the frontend is empty although the service has endpoints: its traffic policy is Local, and none is on this
/// node. What finds the empty set is dropped, and not refused.
pub const FLAG_NONE_HERE: u16 = 4;
/// A frontend that answers on a load balancer's address.
pub const FLAG_LOAD_BALANCER: u16 = 8;
/// A frontend that answers on one of a service's `externalIPs`.
pub const FLAG_EXTERNAL_IP: u16 = 16;
/// A NodePort that answers on the frontend's own address alone: not all of the node's were chosen for NodePorts.
pub const FLAG_NODE_PORT_HERE: u16 = 32;
/// No frontend: an entry of port 0 and protocol 0 that says that a service has the address. What asks for anything else there
/// than its frontends is refused.
pub const FLAG_ADDRESS: u16 = 64;
/// With [`FLAG_ADDRESS`]: only what comes from elsewhere is refused. The address leads to the nodes from outside, and for the
/// node's own pods and processes there may be more behind it.
pub const FLAG_OUTSIDE: u16 = 128;
/// A NodePort of whichever node: it has no address. Only what another node relays is looked for here.
pub const FLAG_RELAYED: u16 = 256;

/// Sets from this number on are those of hostPorts: the CNI plugin's, of one backend each.
pub const HOST_PORT_SETS: u32 = 1 << 31;

families! {
    /// An address and port that a service answers on.
    pub struct Frontend {
        /// The service's address, or the node's for a NodePort.
        pub address: A,
        /// Its port; 0 for the address itself, see [`FLAG_ADDRESS`].
        pub port: u16,
        /// IP protocol: 6, 17 or 132; 0 for the address itself.
        pub protocol: u8,
        /// Zero.
        pub reserved: u8,
    }
    sizes: 8, 20;

    /// Who answers.
    pub struct Backend {
        /// The pod's address.
        pub address: A,
        /// Its port.
        pub port: u16,
        /// Zero.
        pub reserved: [u8; 2],
    }
    sizes: 8, 20;
}

impl<A: Copy + Default> Frontend<A> {
    /// The frontend of the same port that has no address, see [`FLAG_RELAYED`].
    #[inline(always)]
    pub fn anywhere(&self) -> Self {
        Self {
            address: A::default(),
            ..*self
        }
    }
}

/// What a connection to a frontend becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Service {
    /// The set of backends for connections of this node's pods and of the node itself.
    pub set: u32,
    /// How many backends the set has; they have the slots 0 to `count` - 1. With none, connections are refused.
    pub count: u32,
    /// The set for connections that come from elsewhere: the same one, unless the service's external traffic stays on the
    /// node that it reaches.
    pub outside_set: u32,
    /// How many backends that set has.
    pub outside_count: u32,
    /// The number under which the clients of this service port are remembered, on whichever of its frontends they come; 0
    /// where they are not.
    pub affinity: u32,
    /// How long after its last new connection a client is sent to the same backend, in seconds.
    pub affinity_timeout: u32,
    /// The list of clients that may connect, in `np_source4`; 0 where everyone may.
    pub sources: u32,
    /// `FLAG_*`.
    pub flags: u16,
    /// The binary logarithm of how many places `outside_set` has in `np_maglev4` or `np_maglev6`; 0 where its backends are chosen
    /// by the node's own hash, as those of `set` always are.
    pub maglev: u8,
    /// Zero.
    pub reserved: u8,
}

const _: () = assert!(size_of::<Service>() == 32);

/// A place in a set of backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BackendKey {
    /// The set.
    pub set: u32,
    /// The place.
    pub slot: u32,
}

const _: () = assert!(size_of::<BackendKey>() == 8);
