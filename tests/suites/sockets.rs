//! The programs on sockets' calls, by real calls: the kernel has no test run for them. Each test is a node of its own whose
//! only device is the loopback device; servers stand there for pods. What the programs remember is held against the host
//! build's.

mod ended;
mod waiting;

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use netpath_agent::datapath::{cgroup, load::load, maps::Counters, pins::Pins, sizes::Sizes, sys, tables as maps};
use netpath_common::{
    abi::{
        ABI_VERSION,
        config::Config,
        service::{BackendKey, FLAG_NODE_PORT, Service},
        socket::v4,
    },
    hook::Hook,
    reason::Reason,
};
use netpath_ebpf::{path, socket::Keeps, v4::V4};
use netpath_tests::{
    entries,
    lab::{home::Home, namespace::Namespace},
    socket::HostSocket,
    tables::{HostTables, Of},
};

const TCP: u8 = 6;
const UDP: u8 = 17;
const PATIENCE: Duration = Duration::from_secs(2);

const NODE: Ipv4Addr = Ipv4Addr::new(127, 9, 9, 9);
const WEB: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 96, 0, 80), 80);
const EMPTY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 96, 0, 99), 80);
/// A service of IPv6.
const WEB6: SocketAddrV6 = SocketAddrV6::new(Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0x80), 80, 0, 0);
const NODE_PORT: SocketAddrV4 = SocketAddrV4::new(NODE, 30_080);

/// A node with programs, and the same maps for the host build.
struct Node {
    config: Config,
    tables: HostTables,
    pins: Pins,
    namespace: Namespace,
    // Last: it takes pins and namespaces away.
    home: Home,
}

impl Node {
    fn new() -> Result<Self> {
        let home = Home::unique()?;
        let namespace = Namespace::create(&home.namespace("n"))?;
        let pins = Pins::new(home.bpf_root());
        let sizes = Sizes {
            max_services: 64,
            max_backends: 64,
            max_sources: 64,
            max_connections: 256,
            ..Sizes::default()
        };
        load(&pins, &sizes)?;
        let config = Config {
            abi_version: ABI_VERSION,
            hash_seed: 0x5eed,
            netns_cookie: namespace.run(|| Ok(sys::netns_cookie()?))?,
            node4: NODE.octets(),
            ..Config::default()
        };
        maps::config(&pins)?.set(&config)?;
        let root = cgroup::root(None)?;
        for hook in cgroup::hooks() {
            cgroup::attach(&pins, hook, &root)?;
        }
        Ok(Self {
            config,
            tables: HostTables::default(),
            pins,
            namespace,
            home,
        })
    }

    /// Gives a frontend its backends, in a set of this number.
    fn serve(
        &mut self,
        frontend: SocketAddrV4,
        protocol: u8,
        flags: u16,
        set: u32,
        list: &[SocketAddrV4],
    ) -> Result<()> {
        let pair = |address: &SocketAddrV4| (address.ip().octets(), address.port());
        let list = list.iter().map(pair).collect();
        self.serve_family(pair(&frontend), protocol, flags, set, list)
    }

    /// The same of IPv6.
    fn serve6(&mut self, frontend: SocketAddrV6, protocol: u8, set: u32, backend: SocketAddrV6) -> Result<()> {
        let pair = |address: &SocketAddrV6| (address.ip().octets(), address.port());
        self.serve_family(pair(&frontend), protocol, 0, set, vec![pair(&backend)])
    }

    fn serve_family<A: Of>(
        &mut self,
        (address, port): (A, u16),
        protocol: u8,
        flags: u16,
        set: u32,
        mut list: Vec<(A, u16)>,
    ) -> Result<()> {
        list.sort_unstable();
        let key = entries::frontend(address, port, protocol);
        let value = Service {
            flags,
            ..entries::service(set, list.len() as u32)
        };
        for (slot, (address, port)) in (0..).zip(list) {
            let place = BackendKey { set, slot };
            let backend = entries::backend(address, port);
            maps::backends::<A>(&self.pins)?.insert(&place, &backend)?;
            A::of_mut(&mut self.tables).backends.insert(place, backend);
        }
        maps::services::<A>(&self.pins)?.insert(&key, &value)?;
        A::of_mut(&mut self.tables).services.insert(key, value);
        Ok(())
    }

