//! Connected UDP sockets of the node whose backend stops serving: each must be told, and those that are not concerned must hear nothing
//! of it.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream, UdpSocket},
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use netpath_agent::{
    apply::Applier,
    datapath::tables as maps,
    family::{Family, V4, V6},
    net::socket_diag::SocketDiag,
    plan::{FamilyPlan, Plan, ServicePlan},
};
use netpath_common::abi::{
    endpoint::{Endpoint, KIND_HOST},
    service::{Backend, FLAG_HOST_PORT, FLAG_NODE_PORT, Frontend, HOST_PORT_SETS},
    socket::{TO_FRONTEND, v4},
};

use netpath_tests::lab::namespace::Namespace;

use super::{NODE, NODE_PORT, Node, PATIENCE, TCP, UDP, WEB, WEB6, mapped};

/// A service whose backend stays, whatever becomes of the others'.
const OTHER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 96, 0, 81), 80);

/// A pod's hostPort, which is the CNI plugin's.
const HOST_PORT: SocketAddrV4 = SocketAddrV4::new(NODE, 7000);

fn backend(last: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(127, 0, 7, last), 5353)
}

fn backend6(last: u8) -> SocketAddrV6 {
    SocketAddrV6::new(Ipv6Addr::LOCALHOST, 5353 + u16::from(last), 0, 0)
}

/// A frontend that new connections go to one backend of, and whose others still serve.
fn serves<F: Family>(
    (address, port): (F, u16),
    protocol: u8,
    flags: u16,
    backends: &[(F, u16)],
) -> (F::Frontend, ServicePlan<F>) {
    let frontend = Frontend {
        address,
        port,
        protocol,
        reserved: 0,
    };
    let backend = |(address, port)| {
        let backend = Backend {
            address,
            port,
            reserved: [0; 2],
        };
        backend.into()
    };
    let mut serving: Vec<F::Backend> = backends.iter().copied().map(backend).collect();
    let plan = ServicePlan::alike(flags, serving[..1].to_vec());
    serving.sort_unstable();
    let plan = ServicePlan {
        serving: Arc::from(serving),
        ..plan
    };
    (frontend.into(), plan)
}

/// The node's plan: its services are served by these backends, of which the first is chosen.
fn plan(node: &Node, lasts: &[u8]) -> Plan {
    let pair = |address: SocketAddrV4| (address.ip().octets(), address.port());
    let pair6 = |address: SocketAddrV6| (address.ip().octets(), address.port());
    let backends: Vec<_> = lasts.iter().map(|last| pair(backend(*last))).collect();
    let backends6: Vec<_> = lasts.iter().map(|last| pair6(backend6(*last))).collect();
    let host = Endpoint {
        kind: KIND_HOST,
        ..Endpoint::default()
    };
    Plan {
        config: node.config,
        v4: FamilyPlan {
            endpoints: [(NODE.octets(), host)].into(),
            services: [
                serves::<V4>(pair(WEB), UDP, 0, &backends),
                serves::<V4>(pair(WEB), TCP, 0, &backends),
                serves::<V4>(pair(NODE_PORT), UDP, FLAG_NODE_PORT, &backends),
                serves::<V4>(pair(OTHER), UDP, 0, &[pair(backend(1))]),
            ]
            .into(),
            ..FamilyPlan::default()
        },
        v6: FamilyPlan {
            services: [serves::<V6>(pair6(WEB6), UDP, 0, &backends6)].into(),
            ..FamilyPlan::default()
        },
        ..Plan::default()
    }
}

/// The servers of a number: of IPv4, of IPv6.
fn servers(last: u8) -> Result<[UdpSocket; 2]> {
    let both = [UdpSocket::bind(backend(last))?, UdpSocket::bind(backend6(last))?];
    for server in &both {
        server.set_read_timeout(Some(PATIENCE))?;
    }
    Ok(both)
}

/// A socket of the calling thread's namespace and its peer's family, with this peer.
fn connected(to: SocketAddr) -> Result<UdpSocket> {
    let socket = match to {
        SocketAddr::V4(_) => UdpSocket::bind("0.0.0.0:0")?,
        SocketAddr::V6(_) => UdpSocket::bind("[::]:0")?,
    };
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(to).with_context(|| format!("{to}"))?;
    Ok(socket)
}

/// Whether what a socket sends arrives at a server, and the server's answer there.
fn reaches(socket: &UdpSocket, server: &UdpSocket) -> Result<()> {
    let mut buffer = [0; 16];
    socket.send(b"who")?;
    let (length, from) = server.recv_from(&mut buffer).context("at the server")?;
    ensure!(&buffer[..length] == b"who");
    server.send_to(b"me", from)?;
    let length = socket.recv(&mut buffer).context("the answer")?;
    ensure!(&buffer[..length] == b"me");
    Ok(())
}

/// Whether a socket has lost its peer, and tells so.
fn is_aborted(socket: &UdpSocket) -> Result<()> {
    let error = socket.recv(&mut [0; 16]).err().context("nothing was sent")?;
    ensure!(error.raw_os_error() == Some(nix::libc::ECONNABORTED), "{error}");
    ensure!(socket.peer_addr().is_err(), "it has a peer yet");
    Ok(())
}

/// The sockets that are led to the first backend, each with the address that it asked for.
fn led() -> Result<Vec<(SocketAddr, UdpSocket)>> {
    let everywhere = [
        NODE,
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::new(127, 3, 2, 1),
        Ipv4Addr::UNSPECIFIED,
    ];
    let node_port = everywhere.map(|own| SocketAddrV4::new(own, NODE_PORT.port()));
    let asked = node_port
        .into_iter()
        .flat_map(|own| [SocketAddr::from(own), mapped(own)])
        .chain([WEB.into(), mapped(WEB), WEB6.into()]);
    asked.map(|asked| Ok((asked, connected(asked)?))).collect()
}

