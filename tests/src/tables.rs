//! Tables on the host: the packet logic's, in ordinary maps. Layouts and semantics are those of the kernel's maps, so that both can be
//! held against each other.

use std::collections::{BTreeMap, BTreeSet};

use netpath_common::abi::{
    Layouts,
    affinity::{Affinity, Client},
    bridge::Port,
    conntrack::{Connection, Tuple},
    endpoint::Endpoint,
    fragment::{Datagram, FRAGMENT_SECONDS, FragmentKey},
    held::{FRAME, HeldKey},
    maglev::{MaglevBlock, MaglevKey},
    route::{Route, RouteKey},
    service::{Backend, BackendKey, Frontend, Service},
    socket::{SocketKey, SocketPeer},
    source,
};
use netpath_ebpf::{
    family::Address,
    packet::Packet,
    tables::{InsertError, Tables},
};

/// The tables of both families, as the maps hold them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostTables {
    /// `np_bridge`.
    pub bridge: BTreeMap<u32, Port>,
    /// Those of IPv4.
    pub v4: FamilyTables<[u8; 4]>,
    /// Those of IPv6.
    pub v6: FamilyTables<[u8; 16]>,
    /// Seconds.
    pub clock: u32,
}

/// The tables of a family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FamilyTables<A: Layouts> {
    /// `np_endpoint4`, `np_endpoint6`.
    pub endpoints: BTreeMap<A, Endpoint>,
    /// `np_route4`, `np_route6`.
    pub routes: BTreeMap<A::RouteKey, A::Route>,
    /// `np_service4`, `np_service6`.
    pub services: BTreeMap<A::Frontend, Service>,
    /// `np_backend4`, `np_backend6`.
    pub backends: BTreeMap<BackendKey, A::Backend>,
    /// `np_maglev4`, `np_maglev6`.
    pub maglev: BTreeMap<MaglevKey, MaglevBlock>,
    /// `np_source4`, `np_source6`.
    pub sources: BTreeMap<A::SourceKey, u32>,
    /// `np_affinity4`, `np_affinity6`.
    pub affinities: BTreeMap<A::Client, A::Affinity>,
    /// `np_conntrack4`, `np_conntrack6`.
    pub connections: BTreeMap<A::Tuple, A::Connection>,
    /// `np_fragment4`, `np_fragment6`.
    pub fragments: BTreeMap<A::FragmentKey, Datagram>,
    /// `np_held4`, `np_held6`: when each came, and the frame.
    pub held: BTreeMap<A::HeldKey, (u32, Vec<u8>)>,
    /// `np_socket4`, `np_socket6`.
    pub socket_peers: BTreeMap<A::SocketKey, A::SocketPeer>,
    /// Tuples that a socket of the node would receive.
    pub sockets: BTreeSet<A::Tuple>,
    /// The most entries of `connections`; 0 for no limit.
    pub max_connections: usize,
}

/// The family that an address stands for.
pub trait Of: Layouts + Address {
    /// Its tables.
    fn of(tables: &HostTables) -> &FamilyTables<Self>;
    /// The same, to be changed.
    fn of_mut(tables: &mut HostTables) -> &mut FamilyTables<Self>;
}

impl Of for [u8; 4] {
    fn of(tables: &HostTables) -> &FamilyTables<Self> {
        &tables.v4
    }

    fn of_mut(tables: &mut HostTables) -> &mut FamilyTables<Self> {
        &mut tables.v4
    }
}

impl Of for [u8; 16] {
    fn of(tables: &HostTables) -> &FamilyTables<Self> {
        &tables.v6
    }

    fn of_mut(tables: &mut HostTables) -> &mut FamilyTables<Self> {
        &mut tables.v6
    }
}

impl<A: Of> Tables<A> for HostTables {
    fn port(&self, ifindex: u32) -> Option<Port> {
        self.bridge.get(&ifindex).copied()
    }

    fn endpoint(&self, address: &A) -> Option<Endpoint> {
        A::of(self).endpoints.get(address).copied()
    }

    fn route(&self, key: RouteKey<A>) -> Option<Route<A>> {
        A::of(self).routes.get(&key.into()).map(|route| (*route).into())
    }

    fn service(&self, frontend: &Frontend<A>) -> Option<Service> {
        A::of(self).services.get(&(*frontend).into()).copied()
    }

    fn backend(&self, key: BackendKey) -> Option<Backend<A>> {
        A::of(self).backends.get(&key).map(|backend| (*backend).into())
    }

    fn maglev(&self, key: MaglevKey, place: usize) -> Option<u16> {
        A::of(self).maglev.get(&key)?.slots.get(place).copied()
    }

