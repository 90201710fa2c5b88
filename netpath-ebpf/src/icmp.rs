//! ICMP errors that a node sends (RFC 792, RFC 4443): a packet too large is told so, and never lost in silence; a service
//! without endpoints refuses what is not TCP; a packet that went in circles is reported.
//!
//! An error quotes as much of the packet as [`Family::ERROR`] leaves room for.

use netpath_common::{abi::conntrack::Tuple, reason::Reason};

use crate::{
    csum, ethernet,
    family::{Address, Complaint, Family},
    packet::{ETHERNET, Packet},
    scratch::Notes,
    tables::Tables,
};

/// The length of an error's own header.
pub const HEADER: usize = 8;
/// What every error quotes of a packet's payload: a socket is found by it.
pub const QUOTED: usize = 8;

/// Turns a frame into an ICMP error about the packet in it, back the way it came and with the addresses of
/// `to`. `mtu` is the largest IP packet that would have passed, in bytes, and 0 for all but [`Complaint::TooBig`].
///
/// # Errors
/// [`Reason::Malformed`] if there is less than a header and 8 bytes; [`Reason::RewriteFailed`].
#[inline(never)]
pub fn complain<F: Family, P: Packet, T: Tables<F::Addr>>(
    packet: &mut P,
    tables: &mut T,
    notes: &Notes<F::Addr>,
    complaint: Complaint,
    mtu: u16,
) -> Result<(), Reason> {
    let at = ETHERNET + F::HEADER;
    let quote = quotable::<F, P>(packet)?;
    let payload_len = (HEADER + quote) as u16;
    let Tuple {
        source, destination, ..
    } = &notes.to;
    packet.view::<QUOTED>(at).ok_or(Reason::Malformed)?;
    // Whole words, with zeros at the end of the last one, which goes again.
    let words = quote.div_ceil(4) as u32;
    let beyond = 4 * words as usize - quote;
    packet.resize(at + HEADER + quote + beyond)?;
    // From the end, since the quote moves over itself.
    let (mut sum, mut copied) = (0, Ok(()));
    tables.repeat(words, |_, turn| {
        let word = ETHERNET + 4 * words.wrapping_sub(1 + turn) as usize;
        let kept = if turn == 0 { u32::MAX << (8 * beyond) } else { u32::MAX };
        copied = copy_word(packet, word, word + F::HEADER + HEADER, kept, &mut sum);
        copied.is_err()
    });
    copied?;
    if beyond != 0 {
        packet.resize(at + HEADER + quote)?;
    }
    if F::ICMP_COVERS_ADDRESSES {
        sum += source.sum() + destination.sum() + csum::pseudo(F::ICMP, payload_len);
    }
    let (kind, code) = F::says(complaint);
    // Over IPv4 the MTU has two bytes, and over IPv6 four.
    let [m0, m1] = mtu.to_be_bytes();
    let [c0, c1] = csum::finish(csum::sum(&[kind, code, 0, 0, 0, 0, m0, m1]) + sum);
    packet.store(at, &[kind, code, c0, c1, 0, 0, m0, m1])?;
    F::store(packet, source, destination, F::ICMP, payload_len)?;
    ethernet::turn(packet)
}

/// How much of a packet an error quotes. The frame may be longer than its packet; and a packet that is too long for its header to
/// say so is as long as the frame.
#[inline(always)]
fn quotable<F: Family, P: Packet>(packet: &P) -> Result<usize, Reason> {
    let there = packet.len().saturating_sub(ETHERNET);
    let whole = match F::payload_len(packet)? {
        0 => there,
        payload => there.min(F::HEADER + payload),
    };
    Ok(whole.min(F::ERROR - F::HEADER - HEADER))
}

/// Copies the bits that are `kept` of four bytes in network order, and adds them to a sum.
#[inline(always)]
fn copy_word<P: Packet>(packet: &mut P, from: usize, to: usize, kept: u32, sum: &mut u32) -> Result<(), Reason> {
    let word = u32::from_be_bytes(*packet.view::<4>(from).ok_or(Reason::Malformed)?);
    let bytes = (word & kept).to_be_bytes();
    *sum += csum::sum(&bytes);
    packet.store(to, &bytes)
}
