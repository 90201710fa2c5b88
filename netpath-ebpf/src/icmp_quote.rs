//! ICMP errors that pass: an error about a translated packet quotes what its sender never sent. It must quote the packet
//! as the receiver of the error knows it, or the receiver's socket does not recognise its own.

use netpath_common::{
    abi::conntrack::{DIRECTION_RELAYED, Tuple},
    reason::Reason,
};

use crate::{
    csum,
    family::{Address, Family},
    flow::{self, SCTP, TCP, UDP},
    icmp,
    nat::Target,
    packet::{Covered, Packet},
    scratch::Notes,
    tables::Tables,
    v6::FRAGMENT_LEN,
};

/// Rewrites what an error about a translated packet quotes, and gives `to`, which is the error's own tuple, the addresses
/// that it must have.
///
/// The quoted packet is what left after translation. So its reversed tuple is that of an answer, and the connection knows
/// what an answer becomes; reversed again, that is the packet as it was before.
///
/// An error about a connection that was relayed goes to the backend's node as well: the quoted packet came from there.
///
/// It drops for the reasons of [`requote`].
#[inline(never)]
pub fn translate<F: Family, P: Packet, T: Tables<F::Addr>>(
    packet: &mut P,
    tables: &mut T,
    notes: &mut Notes<F::Addr>,
) -> Target {
    let Notes { flow, to, look, .. } = notes;
    let at = flow.payload + icmp::HEADER;
    // The quoted packet.
    if quoted::<F, P>(packet, at, &mut look.other).is_none() {
        return Target::Same;
    }
    // What is written here is read again: by words, where the compiler would keep bytes in registers.
    tables.settle(look);
    look.tuple = flow::reversed(&look.other);
    if !tables.connection(&look.tuple, &mut look.connection) {
        return Target::Same;
    }
    let (answer, sent) = (&look.connection, &look.other);
    if answer.direction == DIRECTION_RELAYED {
        to.destination = answer.destination;
        return Target::Relay;
    }
    // That packet as it was before.
    look.tuple = Tuple {
        source: answer.destination,
        destination: answer.source,
        source_port: answer.destination_port,
        destination_port: answer.source_port,
        protocol: sent.protocol,
        reserved: [0; 3],
    };
    to.destination = look.tuple.source;
    // The target itself complains: under the address that the receiver knows it by. A router keeps its own.
    if to.source == sent.destination {
        to.source = look.tuple.destination;
    }
    tables.settle(look);
    let Some((payload, _)) = F::quoted(packet, at) else {
        return Target::Drop(Reason::Malformed);
    };
    let done = if payload == at + F::HEADER {
        requote::<F, P, 0>(packet, flow.payload, &look.other, &look.tuple)
    } else {
        requote::<F, P, FRAGMENT_LEN>(packet, flow.payload, &look.other, &look.tuple)
    };
    match done {
        Ok(()) => Target::New,
        Err(reason) => Target::Drop(reason),
    }
}

/// Reads the tuple of a quoted packet, if it can be told. Those with options, of a later fragment or of a protocol without ports
/// are not translated.
#[inline(always)]
fn quoted<F: Family, P: Packet>(packet: &P, at: usize, tuple: &mut Tuple<F::Addr>) -> Option<()> {
    let (payload, protocol) = F::quoted(packet, at)?;
    let [s0, s1, d0, d1, i0, i1, _, _] = *packet.view::<{ icmp::QUOTED }>(payload)?;
    let (source_port, destination_port) = match protocol {
        TCP | UDP | SCTP => ([s0, s1], [d0, d1]),
        // Of an echo both ports are its identifier.
        protocol if protocol == F::ICMP => ([i0, i1], [i0, i1]),
        _ => return None,
    };
    *tuple = Tuple {
        source: *F::Addr::view(packet, at + F::SOURCE)?,
        destination: *F::Addr::view(packet, at + F::DESTINATION)?,
        source_port: u16::from_be_bytes(source_port),
        destination_port: u16::from_be_bytes(destination_port),
        protocol,
        reserved: [0; 3],
    };
    Some(())
}

/// Rewrites what the ICMP error at an offset quotes, which is `old`, so that it has the tuple `new`, and adapts all checksums.
/// Between its header and its payload are `BETWEEN` bytes.
///
/// # Errors
/// [`Reason::Malformed`], [`Reason::RewriteFailed`].
#[inline(always)]
fn requote<F: Family, P: Packet, const BETWEEN: usize>(
    packet: &mut P,
    icmp: usize,
    old: &Tuple<F::Addr>,
    new: &Tuple<F::Addr>,
) -> Result<(), Reason> {
    let at = icmp + icmp::HEADER;
    let payload = at + F::HEADER + BETWEEN;
    let addresses = old.source.difference(&new.source) + old.destination.difference(&new.destination);
    new.source.write(packet, at + F::SOURCE)?;
    new.destination.write(packet, at + F::DESTINATION)?;
    let mut all = addresses;
    if let Some(checksum) = F::CHECKSUM {
        all += adapt(packet, at + checksum, addresses, false)?;
    }
    match new.protocol {
        TCP | UDP | SCTP => {
            let mut ports = replace(packet, payload, &new.source_port.to_be_bytes())?;
            ports += replace(packet, payload + 2, &new.destination_port.to_be_bytes())?;
            all += ports;
            // The checksums of TCP and SCTP lie beyond what an error must quote, and nobody looks at them there; UDP's does not.
            if new.protocol == UDP {
                all += adapt(packet, payload + 6, addresses + ports, true)?;
            }
        }
        _ => {
            let identifier = replace(packet, payload + 4, &new.source_port.to_be_bytes())?;
            let covered = if F::ICMP_COVERS_ADDRESSES { addresses } else { 0 };
            all += identifier + adapt(packet, payload + 2, identifier + covered, false)?;
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
