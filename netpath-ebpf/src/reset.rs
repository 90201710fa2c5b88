//! The refusal of a TCP connection (RFC 9293, section 3.5.2): a segment becomes the reset that its sender gets for it, as if
//! nobody listened at the address that it asked. ICMP would say the same, but is filtered in many networks, and stacks take
//! it for a hint.

use netpath_common::reason::Reason;

use crate::{
    csum, ethernet,
    flow::{ACK, FIN, RST, SYN, TCP},
    ipv4,
    packet::{ETHERNET, Packet},
};

/// A TCP header without options.
const HEADER: usize = 20;
const TOTAL: usize = ipv4::HEADER + HEADER;
/// Where the header is, in a frame of IPv4 without options.
const AT: usize = ETHERNET + ipv4::HEADER;

/// Whether an IPv4 frame without options carries TCP.
#[inline(always)]
pub fn fits4<P: Packet>(packet: &P) -> bool {
    packet.view::<1>(ETHERNET + 9) == Some(&[TCP])
}

/// Turns an IPv4 frame whose header has no options into the reset of its segment, sent by `from`.
///
/// # Errors
/// [`Reason::RefusedSilent`] for a reset, which gets no answer; [`Reason::Malformed`]; [`Reason::RewriteFailed`].
#[inline(never)]
pub fn reset4<P: Packet>(packet: &mut P, from: [u8; 4]) -> Result<(), Reason> {
    let ethernet = ethernet::parse(packet)?;
    let to: [u8; 4] = *packet.view(ETHERNET + 12).ok_or(Reason::Malformed)?;
    let [s0, s1, d0, d1] = *packet.view::<4>(AT).ok_or(Reason::Malformed)?;
    let [offset, flags] = *packet.view::<2>(AT + 12).ok_or(Reason::Malformed)?;
    if flags & RST != 0 {
        return Err(Reason::RefusedSilent);
    }
    let (sequence, acknowledges, sends) = if flags & ACK != 0 {
        (*packet.view::<4>(AT + 8).ok_or(Reason::Malformed)?, [0; 4], RST)
    } else {
        let sequence = u32::from_be_bytes(*packet.view(AT + 4).ok_or(Reason::Malformed)?);
        let length = segment_len(packet, offset)? + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        ([0; 4], sequence.wrapping_add(length).to_be_bytes(), RST | ACK)
    };
    packet.resize(ETHERNET + TOTAL)?;
    let [q0, q1, q2, q3] = sequence;
    let [a0, a1, a2, a3] = acknowledges;
    let mut tcp = [
        d0, d1, s0, s1, q0, q1, q2, q3, a0, a1, a2, a3, 0x50, sends, 0, 0, 0, 0, 0, 0,
    ];
    let pseudo = csum::sum(&from) + csum::sum(&to) + csum::sum(&[0, TCP, 0, HEADER as u8]);
    [tcp[16], tcp[17]] = csum::finish(csum::sum(&tcp) + pseudo);
    packet.store(ETHERNET, &ipv4::header(from, to, TCP, TOTAL as u16))?;
    packet.store(AT, &tcp)?;
    ethernet::readdress(packet, ethernet.source, ethernet.destination)
}

/// How many bytes a segment carries. The frame may be longer than its packet, whose length is 0 where it is yet to be
/// segmented and does not fit the field.
#[inline(always)]
fn segment_len<P: Packet>(packet: &P, offset: u8) -> Result<u32, Reason> {
    let [l0, l1] = *packet.view::<2>(ETHERNET + 2).ok_or(Reason::Malformed)?;
    let total = match u16::from_be_bytes([l0, l1]) {
        0 => packet.len().saturating_sub(ETHERNET) as u32,
        length => u32::from(length),
    };
    let headers = ipv4::HEADER as u32 + 4 * u32::from(offset >> 4);
    total.checked_sub(headers).ok_or(Reason::Malformed)
}
