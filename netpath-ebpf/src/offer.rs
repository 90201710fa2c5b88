//! What a frontend offers to a connection: a set of backends. Sets are in order, so that halving finds a backend or its absence
//! in as many lookups as the set's size has binary digits, two for three backends.

use netpath_common::abi::service::BackendKey;

use crate::{family::Address, tables::Tables};

/// Turns that halving may take: as many as it takes to find nothing among 2^32.
const HALVINGS: u32 = 33;

/// What a frontend offers to a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// The set of backends.
    pub set: u32,
    /// How many there are.
    pub count: u32,
    /// [`netpath_common::abi::service::Service::maglev`] of the set.
    pub maglev: u8,
    /// The number under which the client is remembered; 0 if it is not.
    pub affinity: u32,
    /// For how long, in seconds.
    pub affinity_timeout: u32,
}

/// Whether a backend is in the set that is on offer.
#[inline(always)]
pub fn has<A: Address, T: Tables<A>>(tables: &mut T, offer: &Offer, address: A, port: u16) -> bool {
    let (set, mut low, mut high) = (offer.set, 0, offer.count);
    let mut found = false;
    tables.repeat(HALVINGS, |tables, _| {
        if low >= high {
            return true;
        }
        let slot = low + (high - low) / 2;
        let Some(backend) = tables.backend(BackendKey { set, slot }) else {
            return true;
        };
        let same = backend.address == address;
        found = same && backend.port == port;
        if same && backend.port < port || backend.address.precedes(&address) {
            low = slot + 1;
        } else {
            high = slot;
        }
        found
    });
    found
}
