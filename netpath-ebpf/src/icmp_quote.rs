//! ICMP errors that pass: an error about a translated packet quotes what its sender never sent. It must quote the packet
//! as the receiver of the error knows it, or the receiver's socket does not recognise its own.

use netpath_common::{abi::conntrack::Tuple, reason::Reason};

use crate::{
    csum,
    family::Family,
    flow::{self, Flow, TCP, UDP},
    ipv4,
    nat::Target,
    packet::{Covered, Packet},
    tables::Tables,
};

/// The ICMP header before the quote.
const ICMP_HEADER: usize = 8;
/// What is read of the quote: a header without options and 8 bytes.
const QUOTE: usize = ipv4::HEADER + 8;

/// Rewrites what an error about a translated packet quotes, and gives `to`, which is the error's own tuple, the addresses
/// that it must have.
///
/// The quoted packet is what left after translation. So its reversed tuple is that of an answer, and the connection knows
/// what an answer becomes; reversed again, that is the packet as it was before.
///
/// It drops for the reasons of [`Family::requote`].
#[inline(never)]
pub fn translate<F: Family, P: Packet, T: Tables<F::Addr>>(
    packet: &mut P,
    tables: &mut T,
    flow: &Flow<F::Addr>,
    to: &mut Tuple<F::Addr>,
) -> Target {
    let Some(sent) = F::quoted(packet, flow.payload) else {
        return Target::Same;
    };
    let Some(answer) = tables.connection(&flow::reversed(&sent)) else {
        return Target::Same;
    };
    let original = Tuple {
        source: answer.destination,
        destination: answer.source,
        source_port: answer.destination_port,
        destination_port: answer.source_port,
        protocol: sent.protocol,
        reserved: [0; 3],
    };
    if let Err(reason) = F::requote(packet, flow.payload, &original) {
        return Target::Drop(reason);
    }
    to.destination = original.source;
    // The target itself complains: under the address that the receiver knows it by. A router keeps its own.
    if to.source == sent.destination {
        to.source = original.destination;
    }
    Target::New
}

/// Reads an IPv4 quote. Those with options, of a later fragment or of a protocol without ports are not translated.
#[inline(always)]
pub fn quoted4<P: Packet>(packet: &P, icmp: usize) -> Option<Tuple<[u8; 4]>> {
    let at = icmp + ICMP_HEADER;
    let quote = packet.view::<QUOTE>(at)?;
    if quote[0] != 0x45 || quote[6] & 0x1f != 0 || quote[7] != 0 {
        return None;
    }
    let protocol = quote[9];
    let port = |from: usize| packet.view::<2>(at + from).map(|bytes| u16::from_be_bytes(*bytes));
    let (source_port, destination_port) = match protocol {
        TCP | UDP => (port(20)?, port(22)?),
        // An echo: both ports are its identifier.
        1 => (port(24)?, port(24)?),
        _ => return None,
    };
    Some(Tuple {
        source: *packet.view(at + 12)?,
        destination: *packet.view(at + 16)?,
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
    // Piece by piece: the whole quote in registers would take most of a program's stack.
    let mut addresses = replace(packet, at + 12, &tuple.source)?;
    addresses += replace(packet, at + 16, &tuple.destination)?;
    let mut all = addresses + adapt(packet, at + 10, addresses, false)?;
    match tuple.protocol {
        TCP | UDP => {
            let mut ports = replace(packet, at + 20, &tuple.source_port.to_be_bytes())?;
            ports += replace(packet, at + 22, &tuple.destination_port.to_be_bytes())?;
            all += ports;
            // TCP's checksum lies beyond what an error must quote; UDP's does not.
            if tuple.protocol == UDP {
                all += adapt(packet, at + 26, addresses + ports, true)?;
            }
        }
        _ => {
            let identifier = replace(packet, at + 24, &tuple.source_port.to_be_bytes())?;
            all += identifier + adapt(packet, at + 22, identifier, false)?;
        }
    }
    packet.adapt_checksum(icmp + 2, all, Covered::Segment, false)
}

/// Writes a piece of the quote; gives what that adds to a sum over it.
#[inline(always)]
fn replace<const N: usize, P: Packet>(packet: &mut P, at: usize, new: &[u8; N]) -> Result<u32, Reason> {
    let old = *packet.view::<N>(at).ok_or(Reason::Malformed)?;
    packet.store(at, new)?;
    Ok(csum::difference(&old, new))
}

/// Adapts a checksum within the quote; gives what that adds to a sum over it. An `optional` one of 0 is none.
#[inline(always)]
fn adapt<P: Packet>(packet: &mut P, at: usize, difference: u32, optional: bool) -> Result<u32, Reason> {
    let old = *packet.view::<2>(at).ok_or(Reason::Malformed)?;
    if optional && old == [0, 0] {
        return Ok(0);
    }
    let new = csum::adapt(old, difference);
    let new = if optional && new == [0, 0] { [0xff, 0xff] } else { new };
    packet.store(at, &new)?;
    Ok(csum::difference(&old, &new))
}
