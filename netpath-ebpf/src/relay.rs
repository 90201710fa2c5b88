//! Direct server return: what comes from outside for a pod of another node on the segment goes to that node as it is, but for its time
//! to live. There it is served as if it had come there at once: the pod sees its client, and is answered for without this node.
//! Nothing is put around the packet, so that it is no larger on the way than it was; to nodes behind routers nothing is relayed.
//!
//! That works where both nodes choose one backend, so by a Maglev table alone. The node that relays remembers the choice: a
//! connection keeps its backend when others come and go.

use netpath_common::{
    abi::{
        config::Config,
        conntrack::{Connection, DIRECTION_RELAYED},
        route::VIA_DIRECT,
    },
    reason::Reason,
};

use crate::{
    conntrack,
    family::{Address, Family},
    nat::Target,
    offer::Offer,
    packet::Packet,
    scratch::Notes,
    tables::{InsertError, Tables},
    way::{self, End},
};

/// Whether another node may have relayed the packet: whoever asks that one for a NodePort may be served here.
#[inline(always)]
pub fn is_for<A: Address>(config: &Config, notes: &Notes<A>) -> bool {
    config.direct_return != 0 && notes.way.end == End::Direct && notes.way.node == notes.to.destination
}

/// Makes it known that packets of this tuple are relayed to the node of the backend that was chosen from the offer, which is the
/// destination of `to`; [`Target::Same`] where that is not to be. Where another CPU was faster with the same flow, its entry
/// decides of the next packet.
///
/// It drops for [`Reason::ConntrackFull`].
#[inline(never)]
pub fn open<F: Family, T: Tables<F::Addr>>(
    tables: &mut T,
    config: &Config,
    notes: &mut Notes<F::Addr>,
    offer: &Offer,
) -> Target {
    let Notes {
        header, flow, to, look, ..
    } = notes;
    let backend = to.destination;
    if config.direct_return == 0
        || offer.maglev == 0
        || tables.endpoint(&backend).is_some()
        || way::via::<F, T>(tables, config, backend) != Some(VIA_DIRECT)
    {
        return Target::Same;
    }
    look.connection = Connection {
        ttl: header.ttl,
        ..conntrack::entry(to, DIRECTION_RELAYED, tables.now(), offer.set)
    };
    match tables.add_connection(&flow.tuple, &look.connection) {
        Ok(()) | Err(InsertError::Exists) => Target::Relay,
        Err(InsertError::Full) => Target::Drop(Reason::ConntrackFull),
    }
}

/// How much older a packet has become that comes back: each node of the circle, of two or three, has let it age by one. What differs
/// by more or less came by another way from the client, or from another than the client.
const CIRCLE: core::ops::RangeInclusive<u8> = 2..=3;

/// Makes the packet ready for the node that its way leads to.
///
/// One that was relayed before is older than its connection's first packet. Two nodes chose when one of them did not know of a
/// backend yet, and each takes the other for its node. The connection is forgotten: the next packet chooses again.
///
/// # Errors
/// [`Reason::RelayLoop`]; [`Reason::NoRoute`] if the node is no longer on the segment; [`Reason::ExpiredSilent`],
/// [`Reason::RewriteFailed`].
#[inline(never)]
pub fn prepare<F: Family, P: Packet, T: Tables<F::Addr>>(
    packet: &mut P,
    tables: &mut T,
    notes: &mut Notes<F::Addr>,
) -> Result<(), Reason> {
    let Notes {
        header,
        flow,
        look,
        way,
        ..
    } = notes;
    if tables.connection(&flow.tuple, &mut look.connection)
        && CIRCLE.contains(&look.connection.ttl.saturating_sub(header.ttl))
    {
        tables.remove_connection(&flow.tuple);
        return Err(Reason::RelayLoop);
    }
    if way.end != End::Direct {
        return Err(Reason::NoRoute);
    }
    if header.ttl <= 1 {
        return Err(Reason::ExpiredSilent);
    }
    F::age(packet)
}
