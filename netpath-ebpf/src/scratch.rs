//! What the steps work out about the packet at hand, and where. In the kernel this is memory of the processor's own: a
//! program's stack has 512 bytes, of which a few IPv6 tuples would take all, and what goes through this memory the verifier
//! forgets ([`crate::tables::Tables::settle`]).

use netpath_common::abi::{
    bridge::Port,
    conntrack::{Connection, Tuple},
    fragment::{Datagram, FragmentKey},
    held::HeldKey,
};

use crate::{
    family::{Family, Header},
    flow::Flow,
    nat::Target,
    v4::V4,
    v6::V6,
    verdict::NextHop,
    way::Way,
};

/// The working memory. All zero is a value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scratch {
    /// The pod that a packet comes from.
    pub port: Port,
    /// Whom a frame that leaves through the uplink is for.
    pub next_hop: NextHop,
    /// For IPv4.
    pub v4: Notes<[u8; 4]>,
    /// For IPv6.
    pub v6: Notes<[u8; 16]>,
}

/// A family whose packets the working memory has notes of.
pub trait Noted: Family {
    /// Them.
    #[inline(always)]
    fn notes(scratch: &mut Scratch) -> &mut Notes<Self::Addr> {
        Self::notes_and_hop(scratch).0
    }

    /// Them, and where the next hop is noted.
    fn notes_and_hop(scratch: &mut Scratch) -> (&mut Notes<Self::Addr>, &mut NextHop);
}

impl Noted for V4 {
    #[inline(always)]
    fn notes_and_hop(scratch: &mut Scratch) -> (&mut Notes<[u8; 4]>, &mut NextHop) {
        (&mut scratch.v4, &mut scratch.next_hop)
    }
}

impl Noted for V6 {
    #[inline(always)]
    fn notes_and_hop(scratch: &mut Scratch) -> (&mut Notes<[u8; 16]>, &mut NextHop) {
        (&mut scratch.v6, &mut scratch.next_hop)
    }
}

/// What is known of a packet so far. All zero is a value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Notes<A> {
    /// What its IP header says.
    pub header: Header<A>,
    /// Which connection it belongs to.
    pub flow: Flow<A>,
    /// What it must become: the tuple is in `to`, if it is another.
    pub target: Target,
    /// The tuple that it must have.
    pub to: Tuple<A>,
    /// Where it must go.
    pub way: Way<A>,
    /// For a lookup in the connection table.
    pub look: Look<A>,
    /// Of which datagram it is a fragment.
    pub whole: Whole<A>,
}

/// A fragmented datagram. Nothing stays here from one step to the next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Whole<A> {
    /// What its fragments share.
    pub key: FragmentKey<A>,
    /// What is known of it, or is to be written.
    pub datagram: Datagram,
    /// The place of one of its fragments that is held.
    pub place: HeldKey<A>,
}

/// A lookup in the connection table: its key, and what was found or is to be written. Nothing stays here from one step to the
/// next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look<A> {
    /// The tuple that is looked up.
    pub tuple: Tuple<A>,
    /// That of the other direction.
    pub other: Tuple<A>,
    /// The entry.
    pub connection: Connection<A>,
}
