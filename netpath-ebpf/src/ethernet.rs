//! Ethernet (IEEE 802.3): the first look at a frame.

use netpath_common::{abi::Mac, reason::Reason};

use crate::packet::Packet;

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
    Ok(Header {
        destination: *packet.view(0).ok_or(Reason::Malformed)?,
        source: *packet.view(6).ok_or(Reason::Malformed)?,
        ethertype: u16::from_be_bytes(*packet.view(12).ok_or(Reason::Malformed)?),
    })
}

/// Readdresses the frame.
///
/// # Errors
/// [`Reason::Malformed`] if the frame is shorter.
#[inline(always)]
pub fn readdress<P: Packet>(packet: &mut P, destination: Mac, source: Mac) -> Result<(), Reason> {
    packet.store(0, &destination)?;
    packet.store(6, &source)
}

/// Sends the frame back to who sent it.
///
/// # Errors
/// [`Reason::Malformed`] if the frame is shorter.
#[inline(always)]
pub fn turn<P: Packet>(packet: &mut P) -> Result<(), Reason> {
    let Header {
        destination, source, ..
    } = parse(packet)?;
    readdress(packet, source, destination)
}
