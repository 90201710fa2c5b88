//! SCTP over real devices, by raw sockets, since the machine's kernel may have no others: what leaves one pod arrives at the other
//! with addresses and ports as a service makes them, and with the checksum of the whole packet as it then is.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsRawFd, OwnedFd},
};

use anyhow::{Context, Result, ensure};
use etherparse::Ipv4Slice;
use futures::TryStreamExt;
use netlink_packet_route::link::LinkFlags;
use netpath_tests::{
    lab::{cluster::Cluster, home::Home, namespace::Namespace, start::Start, topology::CLIENT},
    sctp::{DATA, INIT_ACK, chunk, init, packet},
};
use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, setsockopt, socket,
            sockopt::ReceiveTimeout,
        },
        time::{TimeVal, TimeValLike},
    },
};

use crate::example;

const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 11);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 1);
const OBJECTS: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: client}, spec: {nodeName: node-1, containers: [{name: c}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: near, labels: {app: near}}, spec: {nodeName: node-1, containers: [{name: c}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: direct, labels: {app: direct}}, spec: {nodeName: node-2, containers: [{name: c}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: far, labels: {app: far}}, spec: {nodeName: node-3, containers: [{name: c}]}}
---
apiVersion: v1
kind: Service
metadata: {name: near}
spec:
  {type: NodePort, clusterIP: 10.96.0.1, selector: {app: near},
   ports: [{protocol: SCTP, port: 2905, targetPort: 2905, nodePort: 30001}]}
---
apiVersion: v1
kind: Service
metadata: {name: direct}
spec:
  {type: NodePort, clusterIP: 10.96.0.2, selector: {app: direct},
   ports: [{protocol: SCTP, port: 2905, targetPort: 12905, nodePort: 30002}]}
---
apiVersion: v1
kind: Service
metadata: {name: far}
spec:
  {type: NodePort, clusterIP: 10.96.0.3, selector: {app: far},
   ports: [{protocol: SCTP, port: 2905, targetPort: 12905, nodePort: 30003}]}
";

/// The client's port, and the one to which it is moved on the way to a service.
const PORT: u16 = 40_000;
const MOVED: u16 = PORT - 32_768 + 1_024;
/// Where source NAT's ports begin, unless the agent is told otherwise.
const FIRST_OF_NAT: u16 = 49_152;

/// A socket that hears all SCTP packets of a namespace.
fn open(namespace: &Namespace) -> Result<OwnedFd> {
    namespace.run(|| {
        let socket = socket(
            AddressFamily::Inet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::Sctp,
        )?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(200))?;
        Ok(socket)
    })
}

fn send(socket: &OwnedFd, to: Ipv4Addr, packet: &[u8]) -> Result<()> {
    let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
    sendto(socket.as_raw_fd(), packet, &to, MsgFlags::empty())?;
    Ok(())
}

/// The next packet with its sender; none where nothing came.
fn hear(socket: &OwnedFd) -> Result<Option<(Ipv4Addr, Vec<u8>)>> {
    let mut buffer = vec![0; 2048];
    match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
        Ok(length) => {
            let ip = Ipv4Slice::from_slice(&buffer[..length])?;
            Ok(Some((ip.header().source_addr(), ip.payload().payload.to_vec())))
        }
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens a connection and sends a message each way. Gives the client as the server sees it.
fn speak(from: &Namespace, to: SocketAddrV4, at: &Namespace, target: u16) -> Result<SocketAddrV4> {
    let (client, server) = (open(from)?, open(at)?);
    let mut seen = None;
    for (asked, answered) in [
        (init(), chunk(INIT_ACK, &[7; 301])),
        (chunk(DATA, &[1; 1_203]), chunk(DATA, &[2; 1_317])),
    ] {
        // The agent may still be about to learn of the service.
        let mut arrived = None;
        for _ in 0..50 {
            send(&client, *to.ip(), &packet(PORT, to.port(), &asked))?;
            arrived = hear(&server)?;
            if arrived.is_some() {
                break;
            }
        }
        let (source, bytes) = arrived.context("nothing arrives")?;
        let port = u16::from_be_bytes([bytes[0], bytes[1]]);
        ensure!(bytes == packet(port, target, &asked), "{bytes:02x?}");
        let sender = SocketAddrV4::new(source, port);
        ensure!(*seen.get_or_insert(sender) == sender, "{seen:?} and {sender}");
        send(&server, source, &packet(target, port, &answered))?;
        let (source, bytes) = hear(&client)?.context("no answer")?;
        ensure!(source == *to.ip(), "{source} answers");
        ensure!(bytes == packet(to.port(), PORT, &answered), "{bytes:02x?}");
    }
    seen.context("nobody was seen")
}

fn cluster() -> Result<Cluster> {
    let folder = example::nodes_with(OBJECTS)?;
    Start::of(folder.path()).run(Home::unique()?)
}

#[test]
fn services_and_the_outside_are_reached_over_real_devices() -> Result<()> {
    let cluster = cluster()?;
    let client = cluster.pod("client")?;
    let node = &cluster.topology.nodes[0].namespace;
    let outside = &cluster.topology.client;
    for (name, last, target) in [("near", 1, 2905), ("direct", 2, 12_905), ("far", 3, 12_905)] {
        let pod = cluster.pod(name)?;
        let service = SocketAddrV4::new(Ipv4Addr::new(10, 96, 0, last), 2905);
        let node_port = SocketAddrV4::new(NODE, 30_000 + u16::from(last));
        let said =
            |from: &Namespace, to| speak(from, to, &pod.namespace, target).with_context(|| format!("{name}, {to}"));
        let seen = said(&client.namespace, service)?;
        assert_eq!(seen, SocketAddrV4::new(client.address4()?, MOVED), "{name}");
        let seen = said(&client.namespace, node_port)?;
        assert_eq!(*seen.ip(), client.address4()?, "{name}");
        let seen = said(node, service)?;
        assert_eq!(seen, SocketAddrV4::new(GATEWAY, MOVED), "{name}");
        let seen = said(outside, node_port)?;
        if name == "near" {
            assert_eq!(seen, SocketAddrV4::new(CLIENT, PORT));
        } else {
            assert!(*seen.ip() == NODE && seen.port() >= FIRST_OF_NAT, "{name}: {seen}");
        }
    }
    let to = SocketAddrV4::new(CLIENT, 2905);
    let seen = speak(&client.namespace, to, outside, 2905)?;
    assert!(*seen.ip() == NODE && seen.port() >= FIRST_OF_NAT, "{seen}");
    cluster.stop()
}

/// Whether a device has a carrier. The kernel takes notice of a change at leisure, or when it is asked.
fn has_carrier(namespace: &Namespace, device: &str) -> Result<bool> {
    let message = namespace.netlink(async |handle| {
        let mut links = handle.link().get().match_name(device.to_owned()).execute();
        links.try_next().await?.context("there is no such device")
    })?;
    Ok(message.header.flags.contains(LinkFlags::LowerUp))
}

/// What the node sends to services leaves by the bridge, which has no carrier once its last port is gone.
#[test]
fn a_node_whose_last_pod_went_still_reaches_services() -> Result<()> {
    let mut cluster = cluster()?;
    let near = SocketAddrV4::new(Ipv4Addr::new(10, 96, 0, 1), 2905);
    let said = |cluster: &Cluster| {
        let node = &cluster.topology.nodes[1].namespace;
        speak(node, near, &cluster.pod("near")?.namespace, 2905)
    };
    let with = said(&cluster)?;
    let place = cluster.pods.iter().position(|pod| pod.spec.name == "direct");
    let mut last = cluster.pods.remove(place.context("no pod")?);
    last.delete(cluster.node(1))?;
    assert!(!has_carrier(&cluster.topology.nodes[1].namespace, "netpath0")?);
    assert_eq!(said(&cluster).context("without a pod")?, with);
    cluster.stop()
}
