//! The traits of the packet logic on the host: a frame in a vector, a socket's call, tables in ordinary maps. Layouts and semantics are
//! those of the kernel's maps, so that both can be held against each other.

use std::collections::{BTreeMap, BTreeSet};

use netpath_common::{
    abi::{
        affinity,
        affinity::{Affinity, Client},
        bridge::Port,
        conntrack,
        conntrack::{Connection, Tuple},
        endpoint::Endpoint,
        fragment,
        fragment::{FragmentKey, FragmentPorts},
        route,
        route::{Route, RouteKey},
        service,
        service::{Backend, BackendKey, Frontend, Service},
        socket,
        socket::{SocketKey, SocketPeer},
        source,
    },
    reason::Reason,
};
use netpath_ebpf::{
    csum,
    family::Address as _,
    packet::{Covered, ETHERNET, Packet, VXLAN4},
    socket::Socket,
    tables::{InsertError, Tables},
};

/// The tables of IPv4, as the maps hold them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostTables {
    /// `np_bridge`.
    pub bridge: BTreeMap<u32, Port>,
    /// `np_endpoint4`.
    pub endpoints: BTreeMap<[u8; 4], Endpoint>,
    /// `np_route4`.
    pub routes: BTreeMap<route::v4::RouteKey, route::v4::Route>,
    /// `np_service4`.
    pub services: BTreeMap<service::v4::Frontend, Service>,
    /// `np_backend4`.
    pub backends: BTreeMap<BackendKey, service::v4::Backend>,
    /// `np_source4`.
    pub sources: BTreeMap<source::v4::SourceKey, u32>,
    /// `np_affinity4`.
    pub affinities: BTreeMap<affinity::v4::Client, affinity::v4::Affinity>,
    /// `np_conntrack4`.
    pub connections: BTreeMap<conntrack::v4::Tuple, conntrack::v4::Connection>,
    /// `np_fragment4`.
    pub fragments: BTreeMap<fragment::v4::FragmentKey, FragmentPorts>,
    /// `np_socket4`.
    pub socket_peers: BTreeMap<socket::v4::SocketKey, socket::v4::SocketPeer>,
    /// Tuples that a socket of the node would receive.
    pub sockets: BTreeSet<conntrack::v4::Tuple>,
    /// The most entries of `connections`; 0 for no limit.
    pub max_connections: usize,
    /// Seconds.
    pub clock: u32,
}

impl Tables<[u8; 4]> for HostTables {
    fn port(&self, ifindex: u32) -> Option<Port> {
        self.bridge.get(&ifindex).copied()
    }

    fn endpoint(&self, address: [u8; 4]) -> Option<Endpoint> {
        self.endpoints.get(&address).copied()
    }

    fn route(&self, key: RouteKey<[u8; 4]>) -> Option<Route<[u8; 4]>> {
        self.routes.get(&key.into()).map(|route| (*route).into())
    }

    fn service(&self, frontend: Frontend<[u8; 4]>) -> Option<Service> {
        self.services.get(&frontend.into()).copied()
    }

    fn backend(&self, key: BackendKey) -> Option<Backend<[u8; 4]>> {
        self.backends.get(&key).map(|backend| (*backend).into())
    }

    /// As a trie does it: any prefix of the client's address.
    fn admits(&self, sources: u32, client: [u8; 4]) -> bool {
        (0..=32).any(|length| {
            let key = source::v4::SourceKey {
                prefix_len: source::SOURCES_BITS + length,
                sources,
                address: client.masked(length as u8),
            };
            self.sources.contains_key(&key)
        })
    }

    fn affinity(&self, client: &Client<[u8; 4]>) -> Option<Affinity<[u8; 4]>> {
        self.affinities.get(&(*client).into()).map(|found| (*found).into())
    }

    fn add_affinity(&mut self, client: &Client<[u8; 4]>, affinity: &Affinity<[u8; 4]>) -> bool {
        let key = (*client).into();
        let free = !self.affinities.contains_key(&key);
        if free {
            self.affinities.insert(key, (*affinity).into());
        }
        free
    }

    fn replace_affinity(&mut self, client: &Client<[u8; 4]>, affinity: &Affinity<[u8; 4]>) {
        self.affinities.insert((*client).into(), (*affinity).into());
    }

    fn connection(&self, tuple: &Tuple<[u8; 4]>) -> Option<Connection<[u8; 4]>> {
        self.connections
            .get(&(*tuple).into())
            .map(|connection| (*connection).into())
    }

    fn add_connection(&mut self, tuple: &Tuple<[u8; 4]>, connection: &Connection<[u8; 4]>) -> Result<(), InsertError> {
        let key = (*tuple).into();
        if self.connections.contains_key(&key) {
            return Err(InsertError::Exists);
        }
        if self.max_connections != 0 && self.connections.len() >= self.max_connections {
            return Err(InsertError::Full);
        }
        self.connections.insert(key, (*connection).into());
        Ok(())
    }

