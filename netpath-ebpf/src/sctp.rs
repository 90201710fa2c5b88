//! SCTP (RFC 9260): what a packet is to its connection, and what other ports make of its checksum.
//!
//! The checksum covers the packet from its ports to its end, and no address: where ports stay it stays. Addresses within the
//! packet, by which its ends may tell each other of further ones (section 3.3.2.1), are not translated.

use netpath_common::reason::Reason;

use crate::{
    crc32c, csum,
    family::{Address, Family, Fragment},
    flow::{ACK, FIN, Flow, Kind, RST, SYN},
    packet::{ETHERNET, Packet},
    scratch::Notes,
    tables::Tables,
};

/// The common header (section 3.1): ports, the verification tag, the checksum.
pub const HEADER: usize = 12;

const CHECKSUM: usize = 8;

// Chunks (section 3.2), by their types.
const INIT: usize = 1;
const INIT_ACK: usize = 2;
const ABORT: usize = 6;
const SHUTDOWN_ACK: usize = 8;
const SHUTDOWN_COMPLETE: usize = 14;
const OTHERS: usize = 15;

/// Reads the common header and the type of the first chunk.
///
/// # Errors
/// [`Reason::Malformed`] if the packet ends before: every packet has a chunk.
#[inline(always)]
pub fn parse<A: Address, P: Packet>(packet: &P, flow: &mut Flow<A>) -> Result<(), Reason> {
    let sctp = packet.view::<{ HEADER + 4 }>(flow.payload).ok_or(Reason::Malformed)?;
    flow.tuple.source_port = u16::from_be_bytes([sctp[0], sctp[1]]);
    flow.tuple.destination_port = u16::from_be_bytes([sctp[2], sctp[3]]);
    flow.kind = Kind::Sctp;
    flow.flags = flags(sctp[HEADER]);
    flow.header_len = HEADER;
    Ok(())
}

/// The flags of a TCP segment that says the same as a packet whose first chunk is of this type. Chunks that open or end a
/// connection stand alone or come first; where one does not, it is only forgotten later.
#[inline(always)]
pub fn flags(chunk: u8) -> u8 {
    FLAGS[usize::from(chunk).min(OTHERS)]
}

/// The flags by the chunk's type, and those of all others behind: a table, since ways multiply.
const FLAGS: [u8; OTHERS + 1] = {
    let mut flags = [ACK; OTHERS + 1];
    flags[INIT] = SYN;
    flags[INIT_ACK] = SYN | ACK;
    flags[ABORT] = RST;
    flags[SHUTDOWN_ACK] = FIN | ACK;
    flags[SHUTDOWN_COMPLETE] = FIN | ACK;
    flags
};

/// Gives the packet the ports of `to`, and adapts its checksum. One of 0 is left: it is yet to be computed, by the sender's
/// card or by its kernel where a packet leaves the machine; or there is none, as both ends may agree (RFC 9653). That a
/// checksum comes to 0 happens once in 2^32 packets, and such a one is lost.
///
/// # Errors
/// [`Reason::SctpFragment`] for a first fragment with a checksum, which covers what is still to come; [`Reason::Malformed`].
#[inline(always)]
pub fn rewrite<F: Family, P: Packet, T: Tables<F::Addr>>(
    packet: &mut P,
    tables: &mut T,
    notes: &Notes<F::Addr>,
) -> Result<(), Reason> {
    let Notes { header, flow, to, .. } = notes;
    let old = ports(flow.tuple.source_port, flow.tuple.destination_port);
    let new = ports(to.source_port, to.destination_port);
    if old == new {
        return Ok(());
    }
    let mut changed = csum::difference(&old, &new);
    let at = flow.payload + CHECKSUM;
    let checksum = *packet.view::<4>(at).ok_or(Reason::Malformed)?;
    if checksum != [0; 4] {
        if header.fragment != Fragment::Whole {
            return Err(Reason::SctpFragment);
        }
        // The frame may be longer than its packet.
        let end = ETHERNET + F::HEADER + F::payload_len(packet)?;
        let len = end.checked_sub(flow.payload).ok_or(Reason::Malformed)?;
        let mut change = crc32c::Change::of(old, new, len);
        tables.repeat(crc32c::Change::TURNS, |_, turn| {
            change.turn(turn);
            false
        });
        let adapted = change.adapt(checksum);
        packet.store(at, &adapted)?;
        changed += csum::difference(&checksum, &adapted);
    }
    packet.store(flow.payload, &new)?;
    packet.note_change(changed);
    Ok(())
}

#[inline(always)]
fn ports(source: u16, destination: u16) -> [u8; 4] {
    let ([s0, s1], [d0, d1]) = (source.to_be_bytes(), destination.to_be_bytes());
    [s0, s1, d0, d1]
}