    fn remembered(&self) -> Result<BTreeMap<v4::SocketKey, v4::SocketPeer>> {
        Ok(maps::sockets::<[u8; 4]>(&self.pins)?.entries()?.into_iter().collect())
    }

    /// The peer that the host build gives a socket of this cookie, which remembers it.
    fn told(&mut self, cookie: u64, protocol: u8, peer: SocketAddrV4, keeps: Keeps) -> SocketAddrV4 {
        let mut socket = HostSocket {
            netns: self.config.netns_cookie,
            cookie,
            protocol: protocol.into(),
            peer: (peer.ip().octets(), peer.port()),
        };
        let verdict = path::from_socket::run::<V4, _, _>(&mut socket, &mut self.tables, &self.config, keeps);
        assert_eq!(verdict, Ok(Reason::ToBackend));
        SocketAddrV4::new(socket.peer.0.into(), socket.peer.1)
    }

    fn counted(&self, hook: Hook, reason: Reason) -> Result<u64> {
        Ok(Counters::open(&self.pins)?.get(hook, reason)?.packets)
    }
}

/// A server of TCP on a loopback address of the calling thread's namespace.
fn listener(last: u8) -> Result<(TcpListener, SocketAddrV4)> {
    let address = SocketAddrV4::new(Ipv4Addr::new(127, 0, 7, last), 8080);
    Ok((TcpListener::bind(address)?, address))
}

