//! Network address translation: the port that source NAT takes, and the change of a packet from one tuple to another.

use netpath_common::{
    abi::{config::Config, conntrack::Tuple},
    reason::Reason,
};

use crate::{
    conntrack, csum,
    family::{Address, Family},
    flow::{self, Flow, Kind},
    hash,
    packet::{Covered, Packet},
    scratch::Notes,
    sctp,
    tables::Tables,
};

/// How many ports are tried. At nine tenths taken, 24 tries find a free one in 92 of 100 cases; the client's next attempt
/// tries others.
const ATTEMPTS: u32 = 24;

/// The kernel's ephemeral ports (`net.ipv4.ip_local_port_range`), and where [`apart`] puts the first of them: the lowest that
/// is not privileged.
const EPHEMERAL: core::ops::RangeInclusive<u16> = 32_768..=60_999;
const APART: u16 = 1_024;

/// The port from which a client's connection to a service reaches the backend, if its address stays.
///
/// A client may have two connections from one port at once, one to a service and one to the backend's own address. To the
/// backend both would look alike, and its answers to the second would be taken for those to the first. So connections to
/// services come from below the ephemeral ports, each port from one of its own; ports that a client chose itself, such as
/// privileged ones, stay.
#[inline(always)]
pub fn apart(port: u16) -> u16 {
    if EPHEMERAL.contains(&port) {
        port - *EPHEMERAL.start() + APART
    } else {
        port
    }
}

/// What a packet must become. One word, also with a reason in it: it is handed from function to function in a register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Nothing: it is thrown away.
    Drop(Reason),
    /// It stays as it is.
    #[default]
    Same,
    /// Another tuple, which is written beside.
    New,
    /// A refusal.
    Refusal,
    /// Itself, on another node, which serves it: the backend there is the destination of the tuple beside.
    Relay,
}

const _: () = assert!(size_of::<Target>() == size_of::<Reason>());

/// Opens the packet's connection: packets of its tuple become `to`. Where the source's address changes, `to` gets a source
/// port that neither another connection nor a socket of the node has. Where it stays, the port stays too, unless it is 0 in
/// `to`, or the client uses it toward two frontends of the same backend: to the backend, the second must come from another
/// port.
///
/// Where another CPU was faster with the same flow, its entry decides.
///
/// # Errors
/// [`Reason::NatExhausted`], [`Reason::ConntrackFull`].
#[inline(always)]
pub fn open<A: Address, T: Tables<A>>(
    tables: &mut T,
    config: &Config,
    notes: &mut Notes<A>,
    set: u32,
) -> Result<(), Reason> {
    // Two calls, one after the other, so that their stacks do not add up.
    let found = pick_port(tables, config, notes);
    conntrack::open(tables, notes, set, found)
}

/// Gives `to` a source port that is free; whether there was one.
#[inline(never)]
fn pick_port<A: Address, T: Tables<A>>(tables: &mut T, config: &Config, notes: &mut Notes<A>) -> bool {
    let Notes { flow, to, look, .. } = notes;
    let from = &flow.tuple;
    let keeps = to.source == from.source && to.source_port != 0;
    let span = u32::from(config.nat_port_max.saturating_sub(config.nat_port_min)) + 1;
    let first = hash::choose(hash::tuple(from, config.hash_seed), span);
    tables.repeat(ATTEMPTS, |tables, attempt| {
        let kept = keeps && attempt == 0;
        // An echo has one identifier, which stands in both places.
        let echo = flow.kind == Kind::Echo;
        if !kept {
            let offset = first + attempt;
            let offset = if offset >= span { offset - span } else { offset };
            // Adding to a 16-bit minimum stays below 2^16: the span ends at the maximum. With fewer ports than attempts
            // the sum may pass it; such a port is not ours.
            let port = u32::from(config.nat_port_min) + offset;
            if port > u32::from(config.nat_port_max) {
                return false;
            }
            to.source_port = port as u16;
            if echo {
                to.destination_port = to.source_port;
            }
        }
        look.tuple = flow::reversed(to);
        if !kept && !echo && tables.host_socket(&look.tuple) {
            return false;
        }
        conntrack::is_free(tables, from, look)
    })
}

/// Changes the packet so that it has the tuple `to`.
///
/// # Errors
/// [`Reason::Malformed`], [`Reason::RewriteFailed`]; [`Reason::SctpFragment`] as [`sctp::rewrite`] says.
#[inline(never)]
pub fn rewrite<F: Family, P: Packet, T: Tables<F::Addr>>(
    packet: &mut P,
    tables: &mut T,
    notes: &Notes<F::Addr>,
) -> Result<(), Reason> {
    let Notes { flow, to, .. } = notes;
    let from = &flow.tuple;
    let of_addresses = from.source.difference(&to.source) + from.destination.difference(&to.destination);
    F::readdress(packet, &to.source, &to.destination, of_addresses)?;
    match flow.kind {
        Kind::Tcp => transport(packet, flow, to, 16, of_addresses, false),
        Kind::Udp => transport(packet, flow, to, 6, of_addresses, true),
        Kind::Echo => {
            let old = from.source_port.to_be_bytes();
            let new = to.source_port.to_be_bytes();
            packet.store(flow.payload + 4, &new)?;
            packet.adapt_checksum(flow.payload + 2, csum::difference(&old, &new), Covered::Segment, false)?;
            icmp::<F, P>(packet, flow, of_addresses)
        }
        Kind::Sctp => sctp::rewrite::<F, P, T>(packet, tables, notes),
        // An error's quote is rewritten where it is understood.
        Kind::Error => icmp::<F, P>(packet, flow, of_addresses),
        // Later fragments have neither ports nor a checksum.
        Kind::Tail | Kind::LostTail | Kind::Other => Ok(()),
    }
}

/// Adapts an ICMP message's checksum to other addresses, where it covers them.
#[inline(always)]
fn icmp<F: Family, P: Packet>(packet: &mut P, flow: &Flow<F::Addr>, of_addresses: u32) -> Result<(), Reason> {
    if !F::ICMP_COVERS_ADDRESSES {
        return Ok(());
    }
    packet.adapt_checksum(flow.payload + 2, of_addresses, Covered::PseudoHeader, false)
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