    fn touch_connection(&mut self, tuple: &Tuple<[u8; 4]>, state: u8, last_seen: u32) {
        if let Some(connection) = self.connections.get_mut(&(*tuple).into()) {
            connection.state = state;
            connection.last_seen = last_seen;
        }
    }

    fn remove_connection(&mut self, tuple: &Tuple<[u8; 4]>) {
        self.connections.remove(&(*tuple).into());
    }

    fn fragment(&self, key: &FragmentKey<[u8; 4]>) -> Option<FragmentPorts> {
        self.fragments.get(&(*key).into()).copied()
    }

    fn remember_fragment(&mut self, key: &FragmentKey<[u8; 4]>, ports: FragmentPorts) {
        self.fragments.insert((*key).into(), ports);
    }

    fn socket_peer(&self, key: &SocketKey<[u8; 4]>) -> Option<SocketPeer<[u8; 4]>> {
        self.socket_peers.get(&(*key).into()).map(|peer| (*peer).into())
    }

    fn remember_socket_peer(&mut self, key: &SocketKey<[u8; 4]>, peer: &SocketPeer<[u8; 4]>) {
        self.socket_peers.insert((*key).into(), (*peer).into());
    }

    fn host_socket(&self, tuple: &Tuple<[u8; 4]>) -> bool {
        self.sockets.contains(&(*tuple).into())
    }

    fn now(&self) -> u32 {
        self.clock
    }
}

/// A frame in a vector, with what the kernel knows beside its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPacket {
    /// The frame.
    pub bytes: Vec<u8>,
    /// The device it came in through, or leaves through.
    pub ifindex: u32,
    /// Payload bytes of each segment, or 0.
    pub gso_size: usize,
    /// The sender and network of a tunnel that the kernel ended.
    pub tunnel: Option<([u8; 4], u32)>,
}

impl HostPacket {
    /// A frame that came in through a device.
    pub fn new(bytes: Vec<u8>, ifindex: u32) -> Self {
        Self {
            bytes,
            ifindex,
            ..Self::default()
        }
    }
}

impl Packet for HostPacket {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn gso_size(&self) -> usize {
        self.gso_size
    }

    fn ifindex(&self) -> u32 {
        self.ifindex
    }

    fn tunnel(&self) -> Option<([u8; 4], u32)> {
        self.tunnel
    }

    fn view<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        self.bytes.get(offset..offset + N)?.try_into().ok()
    }

    fn store<const N: usize>(&mut self, offset: usize, bytes: &[u8; N]) -> Result<(), Reason> {
        self.bytes
            .get_mut(offset..offset + N)
            .ok_or(Reason::Malformed)?
            .copy_from_slice(bytes);
        Ok(())
    }

    fn adapt_checksum(
        &mut self,
        offset: usize,
        difference: u32,
        _covered: Covered,
        optional: bool,
    ) -> Result<(), Reason> {
        let field = *self.view::<2>(offset).ok_or(Reason::RewriteFailed)?;
        if optional && field == [0, 0] {
            return Ok(());
        }
        let adapted = csum::adapt(field, difference);
        let adapted = if optional && adapted == [0, 0] {
            [0xff, 0xff]
        } else {
            adapted
        };
        self.store(offset, &adapted)
    }

    fn encapsulate(&mut self, headers: &[u8; ETHERNET + VXLAN4]) -> Result<(), Reason> {
        self.bytes.splice(..ETHERNET, headers.iter().copied());
        Ok(())
    }

    fn decapsulate(&mut self) -> Result<(), Reason> {
        self.bytes.drain(ETHERNET..ETHERNET + VXLAN4);
        Ok(())
    }

    fn resize(&mut self, len: usize) -> Result<(), Reason> {
        self.bytes.resize(len, 0);
        self.gso_size = 0;
        Ok(())
    }
}

/// A call of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostSocket {
    /// Its network namespace's cookie.
    pub netns: u64,
    /// Its own.
    pub cookie: u64,
    /// As `socket` was told.
    pub protocol: u32,
    /// Address and port that the call names, or is about to show.
    pub peer: ([u8; 4], u16),
}

impl Socket<[u8; 4]> for HostSocket {
    fn netns_cookie(&self) -> u64 {
        self.netns
    }

    fn cookie(&self) -> [u32; 2] {
        [self.cookie as u32, (self.cookie >> 32) as u32]
    }

    fn protocol(&self) -> u32 {
        self.protocol
    }

    fn peer(&self) -> ([u8; 4], u16) {
        self.peer
    }

    fn set_peer(&mut self, address: [u8; 4], port: u16) {
        self.peer = (address, port);
    }
}