#[test]
fn a_connected_socket_is_told_that_its_backend_is_gone() -> Result<()> {
    is_told(false)
}

/// What went while no agent was there is told by the next one.
#[test]
fn a_connected_socket_is_told_by_an_agent_that_was_away() -> Result<()> {
    is_told(true)
}

fn is_told(restarted: bool) -> Result<()> {
    let mut node = Node::new()?;
    let flags = FLAG_HOST_PORT | FLAG_NODE_PORT;
    node.serve(HOST_PORT, UDP, flags, HOST_PORT_SETS + 1, &[backend(1)])?;
    let other = Namespace::create(&node.home.namespace("p"))?;
    let foreign = other.run(|| {
        let server = UdpSocket::bind(backend(1))?;
        server.set_read_timeout(Some(PATIENCE))?;
        let socket = connected(backend(1).into())?;
        let listed = SocketDiag::open()?.connected_udp()?;
        let [it] = listed[..] else {
            anyhow::bail!("{listed:?}");
        };
        // As if it had been led there.
        let (address, port) = (backend(1).ip().octets(), backend(1).port());
        let key = v4::SocketKey {
            cookie: it.cookie(),
            address,
            port,
            direction: TO_FRONTEND,
            reserved: 0,
        };
        let peer = v4::SocketPeer {
            address: WEB.ip().octets(),
            port: WEB.port(),
            reserved: [0; 2],
            set: 1,
        };
        maps::sockets::<V4>(&node.pins)?.insert(&key, &peer)?;
        Ok((socket, server))
    })?;
    node.namespace.run(|| {
        let (first, second) = (servers(1)?, servers(2)?);
        let listener = TcpListener::bind(backend(1))?;
        let mut applier = Applier::adopt(&node.pins)?;
        let apply = |applier: &mut Applier, lasts: &[u8]| {
            let report = applier.apply(&plan(&node, lasts));
            ensure!(report.errors.is_empty(), "{report:?}");
            Ok(report.aborted)
        };
        apply(&mut applier, &[2])?;
        let local = SocketAddrV4::new(Ipv4Addr::LOCALHOST, NODE_PORT.port());
        let elsewhere = [WEB.into(), WEB6.into(), local.into()].map(connected);
        let elsewhere: Vec<UdpSocket> = elsewhere.into_iter().collect::<Result<_>>()?;
        // The second goes on its way out: it serves on.
        ensure!(apply(&mut applier, &[1, 2])? == 0);
        let led = led()?;
        for (asked, socket) in &led {
            let server = &first[usize::from(*asked == WEB6.into())];
            reaches(socket, server).with_context(|| format!("{asked}, before"))?;
        }
        let stream = TcpStream::connect(WEB)?;
        let (accepted, _) = listener.accept()?;
        let by_other = connected(OTHER.into())?;
        let by_pod = connected(HOST_PORT.into())?;
        let itself = [
            connected(backend(1).into())?,
            connected(mapped(backend(1)))?,
            connected(backend6(1).into())?,
        ];
        let unconnected = UdpSocket::bind("0.0.0.0:0")?;
        unconnected.set_read_timeout(Some(PATIENCE))?;
        unconnected.send_to(b"who", WEB)?;
        ensure!(first[0].recv(&mut [0; 16])? == 3);

        if restarted {
            applier = Applier::adopt(&node.pins)?;
        }
        let aborted = apply(&mut applier, &[2])?;
        for (asked, socket) in &led {
            is_aborted(socket).with_context(|| format!("{asked}"))?;
            socket.connect(asked)?;
            let server = &second[usize::from(*asked == WEB6.into())];
            reaches(socket, server).with_context(|| format!("{asked}, after"))?;
        }
        ensure!(aborted == led.len(), "{aborted} of {}", led.len());
        for (socket, server) in [
            (&elsewhere[0], &second[0]),
            (&elsewhere[1], &second[1]),
            (&elsewhere[2], &second[0]),
            (&by_pod, &first[0]),
            (&by_other, &first[0]),
            (&itself[0], &first[0]),
            (&itself[1], &first[0]),
            (&itself[2], &first[1]),
            (&foreign.0, &foreign.1),
        ] {
            let peer = socket.peer_addr();
            reaches(socket, server).with_context(|| format!("{peer:?}, which has nothing to do with it"))?;
        }
        ensure!(unconnected.take_error()?.is_none());
        unconnected.send_to(b"who", WEB)?;
        ensure!(second[0].recv(&mut [0; 16])? == 3);
        ensure!(stream.take_error()?.is_none() && accepted.peer_addr()? == stream.local_addr()?);
        ensure!(stream.peer_addr()? == WEB.into(), "{:?}", stream.peer_addr());

        // All services of IPv4 go.
        let mut plan = plan(&node, &[2]);
        plan.v4.services.clear();
        let report = applier.apply(&plan);
        ensure!(report.errors.is_empty(), "{report:?}");
        let concerned = led.iter().filter(|(asked, _)| *asked != WEB6.into());
        for socket in concerned
            .map(|(_, socket)| socket)
            .chain([&elsewhere[0], &elsewhere[2], &by_other])
        {
            is_aborted(socket)?;
        }
        ensure!(report.aborted == led.len() + 2, "{} of {}", report.aborted, led.len());
        Ok(())
    })
}
