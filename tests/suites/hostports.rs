//! hostPorts over real traffic, with the pods of Kubernetes' own conformance test: one port on two addresses and in two
//! protocols, asked from everywhere.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use netpath_tests::lab::{
    cluster::Cluster,
    home::Home,
    kubelet::Pod,
    namespace::Namespace,
    probe,
    start::Start,
    wire::{self, End},
};

use crate::example;

const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 11);
const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: loopback}
spec: {nodeName: node-1, containers: [{name: c, ports: [{containerPort: 8080, hostPort: 54323, hostIP: 127.0.0.1}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: own}
spec: {nodeName: node-1, containers: [{name: c, ports: [{containerPort: 8080, hostPort: 54323, hostIP: 192.168.50.11}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: datagrams}
spec:
  nodeName: node-1
  containers: [{name: c, ports: [{containerPort: 8081, protocol: UDP, hostPort: 54323, hostIP: 192.168.50.11}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: everywhere}
spec:
  nodeName: node-1
  containers: [{name: c, ports: [{containerPort: 80, hostPort: 7000}, {containerPort: 53, protocol: UDP, hostPort: 7000}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: direct}
spec: {nodeName: node-2, containers: [{name: c}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far}
spec: {nodeName: node-3, containers: [{name: c}]}
";

fn at(address: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddrV4::new(address, port).into()
}

fn cluster() -> Result<Cluster> {
    let folder = example::nodes_with(PODS)?;
    Start::of(folder.path()).run(Home::unique()?)
}

/// Who must answer TCP and UDP on a port that is asked from here; `None` for nobody.
fn ask(from: &Namespace, to: SocketAddr, tcp: Option<&str>, udp: Option<&str>) -> Result<()> {
    for (protocol, heard, expected) in [("TCP", probe::http(from, to), tcp), ("UDP", probe::udp(from, to), udp)] {
        let heard = heard.map(|heard| heard.answer.pod);
        match (&heard, expected) {
            (Ok(pod), Some(expected)) if pod == expected => {}
            (Err(_), None) => {}
            _ => anyhow::bail!("{} to {to} by {protocol}: {heard:?}, not {expected:?}", from.name()),
        }
    }
    Ok(())
}

#[test]
fn a_host_port_is_reached_from_everywhere_and_by_nobody_else() -> Result<()> {
    let cluster = cluster()?;
    let node = |place: usize| &cluster.topology.nodes[place].namespace;
    let here = node(0);
    ask(here, at(Ipv4Addr::LOCALHOST, 54_323), Some("loopback"), None)?;
    ask(here, at(NODE, 54_323), Some("own"), Some("datagrams"))?;
    for own in [Ipv4Addr::LOCALHOST, NODE] {
        ask(here, at(own, 7000), Some("everywhere"), Some("everywhere"))?;
    }
    let pods =
        ["loopback", "everywhere", "direct", "far"].map(|name| Ok::<_, anyhow::Error>(&cluster.pod(name)?.namespace));
    let others = [Ok(node(1)), Ok(node(2)), Ok(&cluster.topology.client)];
    for from in pods.into_iter().chain(others) {
        let from = from?;
        ask(from, at(NODE, 7000), Some("everywhere"), Some("everywhere"))?;
        ask(from, at(NODE, 54_323), Some("own"), Some("datagrams"))?;
        ask(from, at(Ipv4Addr::LOCALHOST, 7000), None, None)?;
    }
    for pod in &cluster.pods {
        pod.check(cluster.node(pod.node))?;
    }
    cluster.stop()
}

/// A socket that asks again and again from the same port.
fn client(from: &Namespace) -> Result<UdpSocket> {
    from.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        Ok(socket)
    })
}

fn answer(client: &UdpSocket, to: SocketAddr) -> Result<String> {
    client.send_to(b"who", to)?;
    let mut buffer = [0; 2048];
    let (length, from) = client.recv_from(&mut buffer)?;
    ensure!(from == to, "asked {to}, answered by {from}");
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

#[test]
fn the_next_pod_with_the_port_gets_the_next_datagram() -> Result<()> {
    let mut cluster = cluster()?;
    let to = at(NODE, 7000);
    let clients = [
        ("outside", client(&cluster.topology.client)?),
        ("the node", client(&cluster.topology.nodes[0].namespace)?),
        ("a pod", client(&cluster.pod("far")?.namespace)?),
    ];
    for (name, client) in &clients {
        let answer = answer(client, to).with_context(|| format!("{name}, before"))?;
        ensure!(answer.contains("\"everywhere\""), "{name}: {answer}");
    }
    let place = cluster
        .pods
        .iter()
        .position(|pod| pod.spec.name == "everywhere")
        .context("no pod")?;
    let mut old = cluster.pods.remove(place);
    let mut spec = old.spec.clone();
    spec.name = "next".to_owned();
    // The port is the old one's until that is gone.
    let early = Pod::add(&cluster.home, spec.clone(), 0, cluster.node(0)).expect_err("the port is taken");
    ensure!(format!("{early:#}").contains("7000/TCP is taken"), "{early:#}");
    // Sockets of the node that are connected to it, to another pod's port, and to the pod's own address.
    let everywhere = [
        NODE,
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::new(127, 3, 2, 1),
        Ipv4Addr::UNSPECIFIED,
    ];
    let connect = |to: SocketAddr| -> Result<UdpSocket> {
        let socket = client(&cluster.topology.nodes[0].namespace)?;
        socket.connect(to)?;
        Ok(socket)
    };
    let sockets = everywhere.map(|own| connect(at(own, 7000)));
    let sockets: Vec<UdpSocket> = sockets.into_iter().collect::<Result<_>>()?;
    let another = connect(at(NODE, 54_323))?;
    let itself = connect(SocketAddr::new(old.address, 53))?;
    old.delete(cluster.node(0))?;
    for (own, socket) in everywhere.iter().zip(&sockets) {
        let error = socket.recv(&mut [0; 16]).err().context("nothing was sent")?;
        ensure!(error.kind() == ErrorKind::ConnectionAborted, "{own}: {error}");
    }
    for socket in [&another, &itself] {
        ensure!(
            socket.take_error()?.is_none() && socket.peer_addr().is_ok(),
            "{socket:?}"
        );
    }
    let mut next = Pod::add(&cluster.home, spec, 0, cluster.node(0))?;
    ensure!(next.address != old.address);
    let server = next.namespace.run(|| Ok(UdpSocket::bind("0.0.0.0:53")?))?;
    server.set_read_timeout(Some(Duration::from_secs(10)))?;
    let asked = clients.len() + everywhere.len();
    let serving = std::thread::spawn(move || -> Result<()> {
        let mut buffer = [0; 64];
        for _ in 0..asked {
            let (_, from) = server.recv_from(&mut buffer)?;
            server.send_to(b"next", from)?;
        }
        Ok(())
    });
    for (name, client) in &clients {
        let answer = answer(client, to).with_context(|| format!("{name}, after"))?;
        ensure!(answer == "next", "{name}: {answer}");
    }
    for (own, socket) in everywhere.iter().zip(&sockets) {
        socket.connect(at(*own, 7000))?;
        socket.send(b"who")?;
        let mut buffer = [0; 16];
        let length = socket.recv(&mut buffer).with_context(|| format!("{own}, after"))?;
        ensure!(&buffer[..length] == b"next", "{own}: {buffer:?}");
    }
    serving.join().expect("no panic")?;
    next.delete(cluster.node(0))?;
    cluster.stop()
}

/// As a cache of DNS has one for the pods of its node, or a balancer its own on loopback.
#[test]
fn an_address_on_another_device_is_the_node_s_as_well() -> Result<()> {
    const OTHER: Ipv4Addr = Ipv4Addr::new(169, 254, 20, 10);
    let cluster = cluster()?;
    let here = &cluster.topology.nodes[0].namespace;
    let loopback = End {
        namespace: here,
        device: "lo",
    };
    wire::address(loopback, OTHER, 32)?;
    let server = here.run(|| Ok(UdpSocket::bind((OTHER, 5300))?))?;
    server.set_read_timeout(Some(Duration::from_secs(20)))?;
    let serving = std::thread::spawn(move || -> Result<()> {
        let (_, from) = server.recv_from(&mut [0; 64])?;
        server.send_to(b"the node", from)?;
        Ok(())
    });
    // The agent hears of the address a moment later: what a socket sent before goes on to the outside.
    let pod = &cluster.pod("own")?.namespace;
    let heard = (0..5).find_map(|_| answer(&client(pod).ok()?, at(OTHER, 5300)).ok());
    assert_eq!(heard.as_deref(), Some("the node"));
    serving.join().expect("no panic")?;
    ask(pod, at(OTHER, 7000), Some("everywhere"), Some("everywhere"))?;
    cluster.stop()
}
