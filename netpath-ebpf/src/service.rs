//! Services: whom a new connection to a frontend goes to.

use netpath_common::{
    abi::{
        config::Config,
        conntrack::Tuple,
        service::{BackendKey, FLAG_NONE_HERE, FLAG_OUTSIDE, Frontend},
    },
    reason::Reason,
};

use crate::{affinity, conntrack, family::Address, hash, maglev, nat::Target, offer::Offer, tables::Tables};

/// Looks for the frontend that `to` asks for, and chooses among its backends: the client's own where the service has
/// session affinity, else by the hash of the whole tuple, every connection anew and every packet of one alike; from outside by the
/// set's Maglev table, if it has one. The chosen one becomes the destination of `to`, and `offer` what it was chosen from. `inside` says that the client is a pod of this node
/// or the node itself: them no policy of external traffic keeps from other nodes' backends.
///
/// [`Reason::SourceDenied`] if the client is not among those that may connect; [`Reason::NoLocalEndpoint`] if there are endpoints, none of them where the policy wants one; [`Reason::NoBackend`] if
/// the chosen place is empty.
#[inline(always)]
pub fn choose<A: Address, T: Tables<A>>(
    tables: &mut T,
    config: &Config,
    tuple: &Tuple<A>,
    inside: bool,
    to: &mut Tuple<A>,
    offer: &mut Offer,
) -> Target {
    // Calls one after the other, so that their stacks do not add up.
    let found = look(tables, to, &tuple.source, inside, offer);
    if found != Target::New || offer.affinity != 0 && affinity::recall(tables, tuple, offer, to) {
        return found;
    }
    let chosen = spread(tables, config, tuple, offer, to);
    if chosen == Target::New
        && offer.affinity != 0
        && !affinity::remember(tables, tuple, offer, to)
        && !affinity::recall(tables, tuple, offer, to)
    {
        affinity::replace(tables, tuple, offer, to);
    }
    chosen
}

/// Finds the frontend, and what it offers to the connection.
#[inline(never)]
fn look<A: Address, T: Tables<A>>(tables: &T, to: &Tuple<A>, client: &A, inside: bool, offer: &mut Offer) -> Target {
    let Some(service) = tables.service(&conntrack::frontend(to)) else {
        return Target::Same;
    };
    if service.sources != 0 && !tables.admits(service.sources, *client) {
        return Target::Drop(Reason::SourceDenied);
    }
    (offer.set, offer.count, offer.maglev) = if inside {
        (service.set, service.count, 0)
    } else {
        (service.outside_set, service.outside_count, service.maglev)
    };
    offer.affinity = service.affinity;
    offer.affinity_timeout = service.affinity_timeout;
    match offer.count {
        0 if service.flags & FLAG_NONE_HERE != 0 => Target::Drop(Reason::NoLocalEndpoint),
        0 => Target::Refusal,
        _ => Target::New,
    }
}

/// What becomes of a packet to an address and port that no frontend has: a refusal if a service has the address for whoever
/// sent it. `inside` is as in [`choose`].
#[inline(never)]
pub fn elsewhere<A: Address, T: Tables<A>>(tables: &T, tuple: &Tuple<A>, inside: bool) -> Target {
    let address = Frontend {
        address: tuple.destination,
        ..Frontend::default()
    };
    match tables.service(&address) {
        Some(service) if !inside || service.flags & FLAG_OUTSIDE == 0 => Target::Refusal,
        _ => Target::Same,
    }
}

/// Chooses by hash.
#[inline(never)]
fn spread<A: Address, T: Tables<A>>(
    tables: &T,
    config: &Config,
    tuple: &Tuple<A>,
    offer: &Offer,
    to: &mut Tuple<A>,
) -> Target {
    let slot = if offer.maglev == 0 {
        hash::choose(hash::tuple(tuple, config.hash_seed), offer.count)
    } else {
        let Some(slot) = maglev::choose(tables, config, tuple, offer) else {
            return Target::Drop(Reason::NoBackend);
        };
        slot
    };
    let Some(backend) = tables.backend(BackendKey { set: offer.set, slot }) else {
        return Target::Drop(Reason::NoBackend);
    };
    to.destination = backend.address;
    to.destination_port = backend.port;
    Target::New
}
