//! The hooks: the places on a packet's way, and before it in a socket's calls, where a program of ours looks at it.

macro_rules! hooks {
    ($($(#[$meta:meta])* $variant:ident: $kind:ident = $name:literal,)*) => {
        /// A place where a program runs. The number is part of the counters' index.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Hook { $($(#[$meta])* $variant,)* }

        impl Hook {
            /// Every hook, in the order of their numbers.
            pub const ALL: &[Hook] = &[$(Hook::$variant,)*];

            /// The hook's name, which is also its program's.
            pub const fn name(self) -> &'static str {
                match self { $(Hook::$variant => $name,)* }
            }

            /// What the hook is of.
            pub const fn kind(self) -> Kind {
                match self { $(Hook::$variant => Kind::$kind,)* }
            }
        }
    };
}

/// What a hook is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A device, by tc: what comes in.
    TcIngress,
    /// A device, by tc: what goes out.
    TcEgress,
    /// A device's driver: what comes in, before it is a packet of the kernel's.
    Xdp,
    /// A cgroup: its sockets' calls.
    Socket,
}

hooks! {
    /// tc ingress of a pod's veth on the node: what the pod sends.
    FromPod: TcIngress = "from_pod",
    /// tc ingress of the vxlan device: what the kernel decapsulated.
    FromOverlay: TcIngress = "from_overlay",
    /// tc ingress of the uplink.
    FromWire: TcIngress = "from_wire",
    /// tc egress of the uplink: what the node's stack sends out.
    ToWire: TcEgress = "to_wire",
    /// tc egress of the bridge: what the node's stack sends to pods and services.
    FromHost: TcEgress = "from_host",
    /// XDP on the uplink: `from_wire`, earlier.
    FromWireXdp: Xdp = "from_wire_xdp",
    /// cgroup connect: a socket of the node chooses its peer.
    Connect4: Socket = "connect4",
    /// cgroup sendmsg: a socket of the node sends a datagram to a peer that it names.
    Sendmsg4: Socket = "sendmsg4",
    /// cgroup recvmsg: a socket of the node asks whom a datagram is from.
    Recvmsg4: Socket = "recvmsg4",
    /// cgroup getpeername: a socket of the node asks whom it is connected to.
    Getpeername4: Socket = "getpeername4",
    /// As `connect4`, of a socket of IPv6.
    Connect6: Socket = "connect6",
    /// As `sendmsg4`, of a socket of IPv6.
    Sendmsg6: Socket = "sendmsg6",
    /// As `recvmsg4`, of a socket of IPv6.
    Recvmsg6: Socket = "recvmsg6",
    /// As `getpeername4`, of a socket of IPv6.
    Getpeername6: Socket = "getpeername6",
}
