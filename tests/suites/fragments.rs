//! Fragments over real devices in any order: by raw sockets, since the kernel sends them in theirs. A socket must receive the
//! datagram whole.

pub mod ground;

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use netpath_common::{hook::Hook, reason::Reason};
use netpath_tests::lab::{home::Home, namespace::Namespace, start::Start};

use self::ground::{
    Both, CLIENT_PORT, FAR_NODE, Ground, NODE_PORT, Place, SERVICE_PORT, TARGET, VNI, VXLAN, fragments, heard, hears,
    payload, raw, send,
};
use crate::{cni::node::NODE, example, families::in_both_families};

/// Bytes of a fragment, but for the last.
const PART: usize = 1_200;

/// Orders of five in which the first is not the first, and that in which it is.
const ORDERS: [[usize; 5]; 6] = [
    [4, 3, 2, 1, 0],
    [3, 0, 4, 1, 2],
    [1, 2, 3, 4, 0],
    [2, 4, 0, 3, 1],
    [4, 1, 3, 0, 2],
    [0, 4, 2, 3, 1],
];

fn ordered(frames: &[Vec<u8>], order: [usize; 5]) -> Vec<Vec<u8>> {
    order.map(|place| frames[place].clone()).to_vec()
}

/// How many of an order come before the first.
fn early(order: [usize; 5]) -> u64 {
    order.iter().take_while(|place| **place != 0).count() as u64
}

/// The same of all orders.
fn all_early() -> u64 {
    ORDERS.map(early).iter().sum()
}

/// Sends datagrams in every order, and the server hears each whole. How many fragments were held.
fn every_order<A: Both>(
    ground: &Ground,
    server: &UdpSocket,
    hook: Hook,
    (from, source): (&Namespace, Place),
    (to, port): (Place, u16),
) -> Result<u64> {
    let socket = raw::<A>(from)?;
    let before = ground.counted(hook, Reason::FragmentHeld)?;
    let (mut seen, mut id) = (None, 100);
    // Frames of 14 + 20 + 8 bytes among them.
    for (length, part) in [(4 * PART + 200, PART), (33 - 8, 8)] {
        for order in ORDERS {
            id += 1;
            let sent = payload(length, id.into());
            let frames = fragments(id, (A::at(source), CLIENT_PORT), (A::at(to), port), &sent, part)?;
            ensure!(frames.len() == order.len(), "{} fragments", frames.len());
            send(&socket, A::at(to), ordered(&frames, order))?;
            let (got, client) = heard(server).with_context(|| format!("{length} bytes in the order {order:?}"))?;
            ensure!(got == sent, "{length} bytes in the order {order:?}: another payload");
            ensure!(client.ip() == A::at(source).ip(), "from {client}");
            ensure!(*seen.get_or_insert(client) == client, "{seen:?} and {client}");
        }
    }
    assert_eq!(ground.held::<A>()?, 0);
    Ok(ground.counted(hook, Reason::FragmentHeld)? - before)
}

in_both_families! {
    services_get_datagrams_in_any_order;
    out_under_the_nodes_address_and_back;
    two_datagrams_interleaved;
    without_the_first_nobody_gets_any;
    xdp_leaves_them_to_tc;
}

