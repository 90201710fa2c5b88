//! The node's own sockets: which of them are served, which frontend a peer is, and what is remembered of the backend that
//! stands behind it. No packet is translated: the socket talks to the backend itself, and is shown the frontend.

use netpath_common::{
    abi::{
        config::Config,
        conntrack::Tuple,
        endpoint::KIND_HOST,
        route::VIA_SERVICE,
        service::{FLAG_NODE_PORT, Frontend},
        socket::{SocketKey, SocketPeer, TO_BACKEND, TO_FRONTEND},
    },
    reason::Reason,
};

use crate::{
    family::{Address, Family},
    flow::{TCP, UDP},
    nat::Target,
    offer::{self, Offer},
    service,
    tables::Tables,
    v6, way,
};

/// A socket in a call that names its peer, or asks for it.
pub trait Socket<A> {
    /// The kernel's cookie of its network namespace.
    fn netns_cookie(&self) -> u64;
    /// The kernel's cookie of the socket, low and high half.
    fn cookie(&self) -> [u32; 2];
    /// Its IP protocol, as `socket` was told: may be larger than a header's.
    fn protocol(&self) -> u32;
    /// The peer's address and port, as the call has them.
    fn peer(&self) -> (A, u16);
    /// Gives the call another peer.
    fn set_peer(&mut self, address: A, port: u16);
}

/// A socket of IPv6 whose peer has an IPv4 address, by an IPv4-mapped one: it talks IPv4.
pub struct Mapped<'a, S> {
    socket: &'a mut S,
    address: [u8; 4],
    port: u16,
}

impl<'a, S: Socket<[u8; 16]>> Mapped<'a, S> {
    /// The socket as one of IPv4, if its peer has such an address.
    #[inline(always)]
    pub fn of(socket: &'a mut S) -> Option<Self> {
        let (address, port) = socket.peer();
        let address = v6::mapped(&address)?;
        Some(Self { socket, address, port })
    }
}

impl<S: Socket<[u8; 16]>> Socket<[u8; 4]> for Mapped<'_, S> {
    #[inline(always)]
    fn netns_cookie(&self) -> u64 {
        self.socket.netns_cookie()
    }

    #[inline(always)]
    fn cookie(&self) -> [u32; 2] {
        self.socket.cookie()
    }

    #[inline(always)]
    fn protocol(&self) -> u32 {
        self.socket.protocol()
    }

    #[inline(always)]
    fn peer(&self) -> ([u8; 4], u16) {
        (self.address, self.port)
    }

    #[inline(always)]
    fn set_peer(&mut self, address: [u8; 4], port: u16) {
        self.socket.set_peer(v6::mapping(address), port);
    }
}

/// What lies on the stack at a multiple of 8 bytes: there the kernel refuses accesses across words, and the compiler compares
/// addresses by 8 bytes.
#[repr(align(8))]
struct Aligned<T>(T);

/// How long a socket keeps a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// For this one call, which connects it.
    Connection,
    /// For all datagrams to the frontend, as long as that has the backend.
    Datagrams,
}

/// Whether a socket is in the node's own network namespace. Sockets of pods are served by their packets' hooks.
#[inline(always)]
pub fn is_own<A, S: Socket<A>>(socket: &S, config: &Config) -> bool {
    socket.netns_cookie() == config.netns_cookie
}

