//! The frames that every path of every hook begins with, by name.

use anyhow::{Context as _, Result};
use netpath_common::hook::Hook;
use netpath_tests::frame::{Frame, TcpFlags, arp};

use super::{Visit, with_devices};
use crate::logic::node::{
    BALANCED, BRIDGE, CLIENT, DATABASE, EMPTY, FAR, GATEWAY, MAC_A, MAC_BRIDGE, MAC_UPLINK, NODE, OVERLAY, PEER, POD_A,
    POD_B, POD_FAR, POD_PEER, PORT_A, PORT_B, SELF, STICKY, UNKNOWN, UPLINK, VNI, WEB, from_a, from_wire,
};

fn visit(hook: Hook, ifindex: u32, frame: Vec<u8>) -> Visit {
    Visit {
        hook,
        ifindex,
        frame,
        gso_size: 0,
    }
}

fn segmented(mut visit: Visit, gso_size: usize) -> Visit {
    visit.gso_size = gso_size;
    visit
}

fn frames() -> Result<Vec<(&'static str, Visit)>> {
    let syn = |to: ([u8; 4], u16)| from_a().tcp((POD_A, 40_000), to, TcpFlags::SYN, &[]);
    let from_pod = |frame: Vec<u8>| visit(Hook::FromPod, PORT_A, frame);
    let wire = |frame: Vec<u8>| visit(Hook::FromWire, UPLINK, frame);
    let xdp = |frame: Vec<u8>| visit(Hook::FromWireXdp, UPLINK, frame);
    let inner =
        Frame::new(MAC_BRIDGE, MAC_UPLINK).tcp((POD_FAR, 5432), (POD_A, 40_000), TcpFlags::SYN_ACK, &[7; 33])?;
    let tunnelled = from_wire().vxlan((FAR, 51_000), (NODE, 4789), VNI, &inner)?;
    let stranger = from_wire().vxlan((CLIENT, 51_000), (NODE, 4789), VNI, &inner)?;
    let node_port = from_wire().tcp((CLIENT, 33_000), (NODE, 30_080), TcpFlags::SYN, &[])?;
    let far_node_port = from_wire().tcp((CLIENT, 33_001), (NODE, 30_054), TcpFlags::SYN, &[])?;
    let plain = from_wire().tcp((POD_PEER, 33_000), (POD_A, 80), TcpFlags::SYN, &[])?;
    let expiring = from_a()
        .ttl(1)
        .tcp((POD_A, 40_000), (CLIENT, 80), TcpFlags::ACK, &[5; 21])?;
    let large = from_a().udp((POD_A, 40_000), (POD_FAR, 80), &[1; 1600])?;
    let host_frame = Frame::new(MAC_BRIDGE, MAC_BRIDGE).tcp((GATEWAY, 45_000), (WEB, 80), TcpFlags::SYN, &[])?;
    Ok(vec![
        ("pod to pod", from_pod(syn((POD_B, 80))?)),
        ("pod to a peer's pod", from_pod(syn((POD_PEER, 80))?)),
        ("pod into the tunnel", from_pod(syn((POD_FAR, 80))?)),
        (
            "large segments into the tunnel",
            segmented(
                from_pod(from_a().tcp((POD_A, 40_000), (POD_FAR, 80), TcpFlags::ACK, &[3; 3000])?),
                1358,
            ),
        ),
        ("pod outside", from_pod(syn((CLIENT, 80))?)),
        ("pod to a service", from_pod(syn((WEB, 80))?)),
        ("pod to a service again", from_pod(syn((WEB, 80))?)),
        (
            "pod to a service far away, UDP",
            from_pod(from_a().udp((POD_A, 40_000), (DATABASE, 53), b"?")?),
        ),
        (
            "the same without a checksum",
            from_pod(from_a().udp_without_checksum((POD_A, 40_001), (DATABASE, 53), b"?")?),
        ),
        ("pod to itself by a service", from_pod(syn((SELF, 80))?)),
        ("pod to a service without endpoints", from_pod(syn((EMPTY, 80))?)),
        ("a client that keeps its backend", from_pod(syn((STICKY, 80))?)),
        (
            "the same client again",
            from_pod(from_a().tcp((POD_A, 40_003), (STICKY, 80), TcpFlags::SYN, &[])?),
        ),
        ("the same client at the node port", from_pod(syn((NODE, 30_081))?)),
        (
            "a client outside that keeps its backend",
            wire(from_wire().tcp((CLIENT, 33_002), (NODE, 30_081), TcpFlags::SYN, &[])?),
        ),
        (
            "the same client outside, XDP",
            xdp(from_wire().tcp((CLIENT, 33_003), (NODE, 30_081), TcpFlags::SYN, &[])?),
        ),
        (
            "external traffic that stays here",
            wire(from_wire().tcp((CLIENT, 33_004), (NODE, 30_082), TcpFlags::SYN, &[])?),
        ),
        (
            "external traffic with nobody here",
            wire(from_wire().tcp((CLIENT, 33_005), (NODE, 30_083), TcpFlags::SYN, &[])?),
        ),
        (
            "the same, XDP",
            xdp(from_wire().tcp((CLIENT, 33_005), (NODE, 30_083), TcpFlags::SYN, &[])?),
        ),
        ("a pod of the node where nobody is here", from_pod(syn((NODE, 30_083))?)),
        ("pod to a service's other port", from_pod(syn((EMPTY, 81))?)),
        (
            "a late segment to a service's other port",
            from_pod(from_a().tcp((POD_A, 40_000), (EMPTY, 81), TcpFlags::ACK, b"late")?),
        ),
        (
            "a client outside to a service without endpoints, XDP",
            xdp(from_wire().tcp((CLIENT, 33_007), (EMPTY, 80), TcpFlags::SYN, &[])?),
        ),
        ("pod to no service", from_pod(syn((UNKNOWN, 80))?)),
        (
            "pod pings a service",
            from_pod(from_a().echo(POD_A, WEB, 77, b"abcdefgh")),
        ),
        ("a pod that may connect", from_pod(syn((BALANCED, 80))?)),
        (
            "a client outside that may connect",
            wire(from_wire().tcp((CLIENT, 33_006), (BALANCED, 80), TcpFlags::SYN, &[])?),
        ),
        (
            "a client outside that may not",
            wire(from_wire().tcp((PEER, 33_006), (BALANCED, 80), TcpFlags::SYN, &[])?),
        ),
        (
            "the same, XDP",
            xdp(from_wire().tcp((PEER, 33_006), (BALANCED, 80), TcpFlags::SYN, &[])?),
        ),
        ("pod to the node", from_pod(syn((NODE, 22))?)),
        (
            "pod pings outside",
            from_pod(from_a().echo(POD_A, CLIENT, 77, b"abcdefgh")),
        ),
        (
            "pod pings with an odd length",
            from_pod(from_a().echo(POD_A, CLIENT, 78, b"abcdefghi")),
        ),
        ("time runs out", from_pod(expiring)),
        ("too large", from_pod(large)),
        ("wrong address", from_pod(from_a().echo(POD_B, CLIENT, 77, b"abcdefgh"))),
        (
            "a first fragment",
            from_pod(
                from_a()
                    .fragment(9, 0, true)
                    .udp((POD_A, 40_002), (DATABASE, 53), &[1; 64])?,
            ),
        ),
        (
            "a later fragment",
            from_pod(from_a().fragment(9, 9, false).ipv4(POD_A, DATABASE, 17, &[2; 16])),
        ),
        (
            "a lost fragment",
            from_pod(from_a().fragment(10, 9, false).ipv4(POD_A, CLIENT, 17, &[2; 16])),
        ),
        (
            "ARP for the gateway",
            from_pod(arp((MAC_A, [0xff; 6]), 1, (MAC_A, POD_A), ([0; 6], GATEWAY))),
        ),
        (
            "ARP for nobody",
            from_pod(arp((MAC_A, [0xff; 6]), 1, (MAC_A, POD_A), ([0; 6], [10, 244, 1, 99]))),
        ),
        ("an unknown port", visit(Hook::FromPod, OVERLAY, syn((POD_B, 80))?)),
        (
            "a frame that ends with its IP header",
            from_pod(syn((POD_B, 80))?[..34].to_vec()),
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
                Hook::ToPod,
                PORT_B,
                Frame::new(MAC_BRIDGE, MAC_A).tcp((GATEWAY, 9), (POD_B, 8080), TcpFlags::SYN, &[])?,
            ),
        ),
        (
            "the stack to the wire",
            visit(
                Hook::ToWire,
                UPLINK,
                Frame::new(MAC_UPLINK, MAC_A).tcp((NODE, 9), (CLIENT, 80), TcpFlags::SYN, &[])?,
            ),
        ),
    ])
}

#[test]
fn named_frames() -> Result<()> {
    with_devices(|pair| {
        for (name, visit) in frames()? {
            pair.reset()?;
            pair.visit(&visit).context(name)?;
        }
        Ok(())
    })
}

#[test]
fn named_frames_one_after_another() -> Result<()> {
    with_devices(|pair| {
        for (name, visit) in frames()? {
            pair.visit(&visit).context(name)?;
        }
        Ok(())
    })
}
