//! ICMP errors that pass: an error about a translated packet quotes what its sender never sent. It must quote the packet
//! as the receiver of the error knows it, or the receiver's socket does not recognise its own.

use netpath_common::{abi::conntrack::Tuple, reason::Reason};

use crate::{
    csum,
    family::Family,
    flow::{self, Flow, TCP, UDP},
    ipv4,
    packet::{Covered, Packet},
    tables::Tables,
};

/// The ICMP header before the quote.
const ICMP_HEADER: usize = 8;
/// What is read of the quote: a header without options and 8 bytes.
const QUOTE: usize = ipv4::HEADER + 8;

/// Rewrites what an error about a translated packet quotes, and gives the addresses that the error itself must have.
/// `None`: the error is about a packet that was not translated.
///
/// The quoted packet is what left after translation. So its reversed tuple is that of an answer, and the connection knows
/// what an answer becomes; reversed again, that is the packet as it was before.
///
/// # Errors
/// Those of [`Family::requote`].
#[inline(never)]
pub fn translate<F: Family, P: Packet, T: Tables<F::Addr>>(
    packet: &mut P,
    tables: &mut T,
    flow: &Flow<F::Addr>,
) -> Result<Option<Tuple<F::Addr>>, Reason> {
    let Some(sent) = F::quoted(packet, flow.payload) else {
        return Ok(None);
    };
    let Some(answer) = tables.connection(&flow::reversed(&sent)) else {
        return Ok(None);
    };
    let original = Tuple {
        source: answer.destination,
        destination: answer.source,
        source_port: answer.destination_port,
        destination_port: answer.source_port,
        protocol: sent.protocol,
        reserved: [0; 3],
    };
    F::requote(packet, flow.payload, &original)?;
    let mut target = flow.tuple;
    target.destination = original.source;
    // The target itself complains: under the address that the receiver knows it by. A router keeps its own.
    if target.source == sent.destination {
        target.source = original.destination;
    }
    Ok(Some(target))
}

/// Reads an IPv4 quote. Those with options, of a later fragment or of a protocol without ports are not translated.
#[inline(always)]
pub fn quoted4<P: Packet>(packet: &P, icmp: usize) -> Option<Tuple<[u8; 4]>> {
    let quote = packet.view::<QUOTE>(icmp + ICMP_HEADER)?;
    if quote[0] != 0x45 || quote[6] & 0x1f != 0 || quote[7] != 0 {
        return None;
    }
    let protocol = quote[9];
    let (source_port, destination_port) = match protocol {
        TCP | UDP => (
            u16::from_be_bytes([quote[20], quote[21]]),
            u16::from_be_bytes([quote[22], quote[23]]),
        ),
        // An echo: both ports are its identifier.
        1 => (
            u16::from_be_bytes([quote[24], quote[25]]),
            u16::from_be_bytes([quote[24], quote[25]]),
        ),
        _ => return None,
    };
    Some(Tuple {
        source: [quote[12], quote[13], quote[14], quote[15]],
        destination: [quote[16], quote[17], quote[18], quote[19]],
        source_port,
        destination_port,
        protocol,
        reserved: [0; 3],
    })
}

/// Rewrites an IPv4 quote that [`quoted4`] could read.
///
/// # Errors
/// [`Reason::Malformed`], [`Reason::RewriteFailed`].
#[inline(always)]
pub fn requote4<P: Packet>(packet: &mut P, icmp: usize, tuple: &Tuple<[u8; 4]>) -> Result<(), Reason> {
    let at = icmp + ICMP_HEADER;
    let old = *packet.view::<QUOTE>(at).ok_or(Reason::Malformed)?;
    let mut new = old;
    let mut addresses = [0; 8];
    addresses[..4].copy_from_slice(&tuple.source);
    addresses[4..].copy_from_slice(&tuple.destination);
    new[12..20].copy_from_slice(&addresses);
    let old_addresses = [old[12], old[13], old[14], old[15], old[16], old[17], old[18], old[19]];
    let of_addresses = csum::difference(&old_addresses, &addresses);
    let [c0, c1] = csum::adapt([old[10], old[11]], of_addresses);
    new[10] = c0;
    new[11] = c1;
    let [s0, s1] = tuple.source_port.to_be_bytes();
    let [d0, d1] = tuple.destination_port.to_be_bytes();
    match tuple.protocol {
        TCP | UDP => {
            new[20] = s0;
            new[21] = s1;
            new[22] = d0;
            new[23] = d1;
            let of_ports = csum::difference(&[old[20], old[21], old[22], old[23]], &[s0, s1, d0, d1]);
            // TCP's checksum lies beyond what an error must quote; UDP's does not, and 0 means that there is none.
            if tuple.protocol == UDP && (old[26] != 0 || old[27] != 0) {
                let [c0, c1] = csum::adapt([old[26], old[27]], of_addresses + of_ports);
                let zero = c0 == 0 && c1 == 0;
                new[26] = if zero { 0xff } else { c0 };
                new[27] = if zero { 0xff } else { c1 };
            }
        }
        _ => {
            new[24] = s0;
            new[25] = s1;
            let [c0, c1] = csum::adapt([old[22], old[23]], csum::difference(&[old[24], old[25]], &[s0, s1]));
            new[22] = c0;
            new[23] = c1;
        }
    }
    packet.store(at, &new)?;
    packet.adapt_checksum(icmp + 2, csum::difference(&old, &new), Covered::Segment, false)
}
