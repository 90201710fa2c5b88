//! `np_held4`, `np_held6`: fragments that came before their datagram's first, as they came in. An LRU hash.

use super::family::families;

families! {
    /// A fragment's place: its datagram, and which of its held ones it is.
    pub struct HeldKey {
        /// Source address.
        pub source: A,
        /// Destination address.
        pub destination: A,
        /// The datagram's identification.
        pub identification: u32,
        /// IP protocol.
        pub protocol: u8,
        /// From 0 on, in the order in which they came; below [`PLACES`].
        pub place: u8,
        /// Zero.
        pub reserved: [u8; 2],
    }
    sizes: 16, 40;
}

/// How many fragments of one datagram are held: the largest datagram has 45 on Ethernet.
pub const PLACES: u32 = 64;

/// The longest frame that is held, in bytes: an IP packet of 9,216, the largest MTU that is in wide use, behind an Ethernet
/// header, up to whole words.
pub const FRAME: usize = 9_232;

/// A frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Held {
    /// When it came, in seconds of the kernel's coarse monotonic clock.
    pub since: u32,
    /// How many bytes it has.
    pub len: u32,
    /// The frame from its Ethernet header on, with a tunnel's headers if it had some. What lies behind it is nobody's.
    pub frame: [u8; FRAME],
}

const _: () = assert!(size_of::<Held>() == 9_240);