    /// As a trie does it: any prefix of the client's address.
    fn admits(&self, sources: u32, client: A) -> bool {
        (0..=8 * size_of::<A>() as u32).any(|length| {
            let key = source::SourceKey {
                prefix_len: source::SOURCES_BITS + length,
                sources,
                address: client.masked(length as u8),
            };
            A::of(self).sources.contains_key(&key.into())
        })
    }

    fn affinity(&self, client: &Client<A>) -> Option<Affinity<A>> {
        A::of(self)
            .affinities
            .get(&(*client).into())
            .map(|found| (*found).into())
    }

    fn add_affinity(&mut self, client: &Client<A>, affinity: &Affinity<A>) -> bool {
        let key = (*client).into();
        let free = !A::of_mut(self).affinities.contains_key(&key);
        if free {
            A::of_mut(self).affinities.insert(key, (*affinity).into());
        }
        free
    }

    fn replace_affinity(&mut self, client: &Client<A>, affinity: &Affinity<A>) {
        A::of_mut(self).affinities.insert((*client).into(), (*affinity).into());
    }

    fn connection(&self, tuple: &Tuple<A>, found: &mut Connection<A>) -> bool {
        let connection = A::of(self).connections.get(&(*tuple).into());
        if let Some(connection) = connection {
            *found = (*connection).into();
        }
        connection.is_some()
    }

    fn add_connection(&mut self, tuple: &Tuple<A>, connection: &Connection<A>) -> Result<(), InsertError> {
        let key = (*tuple).into();
        if A::of_mut(self).connections.contains_key(&key) {
            return Err(InsertError::Exists);
        }
        if A::of_mut(self).max_connections != 0 && A::of_mut(self).connections.len() >= A::of_mut(self).max_connections
        {
            return Err(InsertError::Full);
        }
        A::of_mut(self).connections.insert(key, (*connection).into());
        Ok(())
    }

    fn touch_connection(&mut self, tuple: &Tuple<A>, state: u8, last_seen: u32) -> bool {
        let Some(entry) = A::of_mut(self).connections.get_mut(&(*tuple).into()) else {
            return false;
        };
        let connection: Connection<A> = (*entry).into();
        let touched = Connection {
            state,
            last_seen,
            ..connection
        };
        *entry = touched.into();
        true
    }

    fn remove_connection(&mut self, tuple: &Tuple<A>) {
        A::of_mut(self).connections.remove(&(*tuple).into());
    }

    fn fragment(&self, key: &FragmentKey<A>) -> Option<Datagram> {
        A::of(self).fragments.get(&(*key).into()).copied()
    }

    fn remember_fragment(&mut self, key: &FragmentKey<A>, datagram: &Datagram) {
        A::of_mut(self).fragments.insert((*key).into(), *datagram);
    }

    fn add_fragment(&mut self, key: &FragmentKey<A>, datagram: &Datagram) {
        A::of_mut(self).fragments.entry((*key).into()).or_insert(*datagram);
    }

    fn forget_fragment(&mut self, key: &FragmentKey<A>) {
        A::of_mut(self).fragments.remove(&(*key).into());
    }

    fn count_held(&mut self, key: &FragmentKey<A>) -> u64 {
        let Some(datagram) = A::of_mut(self).fragments.get_mut(&(*key).into()) else {
            return u64::MAX;
        };
        datagram.held += 1;
        datagram.held - 1
    }

    fn hold<P: Packet>(&mut self, packet: &P, place: &HeldKey<A>) -> bool {
        let mut frame = [0; FRAME];
        let Some(len) = packet.copy_to(&mut frame) else {
            return false;
        };
        let held = (self.clock, frame[..len].to_vec());
        A::of_mut(self).held.insert((*place).into(), held);
        true
    }

    fn forget_held(&mut self, place: &HeldKey<A>) -> bool {
        A::of_mut(self).held.remove(&(*place).into()).is_some()
    }

    fn release<P: Packet>(&mut self, packet: &mut P, place: &HeldKey<A>, since: u32) -> bool {
        let Some((came, bytes)) = A::of_mut(self).held.remove(&(*place).into()) else {
            return false;
        };
        let mut frame = [0; FRAME];
        frame[..bytes.len()].copy_from_slice(&bytes);
        came.wrapping_sub(since) <= FRAGMENT_SECONDS && packet.become_frame(&frame, bytes.len())
    }

    fn socket_peer(&self, key: &SocketKey<A>) -> Option<SocketPeer<A>> {
        A::of(self).socket_peers.get(&(*key).into()).map(|peer| (*peer).into())
    }

    fn remember_socket_peer(&mut self, key: &SocketKey<A>, peer: &SocketPeer<A>) {
        A::of_mut(self).socket_peers.insert((*key).into(), (*peer).into());
    }

    fn host_socket(&self, tuple: &Tuple<A>) -> bool {
        A::of(self).sockets.contains(&(*tuple).into())
    }

    fn now(&self) -> u32 {
        self.clock
    }
}
