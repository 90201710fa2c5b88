//! The floor under netpath's figures: the same devices, hooks and redirects, driven by programs that decide nothing. They read no
//! header and no map, count nothing and check nobody. What they take is the kernel's own share, and no datapath that is built
//! as netpath is can take less on the machine at hand.
//!
//! The way of a packet is netpath's: from a pod's veth into the other pod (`bpf_redirect_peer`), or out of the uplink, in VXLAN
//! headers or without, and from the uplink into the pod.

mod program;

use std::{net::Ipv4Addr, os::fd::OwnedFd, sync::Arc};

use anyhow::Result;

use self::program::{Instruction, attach};
use super::{
    netlink::{End, Mac},
    netns::Namespace,
    rivals::{self, OVERLAY_MTU, POD_DEVICE, Pair, UPLINK, WIRE_MTU, mac, pod},
};

/// The node's end of the client's veth pair.
const CLIENT_PORT: u32 = 12;
/// The node's end of the server's.
const SERVER_PORT: u32 = 13;
/// Whom a pod takes for its gateway: nobody has the address.
const GATEWAY: u8 = 1;

/// Two pods of one node.
///
/// # Errors
/// Those of the kernel.
pub fn same_node() -> Result<Pair> {
    let node = Arc::new(Namespace::new()?);
    let client = attach_pod(&node, CLIENT_PORT, (1, 2), mac(1, 3), WIRE_MTU)?;
    let server = attach_pod(&node, SERVER_PORT, (1, 3), mac(1, 2), WIRE_MTU)?;
    let links = vec![
        attach(&node, CLIENT_PORT, &program::into_pod(SERVER_PORT))?,
        attach(&node, SERVER_PORT, &program::into_pod(CLIENT_PORT))?,
    ];
    Ok(Pair {
        client,
        server,
        address: pod(1, 3).into(),
        nodes: vec![node],
        links,
    })
}

/// How packets cross the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crossing {
    /// As they are.
    Direct,
    /// In VXLAN headers.
    Tunnel,
}

/// A pod on each of two nodes that one wire joins.
///
/// # Errors
/// Those of the kernel.
pub fn across(crossing: Crossing) -> Result<Pair> {
    let nodes = [Arc::new(Namespace::new()?), Arc::new(Namespace::new()?)];
    let [near, far] = [1, 2].map(|number| End {
        name: "eth0",
        index: UPLINK,
        mac: mac(0xff, number),
    });
    nodes[0].net.veth(&near, &far, &nodes[1], WIRE_MTU)?;
    let mtu = match crossing {
        Crossing::Direct => WIRE_MTU,
        Crossing::Tunnel => OVERLAY_MTU,
    };
    let mut links = Vec::new();
    let mut pods = Vec::new();
    for (number, other, node) in [(1, 2, &nodes[0]), (2, 1, &nodes[1])] {
        // Every header is right from the start: the sender's frame has the receiver's address already.
        pods.push(attach_pod(node, CLIENT_PORT, (number, 2), mac(other, 2), mtu)?);
        links.extend(cross(node, crossing, mac(other, 2))?);
    }
    let server = pods.remove(1);
    Ok(Pair {
        client: pods.remove(0),
        server,
        address: pod(2, 2).into(),
        nodes: nodes.into(),
        links,
    })
}

/// The programs of one of two nodes.
fn cross(node: &Namespace, crossing: Crossing, receiver: Mac) -> Result<[OwnedFd; 2]> {
    let (out, back): (Vec<Instruction>, Vec<Instruction>) = match crossing {
        Crossing::Direct => (program::out_of(UPLINK), program::into_pod(CLIENT_PORT)),
        Crossing::Tunnel => (
            program::wrapped_out_of(UPLINK, receiver),
            program::unwrapped_into_pod(CLIENT_PORT),
        ),
    };
    Ok([attach(node, CLIENT_PORT, &out)?, attach(node, UPLINK, &back)?])
}

/// A pod behind a port. Its gateway's address is the MAC that all it sends shall have.
fn attach_pod(
    node: &Namespace,
    port: u32,
    (number, host): (u8, u8),
    receiver: Mac,
    mtu: u32,
) -> Result<Arc<Namespace>> {
    let namespace = rivals::plug(node, port, (number, host), mtu)?;
    let gateway = pod(number, GATEWAY);
    namespace.net.address(POD_DEVICE, pod(number, host), 32)?;
    namespace.net.neighbour(POD_DEVICE, gateway, receiver)?;
    namespace
        .net
        .route(Ipv4Addr::UNSPECIFIED, 0, Some(gateway), POD_DEVICE)?;
    Ok(namespace)
}