/// Leads a socket whose peer is a frontend to one of its backends. A socket of UDP that connects to a service nobody serves keeps the
/// frontend for its peer, if its packets come by the bridge: there they are refused, and translated once somebody serves it, so that
/// the socket recovers with the service.
///
/// # Errors
/// The call must fail: [`Reason::Refused`] if the service has no endpoints, [`Reason::NoBackend`].
#[inline(always)]
pub fn lead<F: Family, S: Socket<F::Addr>, T: Tables<F::Addr>>(
    socket: &mut S,
    tables: &mut T,
    config: &Config,
    keeps: Keeps,
) -> Result<Reason, Reason> {
    let protocol = match socket.protocol() {
        6 => TCP,
        17 => UDP,
        _ => return Ok(Reason::SocketLeft),
    };
    let cookie = socket.cookie();
    let (address, port) = socket.peer();
    let Aligned(frontend) = &mut Aligned(Frontend {
        address,
        port,
        protocol,
        reserved: 0,
    });
    if !find::<F, T>(tables, config, frontend) {
        return Ok(Reason::SocketLeft);
    }
    // A socket has no port yet that would tell it from others: its cookie stands for one.
    // Zero first: the compiler would write the three bytes that stay so across words.
    let mut tuple = Tuple::default();
    tables.settle(&mut tuple);
    tuple.source = F::node(config);
    tuple.destination = frontend.address;
    tuple.source_port = cookie[0] as u16;
    tuple.destination_port = port;
    tuple.protocol = protocol;
    let mut to = tuple;
    let mut offer = Offer::default();
    match service::choose(tables, config, &tuple, true, &mut to, &mut offer) {
        Target::New => {}
        Target::Same | Target::Relay => return Ok(Reason::SocketLeft),
        Target::Refusal | Target::Drop(Reason::NoLocalEndpoint)
            if protocol == UDP && keeps == Keeps::Connection && passes_bridge::<F, T>(tables, config, &address) =>
        {
            return Ok(Reason::SocketLeft);
        }
        Target::Refusal => return Err(Reason::Refused),
        Target::Drop(reason) => return Err(reason),
    }
    let mut backend = SocketPeer {
        address: to.destination,
        port: to.destination_port,
        reserved: [0; 2],
        set: offer.set,
    };
    let key = SocketKey {
        cookie,
        address,
        port,
        direction: TO_BACKEND,
        reserved: 0,
    };
    if keeps == Keeps::Datagrams {
        stay(tables, &key, &offer, &mut backend);
    }
    expect(tables, &key, &backend);
    socket.set_peer(backend.address, backend.port);
    Ok(Reason::ToBackend)
}

/// Shows a socket the frontend that it asked for, where its peer is a backend that it was led to.
#[inline(always)]
pub fn show<A: Address, S: Socket<A>, T: Tables<A>>(socket: &mut S, tables: &T) -> Reason {
    let (address, port) = socket.peer();
    let key = SocketKey {
        cookie: socket.cookie(),
        address,
        port,
        direction: TO_FRONTEND,
        reserved: 0,
    };
    match tables.socket_peer(&key) {
        Some(frontend) => {
            socket.set_peer(frontend.address, frontend.port);
            Reason::AsFrontend
        }
        None => Reason::SocketLeft,
    }
}

/// Makes `asked`, which a socket named, the frontend that it is: that itself, or the node's, for a port that all addresses of the
/// node have, the loopback addresses included. Connecting to no address at all is to connect to the loopback address. Whether it
/// is one.
#[inline(never)]
fn find<F: Family, T: Tables<F::Addr>>(tables: &T, config: &Config, asked: &mut Frontend<F::Addr>) -> bool {
    // What other nodes relay is there without an address.
    let nowhere = asked.address == F::Addr::default();
    if !nowhere && tables.service(asked).is_some() {
        return true;
    }
    let own = nowhere
        || asked.address.is_loopback()
        || tables
            .endpoint(&asked.address)
            .is_some_and(|endpoint| endpoint.kind == KIND_HOST);
    if !own {
        return false;
    }
    asked.address = F::node(config);
    tables
        .service(asked)
        .is_some_and(|service| service.flags & FLAG_NODE_PORT != 0)
}

/// Whether the node's own packets to the address pass the bridge: the node's stack has routes there for the services' ranges, and
/// for no other address that services have.
#[inline(never)]
fn passes_bridge<F: Family, T: Tables<F::Addr>>(tables: &T, config: &Config, address: &F::Addr) -> bool {
    way::via::<F, T>(tables, config, *address) == Some(VIA_SERVICE)
}

/// Remembers that what the socket hears from the backend comes from the frontend that it asked for.
#[inline(never)]
fn expect<A: Address, T: Tables<A>>(tables: &mut T, asked: &SocketKey<A>, backend: &SocketPeer<A>) {
    let back = SocketKey {
        address: backend.address,
        port: backend.port,
        direction: TO_FRONTEND,
        ..*asked
    };
    let shown = SocketPeer {
        address: asked.address,
        port: asked.port,
        reserved: [0; 2],
        set: backend.set,
    };
    if tables.socket_peer(&back) != Some(shown) {
        tables.remember_socket_peer(&back, &shown);
    }
}

/// Makes `backend`, which was chosen just now, the one that the socket's earlier datagrams went to, if the set still has that
/// one; and remembers which it is.
#[inline(never)]
fn stay<A: Address, T: Tables<A>>(tables: &mut T, key: &SocketKey<A>, offer: &Offer, backend: &mut SocketPeer<A>) {
    if let Some(earlier) = tables.socket_peer(key) {
        if earlier.set == backend.set {
            *backend = earlier;
            return;
        }
        if offer::has(tables, offer, earlier.address, earlier.port) {
            backend.address = earlier.address;
            backend.port = earlier.port;
        }
    }
    tables.remember_socket_peer(key, backend);
}
