//! IPv4 (RFC 791): the header itself.

use crate::csum;

/// The header without options.
pub const HEADER: usize = 20;

/// A header without options, with its checksum, for a packet that this node makes itself: identification 0, not to be
/// fragmented (RFC 6864, section 4.1).
#[inline(always)]
pub fn header(source: [u8; 4], destination: [u8; 4], protocol: u8, total_len: u16) -> [u8; HEADER] {
    let [l0, l1] = total_len.to_be_bytes();
    let [s0, s1, s2, s3] = source;
    let [d0, d1, d2, d3] = destination;
    let mut header = [
        0x45, 0, l0, l1, 0, 0, 0x40, 0, 64, protocol, 0, 0, s0, s1, s2, s3, d0, d1, d2, d3,
    ];
    let [c0, c1] = csum::finish(csum::sum(&header));
    header[10] = c0;
    header[11] = c1;
    header
}
