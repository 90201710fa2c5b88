//! The connection table: what a translated connection's packets become, in both directions, and how long it is known.
//!
//! One race is tolerated: two CPUs may see the first packets of one flow at once. The answering direction's entry is
//! inserted first and only if it is not there, so one of them wins and the other takes over what the winner wrote.

use netpath_common::abi::conntrack::{
    Connection, DIRECTION_ORIGINAL, DIRECTION_RELAYED, DIRECTION_REPLY, STATE_CLIENT_CLOSED, STATE_CLOSING,
    STATE_ESTABLISHED, STATE_NEW, STATE_SERVER_CLOSED, Tuple,
};
use netpath_common::{
    abi::service::{Frontend, Service},
    reason::Reason,
};

use crate::{
    family::Address,
    flow::{self, FIN, Flow, Kind, RST, SCTP, TCP},
    nat::Target,
    scratch::{Look, Notes},
    tables::{InsertError, Tables},
};

/// Entries are touched at most this often, in seconds: writing to a shared cache line costs more than reading it.
const TOUCH_EVERY: u32 = 5;

/// How long a closed connection of TCP or SCTP keeps a port of source NAT from being taken again, in seconds. Far less than
/// TIME_WAIT: its end hosts tell an old segment from a new connection by sequence numbers and time stamps (RFC 6191), or an old
/// packet by its tag, and 120 s would leave a busy node without ports.
const CLOSED_KEEPS_PORT: u32 = 5;

/// Seconds of silence after which a connection is forgotten. TCP as kube-proxy sets it (a day established, an hour where one end
/// has closed, since the other may work on its answer), the rest as the kernel's own connection tracking has it. Of SCTP that is
/// the time of five heartbeats and the longest retransmission, after which an end gives a silent path up; here also for one that
/// seems to close, since anyone can forge an end, and heartbeats keep a connection that lives on.
#[inline(always)]
fn timeout(protocol: u8, state: u8) -> u32 {
    match (protocol, state) {
        (TCP, STATE_NEW) => 60,
        (TCP, STATE_ESTABLISHED) => 86_400,
        (TCP, STATE_CLIENT_CLOSED | STATE_SERVER_CLOSED) => 3_600,
        (TCP, _) => 120,
        (_, STATE_NEW) => 30,
        (SCTP, _) => 210,
        _ => 180,
    }
}

#[inline(always)]
fn translated<A: Address>(connection: &Connection<A>, protocol: u8) -> Tuple<A> {
    Tuple {
        source: connection.source,
        destination: connection.destination,
        source_port: connection.source_port,
        destination_port: connection.destination_port,
        protocol,
        reserved: [0; 3],
    }
}

/// A new connection's entry, of a packet that becomes `to`.
#[inline(always)]
pub fn entry<A: Address>(to: &Tuple<A>, direction: u8, now: u32, set: u32) -> Connection<A> {
    Connection {
        source: to.source,
        destination: to.destination,
        source_port: to.source_port,
        destination_port: to.destination_port,
        state: STATE_NEW,
        direction,
        ttl: 0,
        reserved: 0,
        last_seen: now,
        set,
    }
}

/// Writes to `to` what this packet must become, if its connection is known: [`Target::New`], or [`Target::Relay`] to the backend's
/// node. Follows the connection's state.
#[inline(never)]
pub fn find<A: Address, T: Tables<A>>(tables: &mut T, notes: &mut Notes<A>) -> Target {
    let Notes { flow, to, look, .. } = notes;
    if !tables.connection(&flow.tuple, &mut look.connection) {
        return Target::Same;
    }
    let connection = &look.connection;
    look.tuple = translated(connection, flow.tuple.protocol);
    look.other = flow::reversed(&look.tuple);
    let now = tables.now();
    let idle = now.wrapping_sub(connection.last_seen);
    let relayed = connection.direction == DIRECTION_RELAYED;
    if idle > timeout(flow.tuple.protocol, connection.state) || reopens(tables, flow, connection) {
        tables.remove_connection(&flow.tuple);
        tables.remove_connection(&look.other);
        return Target::Same;
    }
    let state = next_state(flow, connection);
    if state != connection.state || idle >= TOUCH_EVERY {
        tables.touch_connection(&flow.tuple, state, now);
        if !tables.touch_connection(&look.other, state, now) && !relayed {
            restore(tables, &flow.tuple, look, state, now);
        }
    }
    *to = look.tuple;
    if relayed { Target::Relay } else { Target::New }
}

/// Puts the other direction's entry back, of a connection whose packet has this tuple: where the table is full, the direction that
/// is used less goes first.
#[inline(always)]
fn restore<A: Address, T: Tables<A>>(tables: &mut T, tuple: &Tuple<A>, look: &mut Look<A>, state: u8, now: u32) {
    let direction = match look.connection.direction {
        DIRECTION_REPLY => DIRECTION_ORIGINAL,
        _ => DIRECTION_REPLY,
    };
    let other = entry(&flow::reversed(tuple), direction, now, look.connection.set);
    look.connection = Connection { state, ..other };
    // If another connection has the tuple by now, it has it.
    let _ = tables.add_connection(&look.other, &look.connection);
}