fn services_get_datagrams_in_any_order<A: Both>() -> Result<()> {
    let ground = Ground::new(false)?;
    // One socket for all: another test's program, about to start, may hold what is closed here, and with it the port.
    let server = hears::<A>(&ground.server, Place::Server, TARGET)?;
    let client = (&ground.client, Place::Client);
    let outside = (&ground.outside, Place::Outside);
    for (name, hook, from, to) in [
        ("a ClusterIP", Hook::FromPod, client, (Place::Service, SERVICE_PORT)),
        (
            "a NodePort of the own node",
            Hook::FromPod,
            client,
            (Place::Node, NODE_PORT),
        ),
        (
            "a NodePort from outside",
            Hook::FromWire,
            outside,
            (Place::Node, NODE_PORT),
        ),
    ] {
        let held = every_order::<A>(&ground, &server, hook, from, to).context(name)?;
        // As many as came too early, of each size.
        assert_eq!(held, 2 * all_early(), "{name}");
    }

    // From another node's pod, each fragment in a tunnel of its own.
    let tunnel = ground.outside.run(|| Ok(UdpSocket::bind((FAR_NODE, 50_000))?))?;
    for (id, order) in (1..).zip(ORDERS) {
        let sent = payload(4 * PART, id.into());
        let to = (A::at(Place::Node), NODE_PORT);
        let frames = fragments(id, (A::at(Place::Far), CLIENT_PORT), to, &sent, PART)?;
        for inner in ordered(&frames, order) {
            let [_, v0, v1, v2] = VNI.to_be_bytes();
            let header = [0x08, 0, 0, 0, v0, v1, v2, 0];
            tunnel.send_to(&[&header[..], &inner].concat(), (NODE, VXLAN))?;
        }
        let (got, client) = heard(&server).with_context(|| format!("tunnelled, {order:?}"))?;
        ensure!(
            got == sent && client.ip() == A::at(Place::Far).ip(),
            "{client}, {order:?}"
        );
    }
    Ok(())
}

/// A pod's datagram, and the answer to it.
fn out_under_the_nodes_address_and_back<A: Both>() -> Result<()> {
    let ground = Ground::new(false)?;
    let (client, server) = (
        hears::<A>(&ground.client, Place::Client, CLIENT_PORT)?,
        hears::<A>(&ground.outside, Place::Outside, TARGET)?,
    );
    let (out, back) = (raw::<A>(&ground.client)?, raw::<A>(&ground.outside)?);
    for (id, order) in (1..).zip(ORDERS) {
        let sent = payload(4 * PART + 99, id.into());
        let to = (A::at(Place::Outside), TARGET);
        let frames = fragments(id, (A::at(Place::Client), CLIENT_PORT), to, &sent, PART)?;
        send(&out, to.0, ordered(&frames, order))?;
        let (got, node) = heard(&server).with_context(|| format!("out, {order:?}"))?;
        ensure!(got == sent && node.ip() == A::at(Place::Node).ip(), "{node}, {order:?}");

        let answer = payload(4 * PART + 101, (id + 1_000).into());
        let to = (A::at(Place::Node), node.port());
        let frames = fragments(id, (A::at(Place::Outside), TARGET), to, &answer, PART)?;
        send(&back, to.0, ordered(&frames, order))?;
        let (got, from) = heard(&client).with_context(|| format!("back, {order:?}"))?;
        ensure!(got == answer && from == server.local_addr()?, "{from}, {order:?}");
    }
    for hook in [Hook::FromPod, Hook::FromWire] {
        assert_eq!(ground.counted(hook, Reason::FragmentHeld)?, all_early());
    }
    Ok(())
}

fn two_datagrams_interleaved<A: Both>() -> Result<()> {
    let ground = Ground::new(false)?;
    let server = hears::<A>(&ground.server, Place::Server, TARGET)?;
    for (from, source, to, port) in [
        (&ground.client, Place::Client, Place::Service, SERVICE_PORT),
        (&ground.outside, Place::Outside, Place::Node, NODE_PORT),
    ] {
        let socket = raw::<A>(from)?;
        let sent = [payload(4 * PART, 1), payload(4 * PART + 8, 2)];
        let mut frames = Vec::new();
        for (id, sent) in (1..).zip(&sent) {
            frames.push(fragments::<A>(
                id,
                (A::at(source), CLIENT_PORT),
                (A::at(to), port),
                sent,
                PART,
            )?);
        }
        let mixed = (0..5)
            .rev()
            .flat_map(|place| [frames[0][place].clone(), frames[1][place].clone()]);
        send(&socket, A::at(to), mixed)?;
        assert_eq!([heard(&server)?.0, heard(&server)?.0], sent);
    }
    Ok(())
}

