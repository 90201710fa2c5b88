//! ICMP errors that a node sends (RFC 792, RFC 4443): a packet too large is told so, and never lost in silence; a service
//! without endpoints refuses what is not TCP; a packet that went in circles is reported.
//!
//! An error quotes the header and 8 bytes of its payload, which is what a socket is found by; of SCTP's INIT some more, or its
//! sender would not believe it. RFC 4443, section 2.4, would have an error over IPv6 quote as much as fits 1280 bytes; nothing
//! that stacks make of an error is in the rest.

use netpath_common::{abi::conntrack::Tuple, reason::Reason};

use crate::{
    csum, ethernet,
    family::{Address, Complaint, Family},
    flow::{Kind, SYN},
    packet::{ETHERNET, Packet},
    scratch::Notes,
    sctp,
    tables::Tables,
};

/// The length of an error's own header.
pub const HEADER: usize = 8;
/// What an error quotes of the packet's payload.
pub const QUOTED: usize = 8;
/// The same of an INIT.
const QUOTED_OF_INIT: usize = sctp::QUOTED_OF_INIT;

/// Turns a frame whose IP header has no options into an ICMP error about itself, back the way it came and with the addresses of
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
    let is_init = notes.flow.kind == Kind::Sctp && notes.flow.flags == SYN;
    let quoted = if is_init { QUOTED_OF_INIT } else { QUOTED };
    let quote = F::HEADER + quoted;
    let payload_len = (HEADER + quote) as u16;
    let Tuple {
        source, destination, ..
    } = &notes.to;
    packet.view::<QUOTED>(at).ok_or(Reason::Malformed)?;
    packet.resize(at + HEADER + quote)?;
    // Word by word, since the whole quote in registers would take most of a program's stack; and from its end, since of an INIT
    // the two overlap.
    let (mut sum, mut copied) = (0, Ok(()));
    let words = quote as u32 / 4;
    tables.repeat(words, |_, turn| {
        let word = ETHERNET + 4 * (words - 1 - turn) as usize;
        copied = copy_word(packet, word, word + F::HEADER + HEADER, &mut sum);
        copied.is_err()
    });
    copied?;
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

/// Copies four bytes, and adds them to a sum.
#[inline(always)]
fn copy_word<P: Packet>(packet: &mut P, from: usize, to: usize, sum: &mut u32) -> Result<(), Reason> {
    let bytes = *packet.view::<4>(from).ok_or(Reason::Malformed)?;
    *sum += csum::sum(&bytes);
    packet.store(to, &bytes)
}
