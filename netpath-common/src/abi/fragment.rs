//! `np_fragment4`, `np_fragment6`: the ports of fragmented datagrams, which only the first fragment carries. An LRU hash.

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

/// What the first fragment said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct FragmentPorts {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
}

const _: () = assert!(size_of::<FragmentPorts>() == 4);
