//! The frames that every path of every hook begins with, by name.

use anyhow::{Context as _, Result};
use netpath_common::hook::Hook;
use netpath_tests::frame::{Frame, TcpFlags};

use super::{Visit, associations::associations, discovery::discovery, reversed::reversed, tunnels, with_devices};
use crate::logic::node::{
    At, BALANCED, BRIDGE, CLIENT, DATABASE, EMPTY, FAR, GATEWAY, MAC_A, MAC_BRIDGE, MAC_UPLINK, NODE, OVERLAY, PEER,
    POD_A, POD_B, POD_FAR, POD_PEER, PORT_A, SELF, STICKY, UNKNOWN, UPLINK, VNI, WEB, from_a, from_wire,
};

pub fn visit(hook: Hook, ifindex: u32, frame: Vec<u8>) -> Visit {
    Visit {
        hook,
        ifindex,
        frame,
        gso_size: 0,
    }
}

pub fn segmented(mut visit: Visit, gso_size: usize) -> Visit {
    visit.gso_size = gso_size;
    visit
}

fn frames<A: At>() -> Result<Vec<(&'static str, Visit)>> {
    let at = A::at;
    let syn = |to: ([u8; 4], u16)| from_a().tcp((at(POD_A), 40_000), (at(to.0), to.1), TcpFlags::SYN, &[]);
    let from_pod = |frame: Vec<u8>| visit(Hook::FromPod, PORT_A, frame);
    let wire = |frame: Vec<u8>| visit(Hook::FromWire, UPLINK, frame);
    let xdp = |frame: Vec<u8>| visit(Hook::FromWireXdp, UPLINK, frame);
    let inner = Frame::new(MAC_BRIDGE, MAC_UPLINK).tcp(
        (at(POD_FAR), 5432),
        (at(POD_A), 40_000),
        TcpFlags::SYN_ACK,
        &[7; 33],
    )?;
    let tunnelled = from_wire().vxlan((FAR, 51_000), (NODE, 4789), VNI, &inner)?;
    let stranger = from_wire().vxlan((CLIENT, 51_000), (NODE, 4789), VNI, &inner)?;
    let node_port = from_wire().tcp((at(CLIENT), 33_000), (at(NODE), 30_080), TcpFlags::SYN, &[])?;
    let far_node_port = from_wire().tcp((at(CLIENT), 33_001), (at(NODE), 30_054), TcpFlags::SYN, &[])?;
    let plain = from_wire().tcp((at(POD_PEER), 33_000), (at(POD_A), 80), TcpFlags::SYN, &[])?;
    let expiring = from_a()
        .ttl(1)
        .tcp((at(POD_A), 40_000), (at(CLIENT), 80), TcpFlags::ACK, &[5; 21])?;
    let large = from_a().udp((at(POD_A), 40_000), (at(POD_FAR), 80), &[1; 1600])?;
    let host_frame =
        Frame::new(MAC_BRIDGE, MAC_BRIDGE).tcp((at(GATEWAY), 45_000), (at(WEB), 80), TcpFlags::SYN, &[])?;
    Ok(vec![
        ("pod to pod", from_pod(syn((POD_B, 80))?)),
        ("pod to a peer's pod", from_pod(syn((POD_PEER, 80))?)),
        ("pod into the tunnel", from_pod(syn((POD_FAR, 80))?)),
        (
            "large segments into the tunnel",
            segmented(
                from_pod(from_a().tcp((at(POD_A), 40_000), (at(POD_FAR), 80), TcpFlags::ACK, &[3; 3000])?),
                1358,
            ),
        ),
        ("pod outside", from_pod(syn((CLIENT, 80))?)),
        ("pod to a service", from_pod(syn((WEB, 80))?)),
        ("pod to a service again", from_pod(syn((WEB, 80))?)),
        (
            "pod to a service far away, UDP",
            from_pod(from_a().udp((at(POD_A), 40_000), (at(DATABASE), 53), b"?")?),
        ),
        (
            "the same without a checksum",
            from_pod(from_a().udp_without_checksum((at(POD_A), 40_001), (at(DATABASE), 53), b"?")?),
        ),
        ("pod to itself by a service", from_pod(syn((SELF, 80))?)),
        ("pod to a service without endpoints", from_pod(syn((EMPTY, 80))?)),
        ("a client that keeps its backend", from_pod(syn((STICKY, 80))?)),
        (
            "the same client again",
            from_pod(from_a().tcp((at(POD_A), 40_003), (at(STICKY), 80), TcpFlags::SYN, &[])?),
        ),
        ("the same client at the node port", from_pod(syn((NODE, 30_081))?)),
        (
            "a client outside that keeps its backend",
            wire(from_wire().tcp((at(CLIENT), 33_002), (at(NODE), 30_081), TcpFlags::SYN, &[])?),
        ),
        (
            "the same client outside, XDP",
            xdp(from_wire().tcp((at(CLIENT), 33_003), (at(NODE), 30_081), TcpFlags::SYN, &[])?),
        ),
        (
            "external traffic that stays here",
            wire(from_wire().tcp((at(CLIENT), 33_004), (at(NODE), 30_082), TcpFlags::SYN, &[])?),
        ),
        (
            "external traffic with nobody here",
            wire(from_wire().tcp((at(CLIENT), 33_005), (at(NODE), 30_083), TcpFlags::SYN, &[])?),
        ),
        (
            "the same, XDP",
            xdp(from_wire().tcp((at(CLIENT), 33_005), (at(NODE), 30_083), TcpFlags::SYN, &[])?),
        ),
        ("a pod of the node where nobody is here", from_pod(syn((NODE, 30_083))?)),
        ("pod to a service's other port", from_pod(syn((EMPTY, 81))?)),
        (
            "a late segment to a service's other port",
            from_pod(from_a().tcp((at(POD_A), 40_000), (at(EMPTY), 81), TcpFlags::ACK, b"late")?),
        ),
        (
            "a client outside to a service without endpoints, XDP",
            xdp(from_wire().tcp((at(CLIENT), 33_007), (at(EMPTY), 80), TcpFlags::SYN, &[])?),
        ),
        ("pod to no service", from_pod(syn((UNKNOWN, 80))?)),
        (
            "pod pings a service",
            from_pod(from_a().echo(at(POD_A), at(WEB), 77, b"abcdefgh")),
        ),
        ("a pod that may connect", from_pod(syn((BALANCED, 80))?)),
        (
            "a client outside that may connect",
            wire(from_wire().tcp((at(CLIENT), 33_006), (at(BALANCED), 80), TcpFlags::SYN, &[])?),
        ),
        (
            "a client outside that may not",
            wire(from_wire().tcp((at(PEER), 33_006), (at(BALANCED), 80), TcpFlags::SYN, &[])?),
        ),
        (
            "the same, XDP",
            xdp(from_wire().tcp((at(PEER), 33_006), (at(BALANCED), 80), TcpFlags::SYN, &[])?),
        ),
        ("pod to the node", from_pod(syn((NODE, 22))?)),
        (
            "pod pings outside",
            from_pod(from_a().echo(at(POD_A), at(CLIENT), 77, b"abcdefgh")),
        ),
        (
            "pod pings with an odd length",
            from_pod(from_a().echo(at(POD_A), at(CLIENT), 78, b"abcdefghi")),
        ),
        ("time runs out", from_pod(expiring)),
        ("too large", from_pod(large)),
        (
            "wrong address",
            from_pod(from_a().echo(at(POD_B), at(CLIENT), 77, b"abcdefgh")),
        ),
        (
            "a first fragment",
            from_pod(
                from_a()
                    .fragment(9, 0, true)
                    .udp((at(POD_A), 40_002), (at(DATABASE), 53), &[1; 64])?,
            ),
        ),
        (
            "a later fragment",
            from_pod(A::packet(
                &from_a().fragment(9, 9, false),
                at(POD_A),
                at(DATABASE),
                17,
                &[2; 16],
            )),
        ),
        (
            "a fragment before its first",
            from_pod(A::packet(
                &from_a().fragment(10, 9, false),
                at(POD_A),
                at(CLIENT),
                17,
                &[2; 16],
            )),
        ),
        (
            "its first",
            from_pod(
                from_a()
                    .fragment(10, 0, true)
                    .udp((at(POD_A), 40_002), (at(CLIENT), 53), &[1; 64])?,
            ),
        ),
        ("an unknown port", visit(Hook::FromPod, OVERLAY, syn((POD_B, 80))?)),
        (
            "a frame that ends with its IP header",
            from_pod(
                syn((POD_B, 80))?
                    .split_last_chunk::<20>()
                    .map_or_else(Vec::new, |(ip, _)| ip.to_vec()),
            ),
        ),
        ("out of the tunnel", wire(tunnelled.clone())),
        ("out of the tunnel, from a stranger", wire(stranger.clone())),
        ("node port", wire(node_port.clone())),
        ("node port, backend elsewhere", wire(far_node_port.clone())),
        ("a peer's pod", wire(plain.clone())),
        ("out of the tunnel, XDP", xdp(tunnelled)),
        ("out of the tunnel, from a stranger, XDP", xdp(stranger)),
        ("node port, XDP", xdp(node_port)),
        ("node port, backend elsewhere, XDP", xdp(far_node_port)),
        ("a peer's pod, XDP", xdp(plain)),
        (
            "the vxlan device's packet without its sender",
            visit(Hook::FromOverlay, OVERLAY, inner),
        ),
        ("the node to a service", visit(Hook::FromHost, BRIDGE, host_frame)),
        (
            "the stack to a pod",
            visit(
                Hook::FromHost,
                BRIDGE,
                Frame::new(MAC_BRIDGE, MAC_A).tcp((at(GATEWAY), 9), (at(POD_B), 8080), TcpFlags::SYN, &[])?,
            ),
        ),
        (
            "the stack to the wire",
            visit(
                Hook::ToWire,
                UPLINK,
                Frame::new(MAC_UPLINK, MAC_A).tcp((at(NODE), 9), (at(CLIENT), 80), TcpFlags::SYN, &[])?,
            ),
        ),
    ])
}

/// The frames of both families.
fn all() -> Result<Vec<(&'static str, Visit)>> {
    let associations = [associations::<[u8; 4]>()?, associations::<[u8; 16]>()?].concat();
    let reversed = [reversed::<[u8; 4]>()?, reversed::<[u8; 16]>()?].concat();
    Ok([
        frames::<[u8; 4]>()?,
        frames::<[u8; 16]>()?,
        reversed,
        associations,
        tunnels::frames()?,
        discovery(),
    ]
    .concat())
}

#[test]
fn named_frames() -> Result<()> {
    with_devices(|pair| {
        for (name, visit) in all()? {
            pair.reset()?;
            pair.visit(&visit).context(name)?;
            pair.counted().context(name)?;
        }
        Ok(())
    })
}

#[test]
fn named_frames_one_after_another() -> Result<()> {
    with_devices(|pair| {
        for (name, visit) in all()? {
            pair.visit(&visit).context(name)?;
        }
        pair.counted()
    })
}
