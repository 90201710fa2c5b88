//! Network address translation: the port that source NAT takes, and the change of a packet from one tuple to another.

use netpath_common::{
    abi::{config::Config, conntrack::Tuple},
    reason::Reason,
};

use crate::{
    conntrack, csum,
    family::{Address, Family},
    flow::{self, Flow, Kind, TCP, UDP},
    hash,
    packet::{Covered, Packet},
    tables::{InsertError, Tables},
};

/// How many ports are tried. At nine tenths taken, 24 tries find a free one in 92 of 100 cases; the client's next attempt
/// tries others.
const ATTEMPTS: u32 = 24;

/// Opens a connection whose source is translated, on a port that neither another connection nor a socket of the node
/// has. `to` has everything but its source port, which is filled in.
///
/// # Errors
/// [`Reason::NatExhausted`], [`Reason::ConntrackFull`].
#[inline(never)]
pub fn open_with_port<A: Address, T: Tables<A>>(
    tables: &mut T,
    config: &Config,
    from: &Tuple<A>,
    to: &mut Tuple<A>,
    set: u32,
) -> Result<(), Reason> {
    let span = u32::from(config.nat_port_max.saturating_sub(config.nat_port_min)) + 1;
    let first = hash::choose(hash::tuple(from, config.hash_seed), span);
    // An echo has one identifier, which stands in both places.
    let echo = !matches!(to.protocol, TCP | UDP);
    for attempt in 0..ATTEMPTS {
        let offset = first + attempt;
        let offset = if offset >= span { offset - span } else { offset };
        // Adding to a 16-bit minimum stays below 2^16: the span ends at the maximum. With fewer ports than attempts
        // the sum may pass it; such a port is not ours.
        let port = u32::from(config.nat_port_min) + offset;
        if port > u32::from(config.nat_port_max) {
            continue;
        }
        to.source_port = port as u16;
        if echo {
            to.destination_port = to.source_port;
        }
        if !echo && tables.host_socket(&flow::reversed(to)) {
            continue;
        }
        match conntrack::open(tables, from, to, set) {
            Ok(()) => return Ok(()),
            Err(InsertError::Exists) => {}
            Err(InsertError::Full) => return Err(Reason::ConntrackFull),
        }
    }
    Err(Reason::NatExhausted)
}

/// Changes the packet of a flow so that it has the tuple `to`.
///
/// # Errors
/// [`Reason::Malformed`], [`Reason::RewriteFailed`].
#[inline(always)]
pub fn rewrite<F: Family, P: Packet>(packet: &mut P, flow: &Flow<F::Addr>, to: &Tuple<F::Addr>) -> Result<(), Reason> {
    let from = &flow.tuple;
    F::readdress(packet, to.source, to.destination)?;
    let of_addresses = from.source.difference(&to.source) + from.destination.difference(&to.destination);
    match flow.kind {
        Kind::Tcp { .. } => transport(packet, flow, to, 16, of_addresses, false),
        Kind::Udp => transport(packet, flow, to, 6, of_addresses, true),
        Kind::Echo => {
            let old = from.source_port.to_be_bytes();
            let new = to.source_port.to_be_bytes();
            packet.store(flow.payload + 4, &new)?;
            packet.adapt_checksum(flow.payload + 2, csum::difference(&old, &new), Covered::Segment, false)
        }
        // Later fragments have neither ports nor a checksum; an error's quote is rewritten where it is understood.
        Kind::Error | Kind::Tail { .. } | Kind::Other => Ok(()),
    }
}

/// Writes both ports and adapts the checksum that lies `checksum` bytes into the header.
#[inline(always)]
fn transport<P: Packet, A: Address>(
    packet: &mut P,
    flow: &Flow<A>,
    to: &Tuple<A>,
    checksum: usize,
    of_addresses: u32,
    optional: bool,
) -> Result<(), Reason> {
    let [o0, o1] = flow.tuple.source_port.to_be_bytes();
    let [o2, o3] = flow.tuple.destination_port.to_be_bytes();
    let [n0, n1] = to.source_port.to_be_bytes();
    let [n2, n3] = to.destination_port.to_be_bytes();
    let old = [o0, o1, o2, o3];
    let new = [n0, n1, n2, n3];
    packet.store(flow.payload, &new)?;
    let checksum = flow.payload + checksum;
    packet.adapt_checksum(checksum, of_addresses, Covered::PseudoHeader, optional)?;
    packet.adapt_checksum(checksum, csum::difference(&old, &new), Covered::Segment, optional)
}