/// The state that a packet brings its connection to.
#[inline(always)]
fn next_state<A: Address>(flow: &Flow<A>, connection: &Connection<A>) -> u8 {
    let state = connection.state;
    let (closed, other) = match connection.direction {
        DIRECTION_REPLY => (STATE_SERVER_CLOSED, STATE_CLIENT_CLOSED),
        _ => (STATE_CLIENT_CLOSED, STATE_SERVER_CLOSED),
    };
    // Of a relayed connection no answer is seen: whoever goes on has got one.
    let answered = match connection.direction {
        DIRECTION_REPLY => true,
        DIRECTION_RELAYED => !flow.opens(),
        _ => false,
    };
    match flow.kind {
        Kind::Sctp if flow.flags & (FIN | RST) != 0 => STATE_CLOSING,
        Kind::Tcp if flow.flags & RST != 0 => STATE_CLOSING,
        Kind::Tcp if flow.flags & FIN != 0 && (state == other || state == STATE_CLOSING) => STATE_CLOSING,
        Kind::Tcp if flow.flags & FIN != 0 => closed,
        _ if state == STATE_NEW && answered => STATE_ESTABLISHED,
        _ => state,
    }
}

/// Whether the packet opens a new connection under the tuple of an old one: an end of the old one had closed, or its backend was
/// chosen from a set that its frontend no longer has, so that the backend may be gone.
#[inline(always)]
fn reopens<A: Address, T: Tables<A>>(tables: &T, flow: &Flow<A>, connection: &Connection<A>) -> bool {
    if !flow.opens() || connection.direction == DIRECTION_REPLY {
        return false;
    }
    if !matches!(connection.state, STATE_NEW | STATE_ESTABLISHED) {
        return true;
    }
    connection.set != 0
        && service(tables, &frontend(&flow.tuple))
            .is_none_or(|service| ![service.set, service.outside_set].contains(&connection.set))
}

/// What is at a frontend, or at that of any node where another one relayed what asks for it.
#[inline(always)]
fn service<A: Address, T: Tables<A>>(tables: &T, frontend: &Frontend<A>) -> Option<Service> {
    tables
        .service(frontend)
        .or_else(|| tables.service(&frontend.anywhere()))
}

/// The frontend that a packet of this tuple asks for.
#[inline(always)]
pub fn frontend<A: Address>(tuple: &Tuple<A>) -> Frontend<A> {
    Frontend {
        address: tuple.destination,
        port: tuple.destination_port,
        protocol: tuple.protocol,
        reserved: 0,
    }
}

/// Makes the packet's connection known: packets of its tuple become `to`, and answers accordingly. Without a `free` port this
/// only looks whether another CPU found one for the same flow: then `to` becomes what that CPU wrote, as it does when that CPU
/// was faster.
///
/// # Errors
/// [`Reason::NatExhausted`], [`Reason::ConntrackFull`]; nothing is left behind then.
#[inline(never)]
pub fn open<A: Address, T: Tables<A>>(
    tables: &mut T,
    notes: &mut Notes<A>,
    set: u32,
    free: bool,
) -> Result<(), Reason> {
    let Notes { flow, to, look, .. } = notes;
    let opened = if free {
        insert(tables, &flow.tuple, to, look, set)
    } else {
        Err(InsertError::Exists)
    };
    let Err(error) = opened else { return Ok(()) };
    if tables.connection(&flow.tuple, &mut look.connection) {
        *to = translated(&look.connection, flow.tuple.protocol);
        return Ok(());
    }
    Err(match error {
        InsertError::Exists => Reason::NatExhausted,
        InsertError::Full => Reason::ConntrackFull,
    })
}

#[inline(always)]
fn insert<A: Address, T: Tables<A>>(
    tables: &mut T,
    from: &Tuple<A>,
    to: &Tuple<A>,
    look: &mut Look<A>,
    set: u32,
) -> Result<(), InsertError> {
    let now = tables.now();
    look.tuple = flow::reversed(to);
    look.connection = entry(&flow::reversed(from), DIRECTION_REPLY, now, set);
    tables.add_connection(&look.tuple, &look.connection)?;
    look.connection = entry(to, DIRECTION_ORIGINAL, now, set);
    if let Err(error) = tables.add_connection(from, &look.connection) {
        tables.remove_connection(&look.tuple);
        return Err(error);
    }
    Ok(())
}

/// Whether no connection's answers have the tuple that is looked up, but for that whose own packets have the tuple `own`. One that
/// nobody needs any more is removed, and what is left of that one too: it is opened anew.
#[inline(always)]
pub fn is_free<A: Address, T: Tables<A>>(tables: &mut T, own: &Tuple<A>, look: &mut Look<A>) -> bool {
    if !tables.connection(&look.tuple, &mut look.connection) {
        return true;
    }
    let (connection, protocol) = (&look.connection, look.tuple.protocol);
    let idle = tables.now().wrapping_sub(connection.last_seen);
    let closed = matches!(protocol, TCP | SCTP) && connection.state == STATE_CLOSING && idle > CLOSED_KEEPS_PORT;
    let over = closed || idle > timeout(protocol, connection.state);
    look.other = flow::reversed(&translated(connection, protocol));
    if !over && look.other != *own {
        return false;
    }
    tables.remove_connection(&look.tuple);
    tables.remove_connection(&look.other);
    true
}
