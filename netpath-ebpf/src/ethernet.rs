//! Ethernet (IEEE 802.3): the first look at a frame.

use netpath_common::{abi::Mac, reason::Reason};

use crate::packet::{ETHERNET, Packet};

/// IPv4.
pub const IPV4: u16 = 0x0800;
/// ARP.
pub const ARP: u16 = 0x0806;
/// IPv6.
pub const IPV6: u16 = 0x86dd;

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Who it is for.
    pub destination: Mac,
    /// Who sent it.
    pub source: Mac,
    /// What it carries.
    pub ethertype: u16,
}

impl Header {
    /// Whether the frame is for a group, or for all.
    #[inline(always)]
    pub fn is_multicast(&self) -> bool {
        self.destination[0] & 1 != 0
    }
}

/// Reads the header.
///
/// # Errors
/// [`Reason::Malformed`] if the frame is shorter.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P) -> Result<Header, Reason> {
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] =
        *packet.view::<ETHERNET>(0).ok_or(Reason::Malformed)?;
    Ok(Header {
        destination: [d0, d1, d2, d3, d4, d5],
        source: [s0, s1, s2, s3, s4, s5],
        ethertype: u16::from_be_bytes([t0, t1]),
    })
}

/// Readdresses the frame.
///
/// # Errors
/// [`Reason::Malformed`] if the frame is shorter.
#[inline(always)]
pub fn readdress<P: Packet>(packet: &mut P, destination: Mac, source: Mac) -> Result<(), Reason> {
    let [d0, d1, d2, d3, d4, d5] = destination;
    let [s0, s1, s2, s3, s4, s5] = source;
    packet.store(0, &[d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5])
}
