//! The node's own sockets: which peer a call gets, what is remembered of it, and which one it is shown.

use std::collections::BTreeSet;

use netpath_common::{
    abi::{
        service::{BackendKey, FLAG_NODE_PORT, FLAG_NODE_PORT_HERE, FLAG_NONE_HERE, Service, v4 as service},
        socket::{TO_BACKEND, TO_FRONTEND, v4},
    },
    reason::Reason,
};
use netpath_ebpf::{
    path::{from_socket, to_socket},
    socket::Keeps,
    v4::V4,
    v6::V6,
};
use netpath_tests::{entries, frame::TcpFlags, socket::HostSocket, tables::HostTables};

use super::node::*;

type Peer = ([u8; 4], u16);

const TCP: u32 = 6;
const UDP: u32 = 17;
const COOKIE: u64 = 0x2_0000_0077;

fn socket(protocol: u32, peer: Peer) -> HostSocket {
    HostSocket {
        netns: NETNS,
        cookie: COOKIE,
        protocol,
        peer,
    }
}

/// The verdict on a call, and the peer that it is left with.
fn call(tables: &mut HostTables, mut socket: HostSocket, keeps: Keeps) -> (Result<Reason, Reason>, Peer) {
    let verdict = from_socket::run::<V4, _, _>(&mut socket, tables, &config(), keeps);
    (verdict, socket.peer)
}

fn connect(tables: &mut HostTables, protocol: u32, peer: Peer) -> (Result<Reason, Reason>, Peer) {
    call(tables, socket(protocol, peer), Keeps::Connection)
}

fn sends(tables: &mut HostTables, peer: Peer) -> (Result<Reason, Reason>, Peer) {
    call(tables, socket(UDP, peer), Keeps::Datagrams)
}

fn is_shown(tables: &HostTables, mut socket: HostSocket) -> (Reason, Peer) {
    let reason = to_socket::run(&mut socket, tables, &config());
    (reason, socket.peer)
}

fn key(peer: Peer, direction: u8) -> v4::SocketKey {
    v4::SocketKey {
        cookie: [0x77, 2],
        address: peer.0,
        port: peer.1,
        direction,
        reserved: 0,
    }
}

fn entry(peer: Peer, set: u32) -> v4::SocketPeer {
    v4::SocketPeer {
        address: peer.0,
        port: peer.1,
        reserved: [0; 2],
        set,
    }
}

/// A frontend of UDP with these backends, in a set of this number and in the order that sets have.
fn serve(tables: &mut HostTables, frontend: Peer, set: u32, backends: &[Peer]) {
    let mut backends = backends.to_vec();
    backends.sort_unstable();
    let key = entries::frontend(frontend.0, frontend.1, 17);
    let count = backends.len() as u32;
    tables.v4.services.insert(
        key,
        Service {
            set,
            count,
            ..Service::default()
        },
    );
    for (slot, (address, port)) in (0..).zip(backends) {
        let backend = entries::backend(address, port);
        tables.v4.backends.insert(BackendKey { set, slot }, backend);
    }
}

#[test]
fn a_connection_goes_to_the_backend_and_is_shown_the_service() {
    let mut tables = tables();
    let led = connect(&mut tables, TCP, (WEB, 80));
    assert_eq!(led, (Ok(Reason::ToBackend), (POD_B, 8080)));
    let remembered = [(key((POD_B, 8080), TO_FRONTEND), entry((WEB, 80), 1))];
    assert_eq!(tables.v4.socket_peers, remembered.into());
    assert!(tables.v4.connections.is_empty(), "no packet is to be translated");

    let backend = socket(TCP, (POD_B, 8080));
    assert_eq!(is_shown(&tables, backend), (Reason::AsFrontend, (WEB, 80)));
    for (other, reason) in [
        (
            HostSocket {
                cookie: COOKIE + 1,
                ..backend
            },
            Reason::SocketLeft,
        ),
        (
            HostSocket {
                peer: (POD_B, 8081),
                ..backend
            },
            Reason::SocketLeft,
        ),
        (
            HostSocket {
                netns: NETNS + 1,
                ..backend
            },
            Reason::ForeignSocket,
        ),
    ] {
        assert_eq!(is_shown(&tables, other), (reason, other.peer));
    }
}

