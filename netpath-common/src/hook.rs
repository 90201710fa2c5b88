//! The hooks: the places on a packet's way where a program of ours looks at it.

macro_rules! hooks {
    ($($(#[$meta:meta])* $variant:ident = $name:literal,)*) => {
        /// A place on a packet's way. The number is part of the counters' index.
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
        }
    };
}

hooks! {
    /// tc ingress of a pod's veth on the node: what the pod sends.
    FromPod = "from_pod",
    /// tc egress of a pod's veth on the node: what the node's stack sends to the pod.
    ToPod = "to_pod",
    /// tc ingress of the vxlan device: what the kernel decapsulated.
    FromOverlay = "from_overlay",
    /// tc ingress of the uplink.
    FromWire = "from_wire",
    /// tc egress of the uplink: what the node's stack sends out.
    ToWire = "to_wire",
    /// tc egress of the bridge: what the node's stack sends to pods and services.
    FromHost = "from_host",
    /// XDP on the uplink: `from_wire`, earlier.
    FromWireXdp = "from_wire_xdp",
}
