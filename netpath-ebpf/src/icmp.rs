//! ICMP errors that a node sends (RFC 792): a packet too large is told so, and never lost in silence; a service without
//! endpoints refuses; a packet that went in circles is reported.

use netpath_common::reason::Reason;

use crate::{
    csum, ethernet,
    family::Complaint,
    ipv4,
    packet::{ETHERNET, Packet},
};

/// What an error quotes: an IPv4 header without options and 8 bytes of its payload (RFC 792).
const QUOTE: usize = ipv4::HEADER + 8;
const ICMP_HEADER: usize = 8;
const TOTAL: usize = ipv4::HEADER + ICMP_HEADER + QUOTE;

const ICMP: u8 = 1;

/// Type, code and the MTU that goes with it.
#[inline(always)]
fn says(complaint: Complaint) -> (u8, u8, u16) {
    match complaint {
        Complaint::TooBig(mtu) => (3, 4, mtu),
        Complaint::PortUnreachable => (3, 3, 0),
        Complaint::Expired => (11, 0, 0),
    }
}

/// Turns an IPv4 frame whose header has no options into an ICMP error about itself.
///
/// # Errors
/// [`Reason::Malformed`] if there is less than a header and 8 bytes; [`Reason::RewriteFailed`].
#[inline(never)]
pub fn complain4<P: Packet>(packet: &mut P, complaint: Complaint, from: [u8; 4]) -> Result<(), Reason> {
    let ethernet = ethernet::parse(packet)?;
    let quote = *packet.view::<QUOTE>(ETHERNET).ok_or(Reason::Malformed)?;
    let (kind, code, mtu) = says(complaint);
    let [m0, m1] = mtu.to_be_bytes();
    let mut icmp = [kind, code, 0, 0, 0, 0, m0, m1];
    let [c0, c1] = csum::finish(csum::sum(&icmp) + csum::sum(&quote));
    icmp[2] = c0;
    icmp[3] = c1;
    let to = [quote[12], quote[13], quote[14], quote[15]];
    packet.resize(ETHERNET + TOTAL)?;
    ethernet::readdress(packet, ethernet.source, ethernet.destination)?;
    packet.store(ETHERNET, &ipv4::header(from, to, ICMP, TOTAL as u16))?;
    packet.store(ETHERNET + ipv4::HEADER, &icmp)?;
    packet.store(ETHERNET + ipv4::HEADER + ICMP_HEADER, &quote)
}