#[test]
fn what_is_not_the_nodes_or_no_service_is_left_alone() {
    let mut tables = tables();
    let before = tables.clone();
    let ours = socket(TCP, (WEB, 80));
    for (socket, reason) in [
        (
            HostSocket {
                netns: NETNS + (1 << 32),
                ..ours
            },
            Reason::ForeignSocket,
        ),
        (HostSocket { protocol: UDP, ..ours }, Reason::SocketLeft),
        // ICMP; Multipath TCP, whose number ends in TCP's byte (linux/in.h: IPPROTO_MPTCP).
        (HostSocket { protocol: 1, ..ours }, Reason::SocketLeft),
        (HostSocket { protocol: 262, ..ours }, Reason::SocketLeft),
        (
            HostSocket {
                peer: (WEB, 81),
                ..ours
            },
            Reason::SocketLeft,
        ),
        (
            HostSocket {
                peer: (POD_B, 8080),
                ..ours
            },
            Reason::SocketLeft,
        ),
        (
            HostSocket {
                peer: (NODE, 22),
                ..ours
            },
            Reason::SocketLeft,
        ),
        (
            HostSocket {
                peer: (CLIENT, 30_080),
                ..ours
            },
            Reason::SocketLeft,
        ),
    ] {
        for keeps in [Keeps::Connection, Keeps::Datagrams] {
            assert_eq!(
                call(&mut tables, socket, keeps),
                (Ok(reason), socket.peer),
                "{socket:?}"
            );
        }
    }
    assert_eq!(tables, before);
}

#[test]
fn a_node_port_is_on_every_address_of_the_node() {
    for own in [NODE, GATEWAY, [127, 0, 0, 1], [127, 255, 0, 3], [0; 4]] {
        let mut tables = tables();
        let led = connect(&mut tables, TCP, (own, 30_080));
        assert_eq!(led, (Ok(Reason::ToBackend), (POD_B, 8080)), "{own:?}");
        let shown = is_shown(&tables, socket(TCP, (POD_B, 8080)));
        assert_eq!(shown, (Reason::AsFrontend, (own, 30_080)));
    }
    // On the node's address alone, without the flag that it is on all.
    let mut tables = tables();
    serve(&mut tables, (NODE, 54_323), 90, &[(POD_A, 53)]);
    let left = (Ok(Reason::SocketLeft), ([127, 0, 0, 1], 54_323));
    assert_eq!(connect(&mut tables, UDP, left.1), left);
    let mut is_now = |flags| {
        let service = tables.v4.services.values_mut().find(|service| service.set == 90);
        service.expect("just added").flags = flags;
        connect(&mut tables, UDP, left.1)
    };
    assert_eq!(is_now(FLAG_NODE_PORT_HERE), left, "a NodePort on chosen addresses");
    assert_eq!(is_now(FLAG_NODE_PORT), (Ok(Reason::ToBackend), (POD_A, 53)));
}

#[test]
fn a_port_of_a_loopback_address_is_for_sockets_alone() -> anyhow::Result<()> {
    let mut tables = tables();
    let loopback = ([127, 0, 0, 1], 80);
    serve(&mut tables, loopback, 91, &[(POD_A, 53)]);
    let tcp = tables.v4.services.iter().find(|(_, service)| service.set == 91);
    let (frontend, service) = tcp.map(|(key, value)| (*key, *value)).expect("just added");
    tables.v4.services.insert(
        service::Frontend {
            protocol: 6,
            ..frontend
        },
        service,
    );
    assert_eq!(
        connect(&mut tables, TCP, loopback),
        (Ok(Reason::ToBackend), (POD_A, 53))
    );
    let frame = from_wire().tcp((CLIENT, 40_000), loopback, TcpFlags::SYN, b"")?;
    let (verdict, left) = wire_brings(&mut tables, frame.clone());
    assert_eq!(verdict, netpath_tests::verdict::Verdict::Pass(Reason::ToStack));
    assert_eq!(left, frame);
    assert!(tables.v4.connections.is_empty());
    Ok(())
}

#[test]
fn without_a_backend_a_connection_fails() {
    let mut tables = tables();
    let refused = (Err(Reason::Refused), (EMPTY, 80));
    assert_eq!(connect(&mut tables, TCP, refused.1), refused);
    tables.v4.backends.clear();
    let broken = (Err(Reason::NoBackend), (WEB, 80));
    assert_eq!(connect(&mut tables, TCP, broken.1), broken);
    assert!(tables.v4.socket_peers.is_empty());
}

