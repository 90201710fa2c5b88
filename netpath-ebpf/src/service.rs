//! Services: whom a new connection to a frontend goes to.

use netpath_common::{
    abi::{config::Config, conntrack::Tuple, service::BackendKey},
    reason::Reason,
};

use crate::{conntrack, family::Address, hash, nat::Target, tables::Tables};

/// Looks for a frontend, and chooses among its backends by the hash of the whole tuple: every connection anew, every
/// packet of one alike. The chosen one becomes the destination of `to`, and `set` the number of its set.
///
/// [`Reason::NoBackend`] if the chosen place is empty.
#[inline(never)]
pub fn choose<A: Address, T: Tables<A>>(
    tables: &T,
    config: &Config,
    tuple: &Tuple<A>,
    to: &mut Tuple<A>,
    set: &mut u32,
) -> Target {
    let Some(service) = tables.service(conntrack::frontend(tuple)) else {
        return Target::Same;
    };
    if service.count == 0 {
        return Target::Refusal;
    }
    let slot = hash::choose(hash::tuple(tuple, config.hash_seed), service.count);
    let Some(backend) = tables.backend(BackendKey { set: service.set, slot }) else {
        return Target::Drop(Reason::NoBackend);
    };
    to.destination = backend.address;
    to.destination_port = backend.port;
    *set = service.set;
    Target::New
}