/// The same of UDP: it answers nothing by itself.
fn receiver(last: u8) -> Result<(UdpSocket, SocketAddrV4)> {
    let address = SocketAddrV4::new(Ipv4Addr::new(127, 0, 7, last), 5353);
    let socket = UdpSocket::bind(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok((socket, address))
}

/// The only socket that is remembered.
fn cookie(node: &Node) -> Result<u64> {
    let remembered = node.remembered()?;
    let (key, _) = remembered.first_key_value().context("nothing is remembered")?;
    ensure!(
        remembered.keys().all(|other| other.cookie == key.cookie),
        "{remembered:?}"
    );
    let [low, high] = key.cookie;
    Ok(u64::from(high) << 32 | u64::from(low))
}

#[test]
fn a_connection_of_the_node_goes_to_a_backend_and_shows_the_service() -> Result<()> {
    let mut node = Node::new()?;
    let servers = node
        .namespace
        .run(|| (1..=3).map(listener).collect::<Result<Vec<_>>>())?;
    let list: Vec<_> = servers.iter().map(|(_, address)| *address).collect();
    node.serve(WEB, TCP, 0, 7, &list)?;
    let client = node
        .namespace
        .run(|| Ok(TcpStream::connect_timeout(&WEB.into(), PATIENCE)?))?;
    ensure!(client.peer_addr()? == WEB.into(), "{:?}", client.peer_addr());
    let backend = node.told(cookie(&node)?, TCP, WEB, Keeps::Connection);
    ensure!(node.remembered()? == node.tables.v4.socket_peers);
    let place = list
        .iter()
        .position(|address| *address == backend)
        .context("no backend")?;
    servers[place].0.set_nonblocking(true)?;
    let (_, seen) = servers[place]
        .0
        .accept()
        .context("the backend that the host build chose")?;
    ensure!(seen == client.local_addr()?);
    ensure!(node.counted(Hook::Connect4, Reason::ToBackend)? == 1);
    ensure!(node.counted(Hook::Getpeername4, Reason::AsFrontend)? >= 1);
    Ok(())
}

#[test]
fn without_a_backend_a_call_is_refused_at_once() -> Result<()> {
    let mut node = Node::new()?;
    node.serve(EMPTY, TCP, 0, 0, &[])?;
    node.serve(EMPTY, UDP, 0, 0, &[])?;
    node.namespace.run(|| {
        let tcp = TcpStream::connect(EMPTY).map(drop);
        let udp = UdpSocket::bind("0.0.0.0:0")?;
        // No route of the services' range is there, by which the bridge would be asked.
        for result in [tcp, udp.send_to(b"?", EMPTY).map(drop), udp.connect(EMPTY)] {
            let error = result.err().context("it was let go")?;
            ensure!(error.kind() == ErrorKind::ConnectionRefused, "{error}");
        }
        Ok(())
    })?;
    ensure!(node.counted(Hook::Connect4, Reason::Refused)? == 2);
    ensure!(node.counted(Hook::Sendmsg4, Reason::Refused)? == 1);
    Ok(())
}

#[test]
fn a_node_port_is_reached_on_the_nodes_own_addresses() -> Result<()> {
    let mut node = Node::new()?;
    let (server, address) = node.namespace.run(|| listener(1))?;
    node.serve(NODE_PORT, TCP, FLAG_NODE_PORT, 7, &[address])?;
    for own in [NODE, Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED] {
        let asked = SocketAddrV4::new(own, NODE_PORT.port());
        let client = node
            .namespace
            .run(|| Ok(TcpStream::connect_timeout(&asked.into(), PATIENCE)?))
            .with_context(|| format!("{asked}"))?;
        ensure!(client.peer_addr()? == asked.into(), "{:?}", client.peer_addr());
        let (_, seen) = server.accept()?;
        ensure!(seen == client.local_addr()?);
    }
    Ok(())
}

#[test]
fn a_datagram_s_answer_comes_from_the_service() -> Result<()> {
    let mut node = Node::new()?;
    let servers = node
        .namespace
        .run(|| (1..=4).map(receiver).collect::<Result<Vec<_>>>())?;
    let list: Vec<_> = servers.iter().map(|(_, address)| *address).collect();
    node.serve(WEB, UDP, 0, 7, &list)?;
    let client = node.namespace.run(|| Ok(UdpSocket::bind("0.0.0.0:0")?))?;
    client.set_read_timeout(Some(PATIENCE))?;
    let exchange = |to: SocketAddrV4| -> Result<()> {
        client.send_to(b"who", WEB)?;
        let place = list.iter().position(|address| *address == to).context("no backend")?;
        let mut buffer = [0; 16];
        let (length, from) = servers[place].0.recv_from(&mut buffer).context("at the backend")?;
        ensure!(&buffer[..length] == b"who");
        servers[place].0.send_to(b"me", from)?;
        let (length, from) = client.recv_from(&mut buffer).context("the answer")?;
        ensure!(&buffer[..length] == b"me" && from == WEB.into(), "from {from}");
        Ok(())
    };
    client.send_to(b"first", WEB)?;
    let cookie = cookie(&node)?;
    let first = node.told(cookie, UDP, WEB, Keeps::Datagrams);
    let place = list
        .iter()
        .position(|address| *address == first)
        .context("no backend")?;
    let mut buffer = [0; 16];
    ensure!(servers[place].0.recv(&mut buffer)? == 5);
    ensure!(node.remembered()? == node.tables.v4.socket_peers);
    exchange(first)?;

    // The set changes, and keeps it; then it loses it.
    let mut kept: Vec<_> = list.iter().copied().filter(|address| *address != first).collect();
    let without = kept.clone();
    kept.push(first);
    node.serve(WEB, UDP, 0, 8, &kept[1..])?;
    ensure!(node.told(cookie, UDP, WEB, Keeps::Datagrams) == first);
    exchange(first)?;
    ensure!(node.remembered()? == node.tables.v4.socket_peers);
    node.serve(WEB, UDP, 0, 9, &without)?;
    let second = node.told(cookie, UDP, WEB, Keeps::Datagrams);
    ensure!(without.contains(&second));
    exchange(second)?;
    ensure!(node.remembered()? == node.tables.v4.socket_peers);

    // A connected one, which also asks whom its datagrams are from.
    client.connect(WEB)?;
    ensure!(client.peer_addr()? == WEB.into(), "{:?}", client.peer_addr());
    Ok(())
}

/// An IPv4 socket address as a socket of IPv6 names it.
fn mapped(address: SocketAddrV4) -> SocketAddr {
    SocketAddr::from((address.ip().to_ipv6_mapped(), address.port()))
}

#[test]
fn a_socket_of_ipv6_reaches_services_of_both_families() -> Result<()> {
    let mut node = Node::new()?;
    let loopback = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 8080, 0, 0);
    let (four, six) = node
        .namespace
        .run(|| Ok((listener(1)?, TcpListener::bind(loopback)?)))?;
    node.serve(WEB, TCP, 0, 7, &[four.1])?;
    node.serve6(WEB6, TCP, 8, loopback)?;
    for (asked, server) in [(WEB6.into(), &six), (mapped(WEB), &four.0)] {
        // The standard library makes a socket of IPv6 for an IPv4-mapped address.
        let client = node
            .namespace
            .run(|| Ok(TcpStream::connect_timeout(&asked, PATIENCE)?))
            .with_context(|| format!("{asked}"))?;
        ensure!(client.peer_addr()? == asked, "{asked}: {:?}", client.peer_addr());
        server.set_nonblocking(true)?;
        let (_, seen) = server.accept().with_context(|| format!("{asked} at its backend"))?;
        ensure!(seen.port() == client.local_addr()?.port());
    }
    ensure!(node.counted(Hook::Connect6, Reason::ToBackend)? == 2);
    ensure!(node.counted(Hook::Getpeername6, Reason::AsFrontend)? >= 2);
    Ok(())
}