fn without_the_first_nobody_gets_any<A: Both>() -> Result<()> {
    let ground = Ground::new(false)?;
    let server = hears::<A>(&ground.server, Place::Server, TARGET)?;
    let mut held = 0;
    for (hook, from, source, to, port) in [
        (
            Hook::FromPod,
            &ground.client,
            Place::Client,
            Place::Service,
            SERVICE_PORT,
        ),
        (Hook::FromWire, &ground.outside, Place::Outside, Place::Node, NODE_PORT),
    ] {
        let socket = raw::<A>(from)?;
        let to_service = (A::at(to), port);
        let frames = fragments(
            1,
            (A::at(source), CLIENT_PORT),
            to_service,
            &payload(4 * PART + 1, 3),
            PART,
        )?;
        send(&socket, to_service.0, frames[1..].iter().rev().cloned())?;
        // What comes behind them has passed, so they have too.
        let whole = fragments(0, (A::at(source), CLIENT_PORT), to_service, b"whole", PART)?;
        send(&socket, to_service.0, whole)?;
        assert_eq!(heard(&server)?.0, b"whole");
        held += 4;
        assert_eq!(
            (ground.held::<A>()?, ground.counted(hook, Reason::FragmentHeld)?),
            (held, 4)
        );
        assert_eq!(ground.counted(hook, Reason::FragmentsReleased)?, 0);
    }
    for namespace in [&ground.server, &ground.outside, &ground.client, &ground.node.namespace] {
        assert_eq!(A::reassembled(namespace)?, 0, "{}", namespace.name());
    }
    Ok(())
}

fn xdp_leaves_them_to_tc<A: Both>() -> Result<()> {
    let ground = Ground::new(true)?;
    let server = hears::<A>(&ground.server, Place::Server, TARGET)?;
    let outside = (&ground.outside, Place::Outside);
    let held = every_order::<A>(&ground, &server, Hook::FromWire, outside, (Place::Node, NODE_PORT))?;
    let left = ground.counted(Hook::FromWireXdp, Reason::ToTc)?;
    // Those that came too early; and where tc had held them by then, the first too, and others until tc had seen that.
    let early = 2 * all_early();
    ensure!(left >= early && held <= early, "{left} left, {held} held of {early}");
    Ok(())
}

const OBJECTS: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: far}, spec: {nodeName: node-3, containers: [{name: c}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: near, labels: {app: near}}, spec: {nodeName: node-1, containers: [{name: c}]}}
---
apiVersion: v1
kind: Service
metadata: {name: near}
spec:
  {type: NodePort, clusterIP: 10.96.0.53, selector: {app: near},
   ports: [{protocol: UDP, port: 53, targetPort: 5353, nodePort: 30053}]}
";

/// Into the tunnel by one node's programs and out of it by another's: what the buffer says of a tunnel stays with it.
#[test]
fn another_nodes_pod_through_a_tunnel() -> Result<()> {
    let folder = example::nodes_with(OBJECTS)?;
    let cluster = Start::of(folder.path()).run(Home::unique()?)?;
    let (far, near) = (cluster.pod("far")?, cluster.pod("near")?);
    let IpAddr::V4(node) = cluster.topology.nodes[0].address else {
        anyhow::bail!("the example's nodes have IPv4");
    };
    let (node, client) = (node.octets(), far.address4()?.octets());
    let server = near.namespace.run(|| Ok(UdpSocket::bind((near.address, TARGET))?))?;
    server.set_read_timeout(Some(Duration::from_millis(200)))?;
    // The agent may still be about to learn of the service.
    let asks = far.namespace.run(|| Ok(UdpSocket::bind((far.address, 0))?))?;
    for _ in 0..50 {
        asks.send_to(b"?", (Ipv4Addr::from(node), NODE_PORT))?;
        if heard(&server).is_ok() {
            break;
        }
    }
    let socket = raw::<[u8; 4]>(&far.namespace)?;
    for (id, order) in (1..).zip(ORDERS) {
        let sent = payload(4 * PART + 3, id.into());
        let frames = fragments(id, (client, CLIENT_PORT), (node, NODE_PORT), &sent, PART)?;
        send(&socket, node, ordered(&frames, order))?;
        let (got, from) = heard(&server).with_context(|| format!("{order:?}"))?;
        ensure!(got == sent && from.ip() == far.address, "{from}, {order:?}");
    }
    cluster.stop()
}
