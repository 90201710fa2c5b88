//! The refusal of a TCP connection (RFC 9293, section 3.5.2): a segment becomes the reset that its sender gets for it, as if
//! nobody listened at the address that it asked. ICMP would say the same, but is filtered in many networks, and stacks take
//! it for a hint.

use netpath_common::{abi::conntrack::Tuple, reason::Reason};

use crate::{
    csum, ethernet,
    family::{Address, Family},
    flow::{ACK, FIN, RST, SYN, TCP},
    packet::{ETHERNET, Packet},
    scratch::Notes,
};

/// A TCP header without options.
const HEADER: usize = 20;

/// Turns a frame of TCP whose IP header has no options into the reset of its segment, with the addresses of `to`.
///
/// # Errors
/// [`Reason::RefusedSilent`] for a reset, which gets no answer; [`Reason::Malformed`]; [`Reason::RewriteFailed`].
#[inline(never)]
pub fn answer<F: Family, P: Packet>(packet: &mut P, notes: &Notes<F::Addr>) -> Result<(), Reason> {
    let at = ETHERNET + F::HEADER;
    let Tuple {
        source, destination, ..
    } = &notes.to;
    let [s0, s1, d0, d1] = *packet.view::<4>(at).ok_or(Reason::Malformed)?;
    let [offset, flags] = *packet.view::<2>(at + 12).ok_or(Reason::Malformed)?;
    if flags & RST != 0 {
        return Err(Reason::RefusedSilent);
    }
    let (sequence, acknowledges, sends) = if flags & ACK != 0 {
        (*packet.view::<4>(at + 8).ok_or(Reason::Malformed)?, [0; 4], RST)
    } else {
        let sequence = u32::from_be_bytes(*packet.view(at + 4).ok_or(Reason::Malformed)?);
        let length = segment_len::<F, P>(packet, offset)? + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        ([0; 4], sequence.wrapping_add(length).to_be_bytes(), RST | ACK)
    };
    packet.resize(at + HEADER)?;
    let [q0, q1, q2, q3] = sequence;
    let [a0, a1, a2, a3] = acknowledges;
    let mut tcp = [
        d0, d1, s0, s1, q0, q1, q2, q3, a0, a1, a2, a3, 0x50, sends, 0, 0, 0, 0, 0, 0,
    ];
    let pseudo = source.sum() + destination.sum() + csum::pseudo(TCP, HEADER as u16);
    [tcp[16], tcp[17]] = csum::finish(csum::sum(&tcp) + pseudo);
    F::store(packet, source, destination, TCP, HEADER as u16)?;
    packet.store(at, &tcp)?;
    ethernet::turn(packet)
}

/// How many bytes a segment carries. The frame may be longer than its packet, whose length is 0 where it is yet to be
/// segmented and does not fit the field.
#[inline(always)]
fn segment_len<F: Family, P: Packet>(packet: &P, offset: u8) -> Result<u32, Reason> {
    let payload_len = match F::payload_len(packet)? {
        0 => packet.len().saturating_sub(ETHERNET + F::HEADER),
        length => length,
    };
    (payload_len as u32)
        .checked_sub(4 * u32::from(offset >> 4))
        .ok_or(Reason::Malformed)
}
