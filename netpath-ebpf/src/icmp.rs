//! ICMP errors that a node sends (RFC 792): a packet too large is told so, and never lost in silence; a service without
//! endpoints refuses what is not TCP; a packet that went in circles is reported.

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

/// Type and code.
#[inline(always)]
fn says(complaint: Complaint) -> (u8, u8) {
    match complaint {
        Complaint::TooBig => (3, 4),
        Complaint::PortUnreachable => (3, 3),
        Complaint::Expired => (11, 0),
    }
}

/// Turns an IPv4 frame whose header has no options into an ICMP error about itself.
///
/// # Errors
/// [`Reason::Malformed`] if there is less than a header and 8 bytes; [`Reason::RewriteFailed`].
#[inline(never)]
pub fn complain4<P: Packet>(packet: &mut P, complaint: Complaint, mtu: u16, from: [u8; 4]) -> Result<(), Reason> {
    const QUOTED: usize = ETHERNET + ipv4::HEADER + ICMP_HEADER;
    let ethernet = ethernet::parse(packet)?;
    let to = *packet.view(ETHERNET + 12).ok_or(Reason::Malformed)?;
    packet.view::<QUOTE>(ETHERNET).ok_or(Reason::Malformed)?;
    packet.resize(ETHERNET + TOTAL)?;
    // Word by word, since the whole quote in registers would take most of a program's stack. The two do not overlap.
    let mut sum = 0;
    for word in 0..QUOTE / 4 {
        copy_word(packet, ETHERNET + 4 * word, QUOTED + 4 * word, &mut sum)?;
    }
    let (kind, code) = says(complaint);
    let [m0, m1] = mtu.to_be_bytes();
    let icmp = [kind, code, 0, 0, 0, 0, m0, m1];
    let [c0, c1] = csum::finish(csum::sum(&icmp) + sum);
    packet.store(ETHERNET + ipv4::HEADER, &[kind, code, c0, c1, 0, 0, m0, m1])?;
    packet.store(ETHERNET, &ipv4::header(from, to, ICMP, TOTAL as u16))?;
    ethernet::readdress(packet, ethernet.source, ethernet.destination)
}

/// Copies four bytes, and adds them to a sum.
#[inline(never)]
fn copy_word<P: Packet>(packet: &mut P, from: usize, to: usize, sum: &mut u32) -> Result<(), Reason> {
    let bytes = *packet.view::<4>(from).ok_or(Reason::Malformed)?;
    *sum += csum::sum(&bytes);
    packet.store(to, &bytes)
}

const _: () = assert!(QUOTE.is_multiple_of(4) && QUOTE <= ipv4::HEADER + ICMP_HEADER);