#[test]
fn datagrams_of_a_connected_socket_wait_at_the_bridge_for_a_backend() {
    const LOCAL: Peer = ([10, 96, 0, 77], 53);
    let mut tables = tables();
    let udp = (EMPTY, 80);
    serve(&mut tables, udp, 0, &[]);
    serve(&mut tables, LOCAL, 0, &[]);
    let local = tables.v4.services.iter_mut().find(|(key, _)| key.address == LOCAL.0);
    local.expect("just added").1.flags = FLAG_NONE_HERE;
    serve(&mut tables, (BALANCED, 53), 0, &[]);
    serve(&mut tables, (NODE, 53), 0, &[]);
    serve(&mut tables, (NODE, 30_053), 0, &[]);
    let port = tables.v4.services.iter_mut().find(|(key, _)| key.port == 30_053);
    port.expect("just added").1.flags = FLAG_NODE_PORT;
    let before = tables.clone();
    // In the services' range.
    for peer in [udp, LOCAL] {
        let left = (Ok(Reason::SocketLeft), peer);
        assert_eq!(connect(&mut tables, UDP, peer), left, "{peer:?}");
    }
    // What leaves the node by another way, or never leaves its stack.
    for peer in [
        (BALANCED, 53),
        (NODE, 53),
        (NODE, 30_053),
        ([127, 0, 0, 1], 30_053),
        ([0; 4], 30_053),
    ] {
        let refused = (Err(Reason::Refused), peer);
        assert_eq!(connect(&mut tables, UDP, peer), refused, "{peer:?}");
    }
    // Each datagram that names its peer asks anew.
    assert_eq!(sends(&mut tables, udp), (Err(Reason::Refused), udp));
    assert_eq!(sends(&mut tables, LOCAL), (Err(Reason::NoLocalEndpoint), LOCAL));
    assert_eq!(tables, before);
    // A set that ought to have somebody and has not is no reason to wait.
    serve(&mut tables, udp, 76, &[(POD_A, 53)]);
    tables.v4.backends.clear();
    assert_eq!(connect(&mut tables, UDP, udp), (Err(Reason::NoBackend), udp));
}

#[test]
fn datagrams_keep_their_backend_for_as_long_as_the_service_has_it() {
    const DNS: Peer = ([10, 96, 0, 10], 53);
    let backend = |last: u8| ([10, 244, 7, last], 5353);
    let mut tables = tables();
    let all: Vec<Peer> = (0..8).map(backend).collect();
    serve(&mut tables, DNS, 70, &all);
    let (verdict, first) = sends(&mut tables, DNS);
    assert_eq!(verdict, Ok(Reason::ToBackend));
    assert!(all.contains(&first));
    let remembered = [
        (key(DNS, TO_BACKEND), entry(first, 70)),
        (key(first, TO_FRONTEND), entry(DNS, 70)),
    ];
    assert_eq!(tables.v4.socket_peers, remembered.into());

    // Wherever it stands in whatever set.
    for (set, others) in [(71, 1), (72, 3), (73, 6)] {
        let others = all.iter().copied().filter(|peer| *peer != first).take(others);
        let list: Vec<Peer> = others.chain([first]).collect();
        serve(&mut tables, DNS, set, &list);
        assert_eq!(sends(&mut tables, DNS), (Ok(Reason::ToBackend), first), "{set}");
        assert_eq!(tables.v4.socket_peers[&key(DNS, TO_BACKEND)], entry(first, set));
        assert_eq!(tables.v4.socket_peers[&key(first, TO_FRONTEND)], entry(DNS, set));
    }
    // The set without it, and without it for good.
    let others: Vec<Peer> = all.iter().copied().filter(|peer| *peer != first).collect();
    serve(&mut tables, DNS, 74, &others);
    let (verdict, second) = sends(&mut tables, DNS);
    assert_eq!(verdict, Ok(Reason::ToBackend));
    assert!(others.contains(&second));
    assert_eq!(tables.v4.socket_peers[&key(DNS, TO_BACKEND)], entry(second, 74));
    assert_eq!(is_shown(&tables, socket(UDP, second)), (Reason::AsFrontend, DNS));
    // An answer of the first that comes late is still the service's.
    assert_eq!(is_shown(&tables, socket(UDP, first)), (Reason::AsFrontend, DNS));
    serve(&mut tables, DNS, 75, &all);
    assert_eq!(sends(&mut tables, DNS), (Ok(Reason::ToBackend), second));
    serve(&mut tables, DNS, 0, &[]);
    assert_eq!(sends(&mut tables, DNS), (Err(Reason::Refused), DNS));
}

