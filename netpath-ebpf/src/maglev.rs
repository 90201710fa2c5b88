//! The choice that every node makes alike: by a table that follows from the set of backends, and a hash whose seed all nodes
//! share. A connection from outside that its router sends to another node halfway goes to the same backend there.

use netpath_common::abi::{
    config::Config,
    conntrack::Tuple,
    maglev::{BLOCK, MaglevKey},
};

use crate::{family::Address, hash, offer::Offer, tables::Tables};

/// The slot of the backend, if the set has a table. A client that is remembered chooses by its address alone, so that it gets the
/// same backend also on a node that does not know it yet.
#[inline(never)]
pub fn choose<A: Address, T: Tables<A>>(tables: &T, config: &Config, tuple: &Tuple<A>, offer: &Offer) -> Option<u32> {
    let hash = if offer.affinity == 0 {
        hash::tuple(tuple, config.outside_seed)
    } else {
        let client = Tuple {
            source_port: 0,
            ..*tuple
        };
        hash::tuple(&client, config.outside_seed)
    };
    let place = hash >> (32 - u32::from(offer.maglev).min(16));
    let key = MaglevKey {
        set: offer.set,
        block: place / BLOCK as u32,
    };
    tables.maglev(key, place as usize % BLOCK).map(u32::from)
}
