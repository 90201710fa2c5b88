//! What the packet logic knows and remembers: lookups, inserts and a clock. In the kernel these are BPF maps, on the host
//! ordinary maps of the same layouts. `A` is the address type: `[u8; 4]` or `[u8; 16]`.
//!
//! The node's configuration is not among them: a hook reads it once and hands it to the steps, or passes the packet on to
//! the kernel as `NotConfigured` while its `abi_version` is 0.

use netpath_common::abi::{
    affinity::{Affinity, Client},
    bridge::Port,
    conntrack::{Connection, Tuple},
    endpoint::Endpoint,
    fragment::{Datagram, FragmentKey},
    held::HeldKey,
    maglev::MaglevKey,
    route::{Route, RouteKey},
    service::{Backend, BackendKey, Frontend, Service},
    socket::{SocketKey, SocketPeer},
};

use crate::packet::Packet;

/// Why an insert did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// There is an entry of that key already.
    Exists,
    /// The table is full.
    Full,
}

/// The tables of one address family.
pub trait Tables<A> {
    /// The pod behind a bridge port.
    fn port(&self, ifindex: u32) -> Option<Port>;
    /// Who has an address of this node.
    fn endpoint(&self, address: &A) -> Option<Endpoint>;
    /// The way to a subnet, by its exact key.
    fn route(&self, key: RouteKey<A>) -> Option<Route<A>>;
    /// What a connection to a frontend becomes.
    fn service(&self, frontend: &Frontend<A>) -> Option<Service>;
    /// One of a set's backends.
    fn backend(&self, key: BackendKey) -> Option<Backend<A>>;
    /// The slot at a place of a block of a set's table.
    fn maglev(&self, key: MaglevKey, place: usize) -> Option<u16>;
    /// Whether a client is in a list of those that may connect.
    fn admits(&self, sources: u32, client: A) -> bool;
    /// Whom a client's connections go to.
    fn affinity(&self, client: &Client<A>) -> Option<Affinity<A>>;
    /// Remembers it, if nothing is remembered of that client; whether it did.
    fn add_affinity(&mut self, client: &Client<A>, affinity: &Affinity<A>) -> bool;
    /// Remembers it in place of what was.
    fn replace_affinity(&mut self, client: &Client<A>, affinity: &Affinity<A>);
    /// Writes to `found` what a packet of this tuple becomes, if that is known; whether it is.
    fn connection(&self, tuple: &Tuple<A>, found: &mut Connection<A>) -> bool;
    /// Adds an entry, if there is none of that tuple.
    ///
    /// # Errors
    /// [`InsertError::Exists`], [`InsertError::Full`].
    fn add_connection(&mut self, tuple: &Tuple<A>, connection: &Connection<A>) -> Result<(), InsertError>;
    /// Changes state and time of an entry in place, if it is there; whether it is.
    fn touch_connection(&mut self, tuple: &Tuple<A>, state: u8, last_seen: u32) -> bool;
    /// Removes an entry, if it is there.
    fn remove_connection(&mut self, tuple: &Tuple<A>);
    /// What is known of a fragmented datagram.
    fn fragment(&self, key: &FragmentKey<A>) -> Option<Datagram>;
    /// Remembers it in place of what was.
    fn remember_fragment(&mut self, key: &FragmentKey<A>, datagram: &Datagram);
    /// Remembers it, if nothing is.
    fn add_fragment(&mut self, key: &FragmentKey<A>, datagram: &Datagram);
    /// Forgets it.
    fn forget_fragment(&mut self, key: &FragmentKey<A>);
    /// Adds one to how many of its fragments are held; how many were before. `u64::MAX` if nothing is known of it.
    fn count_held(&mut self, key: &FragmentKey<A>) -> u64;
    /// Holds a frame, in place of what was there; whether it does.
    fn hold<P: Packet>(&mut self, packet: &P, place: &HeldKey<A>) -> bool;
    /// Forgets a held frame; whether it was there.
    fn forget_held(&mut self, place: &HeldKey<A>) -> bool;
    /// Makes the packet a held frame, and forgets that; whether it is one that nobody else took out, and that came no later than
    /// a datagram lasts from `since` on.
    fn release<P: Packet>(&mut self, packet: &mut P, place: &HeldKey<A>, since: u32) -> bool;
    /// What stands for a peer of one of the node's own sockets.
    fn socket_peer(&self, key: &SocketKey<A>) -> Option<SocketPeer<A>>;
    /// Remembers it.
    fn remember_socket_peer(&mut self, key: &SocketKey<A>, peer: &SocketPeer<A>);
    /// Whether a socket of the node itself would get a packet of this tuple from outside: source NAT must not take its
    /// port. Of SCTP the kernel tells no program, and the answer is no: by itself the node gives no socket a port of source NAT.
    fn host_socket(&self, tuple: &Tuple<A>) -> bool;
    /// Seconds of a clock that never goes back.
    fn now(&self) -> u32;

    /// Calls `turn` with 0, 1, 2 … until it says that it is done, at most `times` times; whether it did. In the kernel the
    /// verifier looks at such a loop's body once, and not once a turn.
    #[inline(always)]
    fn repeat<F: FnMut(&mut Self, u32) -> bool>(&mut self, times: u32, mut turn: F) -> bool {
        (0..times).any(|index| turn(self, index))
    }

    /// Nothing to the value. In the kernel the verifier does not follow what lies in the memory of [`crate::scratch`], but
    /// the compiler does, and would keep in registers what it just wrote there. After this it reads again: all the ways that
    /// lead here, each with values of its own, count as one from here on. Without such places their number multiplies from
    /// step to step, and the verifier gives up.
    #[inline(always)]
    fn settle<V>(&self, _value: &mut V) {}
}

/// The tables of both families.
pub trait BothTables: Tables<[u8; 4]> + Tables<[u8; 16]> {}

impl<T: Tables<[u8; 4]> + Tables<[u8; 16]>> BothTables for T {}
