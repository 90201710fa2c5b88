//! Session affinity: a client's connections to a service port go to the backend that its last one went to, for as long as
//! that one serves and the client comes back in time.
//!
//! Whether it still serves is asked of the set itself ([`offer::has`]), and only where a connection opens. A remembered place
//! would be one lookup, but a set that changed has another number and its backends other places: it would fail just when it
//! matters, after every change.
//!
//! One race is tolerated: of two first connections of one client on two CPUs, the one whose choice is remembered later
//! takes over the other's. Where both find a choice that no longer counts, they may go to two backends, and the later one
//! is remembered.

use netpath_common::abi::{
    affinity::{Affinity, Client},
    conntrack::Tuple,
};

use crate::{
    family::Address,
    offer::{self, Offer},
    tables::Tables,
};

/// Makes the backend that is remembered of the tuple's client the destination of `to`, if it was used in time and is on
/// offer; whether it was.
#[inline(never)]
pub fn recall<A: Address, T: Tables<A>>(tables: &mut T, tuple: &Tuple<A>, offer: &Offer, to: &mut Tuple<A>) -> bool {
    let client = client(tuple, offer);
    let Some(mut known) = tables.affinity(&client) else {
        return false;
    };
    let now = tables.now();
    let in_time = now.wrapping_sub(known.last_used) <= offer.affinity_timeout;
    if !in_time || !offer::has(tables, offer, known.address, known.port) {
        return false;
    }
    if now != known.last_used {
        known.last_used = now;
        tables.replace_affinity(&client, &known);
    }
    to.destination = known.address;
    to.destination_port = known.port;
    true
}

/// Remembers the destination of `to`, if nothing is remembered of the tuple's client; whether it did.
#[inline(never)]
pub fn remember<A: Address, T: Tables<A>>(tables: &mut T, tuple: &Tuple<A>, offer: &Offer, to: &Tuple<A>) -> bool {
    let chosen = chosen(to, tables.now());
    tables.add_affinity(&client(tuple, offer), &chosen)
}

/// Remembers the destination of `to` in place of what was.
#[inline(never)]
pub fn replace<A: Address, T: Tables<A>>(tables: &mut T, tuple: &Tuple<A>, offer: &Offer, to: &Tuple<A>) {
    let chosen = chosen(to, tables.now());
    tables.replace_affinity(&client(tuple, offer), &chosen);
}

#[inline(always)]
fn client<A: Address>(tuple: &Tuple<A>, offer: &Offer) -> Client<A> {
    Client {
        address: tuple.source,
        affinity: offer.affinity,
    }
}

#[inline(always)]
fn chosen<A: Address>(to: &Tuple<A>, now: u32) -> Affinity<A> {
    Affinity {
        address: to.destination,
        port: to.destination_port,
        reserved: [0; 2],
        last_used: now,
    }
}