#[test]
fn a_datagram_of_ipv6_is_answered_by_services_of_both_families() -> Result<()> {
    let mut node = Node::new()?;
    let loopback = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 5353, 0, 0);
    let (four, six) = node.namespace.run(|| Ok((receiver(1)?, UdpSocket::bind(loopback)?)))?;
    six.set_read_timeout(Some(PATIENCE))?;
    node.serve(WEB, UDP, 0, 7, &[four.1])?;
    node.serve6(WEB6, UDP, 8, loopback)?;
    let client = node.namespace.run(|| Ok(UdpSocket::bind("[::]:0")?))?;
    client.set_read_timeout(Some(PATIENCE))?;
    for (asked, server) in [(WEB6.into(), &six), (mapped(WEB), &four.0)] {
        client.send_to(b"who", asked)?;
        let mut buffer = [0; 16];
        let (length, from) = server
            .recv_from(&mut buffer)
            .with_context(|| format!("{asked} at its backend"))?;
        ensure!(&buffer[..length] == b"who");
        server.send_to(b"me", from)?;
        let (length, from) = client.recv_from(&mut buffer).context("the answer")?;
        ensure!(&buffer[..length] == b"me" && from == asked, "from {from}, not {asked}");
    }
    ensure!(node.counted(Hook::Sendmsg6, Reason::ToBackend)? == 1);
    ensure!(
        node.counted(Hook::Sendmsg4, Reason::ToBackend)? == 1,
        "the kernel takes a mapped peer for one of IPv4"
    );
    ensure!(node.counted(Hook::Recvmsg6, Reason::AsFrontend)? == 2);
    Ok(())
}

#[test]
fn sockets_of_other_namespaces_are_left_alone() -> Result<()> {
    let mut node = Node::new()?;
    let (_server, address) = node.namespace.run(|| listener(1))?;
    node.serve(WEB, TCP, 0, 7, &[address])?;
    let pod = Namespace::create(&node.home.namespace("p"))?;
    let before = node.counted(Hook::Connect4, Reason::ForeignSocket)?;
    let error = pod.run(|| TcpStream::connect(WEB).err().context("connected"))?;
    ensure!(error.kind() == ErrorKind::NetworkUnreachable, "{error}");
    ensure!(node.counted(Hook::Connect4, Reason::ForeignSocket)? > before);
    ensure!(node.remembered()?.is_empty());
    Ok(())
}