#[test]
fn what_was_shown_is_remembered_again_where_it_made_room() {
    let mut tables = tables();
    let led = (Ok(Reason::ToBackend), (POD_FAR, 5353));
    assert_eq!(sends(&mut tables, (DATABASE, 53)), led);
    let whole = tables.clone();
    tables.v4.socket_peers.remove(&key((POD_FAR, 5353), TO_FRONTEND));
    assert_eq!(sends(&mut tables, (DATABASE, 53)), led);
    assert_eq!(tables, whole);
}

#[test]
fn sockets_spread_over_the_backends() {
    const DNS: Peer = ([10, 96, 0, 10], 53);
    let backends: Vec<Peer> = (0..3).map(|last| ([10, 244, 7, last], 53)).collect();
    let mut tables = tables();
    serve(&mut tables, DNS, 70, &backends);
    let mut hits = [0; 3];
    for cookie in 1..=3_000 {
        let socket = HostSocket {
            cookie,
            ..socket(UDP, DNS)
        };
        let (_, peer) = call(&mut tables, socket, Keeps::Connection);
        hits[backends.iter().position(|backend| *backend == peer).expect("a backend")] += 1;
    }
    // Within five standard deviations (sqrt(3000 p (1 - p)) = 26) of a third.
    assert!(hits.iter().all(|count| (870..=1130).contains(count)), "{hits:?}");
    let distinct: BTreeSet<_> = tables.v4.socket_peers.keys().map(|key| key.cookie).collect();
    assert_eq!(distinct.len(), 3_000);
}

/// A socket of IPv6 that names, or is connected to, this peer.
fn socket6(protocol: u32, peer: ([u8; 16], u16)) -> HostSocket<[u8; 16]> {
    HostSocket {
        netns: NETNS,
        cookie: COOKIE,
        protocol,
        peer,
    }
}

#[test]
fn a_socket_of_ipv6_is_led_and_shown_by_ipv6() {
    let mut tables = tables();
    let (service, backend) = ((six(WEB), 80), (six(POD_B), 8080));
    let mut socket = socket6(TCP, service);
    let verdict = from_socket::run_either(&mut socket, &mut tables, &config(), Keeps::Connection);
    assert_eq!((verdict, socket.peer), (Ok(Reason::ToBackend), backend));
    let reason = to_socket::run_either(&mut socket, &tables, &config());
    assert_eq!((reason, socket.peer), (Reason::AsFrontend, service));
    assert!(tables.v4.socket_peers.is_empty());
    // Datagrams, which the kernel asks about for this family alone.
    let web = tables.v6.services.keys().find(|frontend| frontend.port == 80).copied();
    let served = web.map(|frontend| tables.v6.services[&frontend]).expect("a service");
    let over_udp = entries::frontend(six(WEB), 53, 17);
    let served = Service {
        set: 1,
        count: 1,
        ..served
    };
    tables.v6.services.insert(over_udp, served);
    let mut socket = HostSocket {
        cookie: COOKIE + 1,
        ..socket6(UDP, (six(WEB), 53))
    };
    let verdict = from_socket::run::<V6, _, _>(&mut socket, &mut tables, &config(), Keeps::Datagrams);
    assert_eq!((verdict, socket.peer), (Ok(Reason::ToBackend), backend));
    assert_eq!(
        tables.v6.socket_peers.len(),
        3,
        "one way of the connection, both of the datagrams"
    );
}

#[test]
fn a_mapped_peer_is_one_of_ipv4() {
    let mut tables = tables();
    let (service, backend) = ((mapped(WEB), 80), (mapped(POD_B), 8080));
    let mut socket = socket6(TCP, service);
    let verdict = from_socket::run_either(&mut socket, &mut tables, &config(), Keeps::Connection);
    assert_eq!((verdict, socket.peer), (Ok(Reason::ToBackend), backend));
    assert_eq!(
        tables.v4.socket_peers.keys().copied().collect::<Vec<_>>(),
        [key((POD_B, 8080), TO_FRONTEND)]
    );
    assert!(tables.v6.socket_peers.is_empty());
    let reason = to_socket::run_either(&mut socket, &tables, &config());
    assert_eq!((reason, socket.peer), (Reason::AsFrontend, service));
}

#[test]
fn a_node_port_is_on_the_loopback_address_and_on_none() {
    let localhost = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    for address in [localhost, [0; 16], six(NODE), six(GATEWAY)] {
        let mut socket = socket6(TCP, (address, 30_080));
        let verdict = from_socket::run_either(&mut socket, &mut tables(), &config(), Keeps::Connection);
        assert_eq!((verdict, socket.peer), (Ok(Reason::ToBackend), (six(POD_B), 8080)));
    }
}
