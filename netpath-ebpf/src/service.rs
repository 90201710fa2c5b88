//! Services: whom a new connection to a frontend goes to.

use netpath_common::{
    abi::{
        config::Config,
        conntrack::Tuple,
        service::{Backend, BackendKey},
    },
    reason::Reason,
};

use crate::{conntrack, family::Address, hash, tables::Tables};

/// What the services say of a packet that belongs to no known connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<A> {
    /// Its destination is no frontend.
    NotOurs,
    /// The frontend has no backends.
    Refused,
    /// The connection goes to this backend of this set.
    Backend(Backend<A>, u32),
}

/// Looks for a frontend, and chooses among its backends by the hash of the whole tuple: every connection anew, every
/// packet of one alike.
///
/// # Errors
/// [`Reason::NoBackend`] if the chosen place is empty.
#[inline(always)]
pub fn choose<A: Address, T: Tables<A>>(tables: &T, config: &Config, tuple: &Tuple<A>) -> Result<Answer<A>, Reason> {
    let Some(service) = tables.service(conntrack::frontend(tuple)) else {
        return Ok(Answer::NotOurs);
    };
    if service.count == 0 {
        return Ok(Answer::Refused);
    }
    let slot = hash::choose(hash::tuple(tuple, config.hash_seed), service.count);
    let backend = tables
        .backend(BackendKey { set: service.set, slot })
        .ok_or(Reason::NoBackend)?;
    Ok(Answer::Backend(backend, service.set))
}
