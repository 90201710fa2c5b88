//! The frames that every path of every hook begins with, by name.

use anyhow::{Context as _, Result};
use etherparse::Icmpv6Type;
use netpath_common::hook::Hook;
use netpath_ebpf::packet::GSO_BY_FRAGS;
use netpath_tests::{
    frame::{Frame, TcpFlags, arp},
    sctp::{self, chunk, init},
};

use super::{Visit, reversed::reversed, tunnels, with_devices};
use crate::logic::node::{
    At, BALANCED, BRIDGE, CLIENT, DATABASE, DIAMETER, EMPTY, FAR, FAR_DIAMETER, GATEWAY, MAC_A, MAC_BRIDGE, MAC_UPLINK,
    NODE, OVERLAY, PEER, POD_A, POD_B, POD_FAR, POD_PEER, PORT_A, SELF, SIGNAL, STICKY, UNKNOWN, UPLINK, VNI, WEB,
    from_a, from_wire, six,
};

pub fn visit(hook: Hook, ifindex: u32, frame: Vec<u8>) -> Visit {
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

/// SCTP: ports that change, and their checksum with them; ways that other protocols do not go.
fn associations<A: At>() -> Result<Vec<(&'static str, Visit)>> {
    let at = |address, port| (A::at(address), port);
    let from_pod = |frame: Vec<u8>| visit(Hook::FromPod, PORT_A, frame);
    let sent = |port, to, chunks: &[u8]| from_a().sctp(at(POD_A, port), to, chunks);
    let data = |length| chunk(sctp::DATA, &vec![0x5c; length]);
    let answer = Frame::new(MAC_BRIDGE, MAC_UPLINK).sctp(
        at(POD_FAR, FAR_DIAMETER),
        at(POD_A, 40_000 - 32_768 + 1_024),
        &chunk(sctp::INIT_ACK, &[7; 301]),
    );
    let large = from_a().sctp_without_checksum(at(POD_A, 5_000), at(DATABASE, DIAMETER), &data(3_000));
    let fragment = |port, to, bytes: &[u8]| {
        let frame = from_a().fragment(11, 0, true);
        from_pod(A::packet(
            &frame,
            A::at(POD_A),
            A::at(to),
            132,
            &sctp::packet(5_000, port, bytes),
        ))
    };
    let tunnelled = from_wire().vxlan((FAR, 51_000), (NODE, 4789), VNI, &answer)?;
    let node_port = from_wire().sctp(at(CLIENT, 33_000), at(NODE, 30_085), &init());
    Ok(vec![
        ("SCTP to a service", from_pod(sent(40_000, at(WEB, SIGNAL), &init()))),
        (
            "SCTP to a service, from a port that stays",
            from_pod(sent(5_000, at(WEB, SIGNAL), &init())),
        ),
        ("SCTP far away", from_pod(sent(40_000, at(DATABASE, DIAMETER), &init()))),
        (
            "SCTP far away, a message",
            from_pod(sent(40_000, at(DATABASE, DIAMETER), &data(1_333))),
        ),
        (
            "SCTP without a checksum",
            from_pod(from_a().sctp_without_checksum(at(POD_A, 40_000), at(DATABASE, DIAMETER), &init())),
        ),
        (
            "SCTP and an answer out of the tunnel",
            visit(Hook::FromWire, UPLINK, tunnelled.clone()),
        ),
        (
            "SCTP out of the tunnel, yet to be segmented",
            segmented(visit(Hook::FromWire, UPLINK, tunnelled), GSO_BY_FRAGS),
        ),
        (
            "SCTP into the tunnel, yet to be segmented",
            segmented(from_pod(large.clone()), GSO_BY_FRAGS),
        ),
        ("SCTP too large for the tunnel", from_pod(large)),
        (
            "SCTP outside, yet to be segmented",
            segmented(from_pod(sent(5_000, at(CLIENT, SIGNAL), &data(3_000))), GSO_BY_FRAGS),
        ),
        ("SCTP outside", from_pod(sent(40_000, at(CLIENT, SIGNAL), &init()))),
        ("SCTP to a pod", from_pod(sent(40_000, at(POD_B, SIGNAL), &init()))),
        (
            "SCTP to a service without endpoints",
            from_pod(sent(40_000, at(EMPTY, SIGNAL), &init())),
        ),
        (
            "a message to a service without endpoints",
            from_pod(sent(40_000, at(EMPTY, SIGNAL), &data(5))),
        ),
        ("a fragment of SCTP", fragment(SIGNAL, WEB, &data(40))),
        (
            "a fragment of SCTP to another port",
            fragment(DIAMETER, DATABASE, &data(40)),
        ),
        ("SCTP without a chunk", from_pod(sent(40_000, at(WEB, SIGNAL), &[]))),
        ("SCTP to a node port", visit(Hook::FromWire, UPLINK, node_port.clone())),
        ("SCTP to a node port, XDP", visit(Hook::FromWireXdp, UPLINK, node_port)),
        (
            "the node to a service, SCTP",
            visit(
                Hook::FromHost,
                BRIDGE,
                Frame::new(MAC_BRIDGE, MAC_BRIDGE).sctp(at(GATEWAY, 45_000), at(DATABASE, DIAMETER), &init()),
            ),
        ),
        (
            "SCTP of the node into the tunnel, yet to be segmented",
            segmented(
                visit(
                    Hook::FromHost,
                    BRIDGE,
                    Frame::new(MAC_BRIDGE, MAC_BRIDGE).sctp(at(GATEWAY, 5_001), at(DATABASE, DIAMETER), &data(3_000)),
                ),
                GSO_BY_FRAGS,
            ),
        ),
    ])
}

/// What one family alone has.
fn discovery() -> Vec<(&'static str, Visit)> {
    let from_pod = |frame: Vec<u8>| visit(Hook::FromPod, PORT_A, frame);
    let solicits = |frame: Frame, source: [u8; 16], target: [u8; 16]| {
        let option = [&[1, 1][..], &frame.from].concat();
        let payload = [&target[..], &option].concat();
        frame
            .ttl(255)
            .icmp(source, solicited(target), Icmpv6Type::NeighborSolicitation, &payload)
    };
    let group = Frame::new(MAC_A, [0x33, 0x33, 0xff, 0, 0, 1]);
    let from_host = Frame::new(MAC_BRIDGE, [0x33, 0x33, 0xff, 0, 0, 1]);
    vec![
        (
            "ARP for the gateway",
            from_pod(arp((MAC_A, [0xff; 6]), 1, (MAC_A, POD_A), ([0; 6], GATEWAY))),
        ),
        (
            "ARP for nobody",
            from_pod(arp((MAC_A, [0xff; 6]), 1, (MAC_A, POD_A), ([0; 6], [10, 244, 1, 99]))),
        ),
        (
            "a solicitation of the gateway",
            from_pod(solicits(group, six(POD_A), six(GATEWAY))),
        ),
        (
            "a solicitation of a pod",
            from_pod(solicits(group, six(POD_A), six(POD_B))),
        ),
        (
            "a solicitation of nobody",
            from_pod(solicits(group, six(POD_A), six([10, 244, 1, 99]))),
        ),
        (
            "a solicitation by another",
            from_pod(solicits(group, six(POD_B), six(GATEWAY))),
        ),
        ("a probe", from_pod(solicits(group, [0; 16], six(POD_A)))),
        (
            "the stack solicits a pod",
            visit(Hook::FromHost, BRIDGE, solicits(from_host, six(GATEWAY), six(POD_B))),
        ),
        (
            "the stack solicits a service",
            visit(Hook::FromHost, BRIDGE, solicits(from_host, six(GATEWAY), six(WEB))),
        ),
    ]
}

/// The group in which whoever has the address is solicited (RFC 4291, section 2.7.1).
fn solicited(target: [u8; 16]) -> [u8; 16] {
    let mut group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
    group[13..].copy_from_slice(&target[13..]);
    group
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
