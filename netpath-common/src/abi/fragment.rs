//! `np_fragment4`, `np_fragment6`: what is known of fragmented datagrams. Only the first fragment carries the ports. An LRU
//! hash.

use super::family::families;

families! {
    /// What the fragments of one datagram share (RFC 791, section 3.2; RFC 8200, section 4.5).
    pub struct FragmentKey {
        /// Source address.
        pub source: A,
        /// Destination address.
        pub destination: A,
        /// The datagram's identification.
        pub identification: u32,
        /// IP protocol.
        pub protocol: u8,
        /// Zero.
        pub reserved: [u8; 3],
    }
    sizes: 16, 40;
}

/// The first fragment has not come yet: others of the datagram are held in [`super::held`].
pub const STATE_HELD: u8 = 1;
/// The first fragment came, with ports.
pub const STATE_PORTS: u8 = 2;
/// The first fragment came, and has no ports: an ICMP message other than an echo.
pub const STATE_NO_PORTS: u8 = 3;

/// For how long an entry means anything, in seconds: identifications are used again. As long as Linux waits for the rest of an
/// IPv4 datagram (`net.ipv4.ipfrag_time`; RFC 791, section 3.2, begins with 15 and takes more from the packet); half of what
/// IPv6 allows (RFC 8200, section 4.5).
pub const FRAGMENT_SECONDS: u32 = 30;

/// What is known of a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Datagram {
    /// How many places in [`super::held`] were given to its fragments. Programs add to it in place.
    pub held: u64,
    /// When the entry was made, in seconds of the kernel's coarse monotonic clock.
    pub since: u32,
    /// Source port; for ICMP echoes the identifier, as in `np_conntrack4`.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// `STATE_*`.
    pub state: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

const _: () = assert!(size_of::<Datagram>() == 24);
