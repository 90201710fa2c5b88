//! SCTP packets (RFC 9260), with a checksum that is computed as its appendix A describes it: bit by bit over the whole packet,
//! by the polynomial as it is written there, and turned around at the end.

use crate::frame::{Frame, Ip, Socket};

/// Chunks, by their types.
pub const DATA: u8 = 0;
/// Opens.
pub const INIT: u8 = 1;
/// Answers it.
pub const INIT_ACK: u8 = 2;
/// Asks whether the other end is there.
pub const HEARTBEAT: u8 = 4;
/// Breaks off.
pub const ABORT: u8 = 6;
/// Will send no more.
pub const SHUTDOWN: u8 = 7;
/// Answers it.
pub const SHUTDOWN_ACK: u8 = 8;
/// Ends.
pub const SHUTDOWN_COMPLETE: u8 = 14;
/// Changes the addresses of an end (RFC 5061).
pub const ASCONF: u8 = 0xc1;

/// The verification tag of a test's packet.
pub const TAG: u32 = 0x7a67_0123;

/// A chunk of a type, filled up to whole words.
pub fn chunk(kind: u8, value: &[u8]) -> Vec<u8> {
    let [l0, l1] = (4 + value.len() as u16).to_be_bytes();
    let mut chunk = [&[kind, 0, l0, l1][..], value].concat();
    chunk.resize(chunk.len().next_multiple_of(4), 0);
    chunk
}

/// An INIT: its tag, a window, numbers of streams, the first number of a chunk.
pub fn init() -> Vec<u8> {
    chunk(INIT, &[0x11, 0x22, 0x33, 0x44, 0, 1, 0, 0, 0, 10, 0, 10, 0, 0, 0, 1])
}

/// The packet between two ports, its checksum included.
pub fn packet(source: u16, destination: u16, chunks: &[u8]) -> Vec<u8> {
    let mut packet = without_checksum(source, destination, chunks);
    let sum = crc32c(&packet);
    packet[8..12].copy_from_slice(&sum);
    packet
}

/// The same with a checksum of 0: yet to be computed, or none.
pub fn without_checksum(source: u16, destination: u16, chunks: &[u8]) -> Vec<u8> {
    // An INIT comes before any tag is known.
    let tag = if chunks.first() == Some(&INIT) { 0 } else { TAG };
    [
        &source.to_be_bytes()[..],
        &destination.to_be_bytes(),
        &tag.to_be_bytes(),
        &[0; 4],
        chunks,
    ]
    .concat()
}

/// The checksum in the order in which its bytes are sent.
fn crc32c(packet: &[u8]) -> [u8; 4] {
    const POLYNOMIAL: u32 = 0x1edc_6f41;
    let mut remainder = u32::MAX;
    for byte in packet {
        for bit in 0..8 {
            let carry = remainder >> 31 ^ u32::from(byte >> bit & 1);
            remainder <<= 1;
            if carry == 1 {
                remainder ^= POLYNOMIAL;
            }
        }
    }
    (!remainder).to_be_bytes().map(u8::reverse_bits)
}

impl Frame {
    /// An SCTP packet.
    pub fn sctp<A: Ip>(&self, source: Socket<A>, destination: Socket<A>, chunks: &[u8]) -> Vec<u8> {
        let packet = packet(source.1, destination.1, chunks);
        A::packet(self, source.0, destination.0, 132, &packet)
    }

    /// The same with a checksum of 0.
    pub fn sctp_without_checksum<A: Ip>(&self, source: Socket<A>, destination: Socket<A>, chunks: &[u8]) -> Vec<u8> {
        let packet = without_checksum(source.1, destination.1, chunks);
        A::packet(self, source.0, destination.0, 132, &packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, appendix B.4, of which RFC 9260's appendix A says that it computes the same.
    #[test]
    fn checksums_are_those_of_the_rfc() {
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&[0; 32]), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(crc32c(&[0xff; 32]), [0x43, 0xab, 0xa8, 0x62]);
        assert_eq!(crc32c(&rising), [0x4e, 0x79, 0xdd, 0x46]);
    }
}
