//! Tunnels over IPv6: to and from a node that has no IPv4.

use anyhow::Result;
use etherparse::Icmpv6Type;
use netpath_common::{
    abi::{
        config::Config,
        service::{Backend, BackendKey},
    },
    reason::Reason,
};
use netpath_ebpf::{encap::PEER_MAC, packet::Tunnel, path, scratch::Scratch, verdict::NextHop};
use netpath_tests::{
    frame::{Frame, Socket, TcpFlags, ip_packet},
    packet::HostPacket,
    tables::HostTables,
    verdict::Verdict,
};

use super::{ipv6::at, node::*};

const INTO_THE_TUNNEL: Verdict = Verdict::Wire {
    reason: Reason::ToTunnel,
    next_hop: NextHop {
        family: netpath_ebpf::verdict::Neighbour::V6,
        address: [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 192, 168, 50, 1],
    },
};

/// What a pod sends, as it is in a tunnel.
fn inner() -> Frame {
    Frame::new(MAC_OVERLAY, PEER_MAC).ttl(63)
}

/// A frame in a tunnel from the lone node.
fn from_lone(inner: &[u8]) -> Result<Vec<u8>> {
    from_wire().vxlan(at(LONE, 50_123), at(NODE, 4789), VNI, inner)
}

/// The frame is what the node sends to the lone one around `inner`, from a port and with a label that follow from the flow.
/// Gives these two.
fn tunnelled(frame: &[u8], inner: &[u8]) -> Result<(u16, [u8; 3])> {
    let port = u16::from_be_bytes([frame[54], frame[55]]);
    assert!(port >= 49_152, "{port} is not in the dynamic range");
    let label = [frame[15], frame[16], frame[17]];
    assert_eq!(label[0] & 0xf0, 0, "the traffic class is set");
    let mut outer = Frame::new([0; 6], [0; 6]).vxlan(at(NODE, port), at(LONE, 4789), VNI, inner)?;
    outer[15..18].copy_from_slice(&label);
    assert_eq!(frame, outer);
    Ok((port, label))
}

#[test]
fn a_pod_of_a_node_without_ipv4_is_reached_through_a_tunnel_of_ipv6() -> Result<()> {
    let sent = from_a().udp(at(POD_A, PORT), at(POD_LONE, 80), b"hello")?;
    let (verdict, frame) = pod_a_sends(&mut tables(), sent);
    assert_eq!(verdict, INTO_THE_TUNNEL);
    tunnelled(&frame, &inner().udp(at(POD_A, PORT), at(POD_LONE, 80), b"hello")?)?;

    let back = Frame::new(MAC_OVERLAY, MAC_BRIDGE).udp(at(POD_LONE, 80), at(POD_A, PORT), b"there")?;
    let delivered = Frame::new(MAC_BRIDGE, MAC_A).udp(at(POD_LONE, 80), at(POD_A, PORT), b"there")?;
    let outcome = wire_brings(&mut tables(), from_lone(&back)?);
    assert_eq!(outcome, (Verdict::Endpoint { ifindex: PORT_A }, delivered));
    Ok(())
}

#[test]
fn the_node_itself_is_reached_so_too_and_answers() -> Result<()> {
    let sent = from_a().tcp(at(POD_A, PORT), at(LONE, 22), TcpFlags::SYN, b"")?;
    let (verdict, frame) = pod_a_sends(&mut tables(), sent);
    assert_eq!(verdict, INTO_THE_TUNNEL);
    tunnelled(&frame, &inner().tcp(at(POD_A, PORT), at(LONE, 22), TcpFlags::SYN, b"")?)?;
    let asks = |frame: Frame| frame.tcp(at(POD_LONE, PORT), at(NODE, 22), TcpFlags::SYN, b"");
    let outcome = wire_brings(&mut tables(), from_lone(&asks(Frame::new([9; 6], [8; 6]))?)?);
    assert_eq!(outcome, (Verdict::Pass(Reason::ToHost), asks(from_wire())?));
    Ok(())
}

#[test]
fn flows_spread_over_source_ports_and_labels() -> Result<()> {
    let mut seen = std::collections::BTreeSet::new();
    for port in 40_000..40_064 {
        let (_, frame) = pod_a_sends(&mut tables(), from_a().udp(at(POD_A, port), at(POD_LONE, 53), b"")?);
        let (port, label) = tunnelled(&frame, &inner().udp(at(POD_A, port), at(POD_LONE, 53), b"")?)?;
        seen.insert(port);
        seen.insert(u16::from_be_bytes([label[1], label[2]]));
    }
    assert!(
        seen.len() > 100,
        "64 flows have {} source ports and labels together",
        seen.len()
    );
    Ok(())
}

/// Twenty bytes less than through a tunnel of IPv4, and the sender is told so.
#[test]
fn the_mtu_is_that_of_the_way() -> Result<()> {
    for (to, limit) in [(POD_FAR, 1450), (POD_LONE, 1430)] {
        let of = |length: usize| from_a().udp(at(POD_A, PORT), at(to, 80), &vec![7; length - 48]);
        let (verdict, _) = pod_a_sends(&mut tables(), of(limit)?);
        assert_eq!(verdict.reason(), Reason::ToTunnel);
        let sent = of(limit + 1)?;
        let told = Frame::new(MAC_BRIDGE, MAC_A).icmp(
            six(GATEWAY),
            six(POD_A),
            Icmpv6Type::PacketTooBig { mtu: limit as u32 },
            // As much as 1280 bytes hold behind both headers (RFC 4443, section 2.4).
            &ip_packet(&sent)[..1280 - 40 - 8],
        );
        let outcome = pod_a_sends(&mut tables(), sent);
        assert_eq!(outcome, (Verdict::Bounce(Reason::TooBig), told));
    }
    Ok(())
}

#[test]
fn a_packet_of_more_than_64_kib_says_no_length() -> Result<()> {
    let frame = |of: Frame| -> Result<Vec<u8>> {
        let mut frame = of.tcp(at(POD_A, PORT), at(POD_LONE, 80), TcpFlags::ACK, &vec![7; 100_000])?;
        frame[18..20].copy_from_slice(&[0, 0]);
        Ok(frame)
    };
    let mut packet = HostPacket {
        gso_size: 1370,
        ..HostPacket::new(frame(from_a())?, PORT_A)
    };
    let mut scratch = Scratch::default();
    let verdict = path::from_pod::run(&mut packet, &mut tables(), &config(), &mut scratch);
    assert_eq!(Verdict::new(verdict, &scratch), INTO_THE_TUNNEL);
    let (outer, rest) = packet.bytes.split_at(84);
    assert_eq!((&outer[18..20], &outer[58..60]), (&[0, 0][..], &[0, 0][..]));
    let aged = frame(Frame::new([0; 6], [0; 6]).ttl(63))?;
    assert_eq!(rest, &aged[14..]);
    Ok(())
}

/// A pod there asks this node's NodePort, whose backend is far away: out of one tunnel into another, of either family.
#[test]
fn out_of_one_tunnel_into_another() -> Result<()> {
    let ask = |tables: &mut HostTables| {
        let asked = Frame::new([9; 6], [8; 6]).tcp(at(POD_LONE, 33_000), at(NODE, 30_054), TcpFlags::SYN, b"")?;
        anyhow::Ok(wire_brings(tables, from_lone(&asked)?))
    };
    let inner = |frame: &[u8], to: Socket<[u8; 16]>, outer: usize| {
        let port = u16::from_be_bytes([frame[outer + 30 + 14 + 40], frame[outer + 30 + 14 + 41]]);
        assert!(NAT.contains(&port), "{port}");
        inner().tcp(at(NODE, port), to, TcpFlags::SYN, b"")
    };
    let mut tables = tables();
    let (verdict, frame) = ask(&mut tables)?;
    let over_ipv4 = Verdict::Wire {
        reason: Reason::ToTunnel,
        next_hop: NextHop::v4(ROUTER),
    };
    assert_eq!(verdict, over_ipv4);
    let source_port = u16::from_be_bytes([frame[34], frame[35]]);
    let expected = Frame::new([0; 6], [0; 6]).vxlan(
        (NODE, source_port),
        (FAR, 4789),
        VNI,
        &inner(&frame, at(POD_FAR, 5432), 20)?,
    )?;
    assert_eq!(frame, expected);

    let mut tables = self::tables();
    let other = [10, 244, 4, 10];
    let lone = Backend {
        address: six(other),
        port: 5432,
        reserved: [0; 2],
    };
    tables.v6.backends.insert(BackendKey { set: 2, slot: 0 }, lone.into());
    let (verdict, frame) = ask(&mut tables)?;
    assert_eq!(verdict, INTO_THE_TUNNEL);
    tunnelled(&frame, &inner(&frame, at(other, 5432), 40)?)?;
    Ok(())
}

#[test]
fn only_nodes_tunnel_here_and_only_in_this_network() -> Result<()> {
    let inner = Frame::new(MAC_OVERLAY, MAC_BRIDGE).udp(at(POD_LONE, 80), at(POD_A, PORT), b"there")?;
    let vxlan = |from, to, vni| from_wire().vxlan(at(from, 50_123), at(to, 4789), vni, &inner);
    let verdict = |frame: Vec<u8>| {
        let (verdict, after) = wire_brings(&mut tables(), frame.clone());
        assert_eq!(after, frame);
        verdict
    };
    let stranger = Verdict::Drop(Reason::TunnelFromStranger);
    // A client, a pod, and the node itself.
    for from in [CLIENT, POD_PEER, POD_LONE, NODE] {
        assert_eq!(verdict(vxlan(from, NODE, VNI)?), stranger, "{from:?}");
    }
    assert_eq!(
        verdict(vxlan(LONE, NODE, VNI + 1)?),
        Verdict::Pass(Reason::ToStack),
        "another network"
    );
    assert_eq!(
        verdict(vxlan(LONE, GATEWAY, VNI)?),
        Verdict::Pass(Reason::ToHost),
        "no tunnel ends there"
    );
    let config = Config {
        gateway6: [0; 16],
        ..config()
    };
    let (mut packet, mut scratch) = (HostPacket::new(vxlan(LONE, NODE, VNI)?, UPLINK), Scratch::default());
    let alone = path::from_wire::run(&mut packet, &mut tables(), &config, &mut scratch);
    assert_eq!(Verdict::new(alone, &scratch), Verdict::Pass(Reason::ToStack));
    Ok(())
}

/// What only the kernel puts together goes to its own tunnel: headers between the outer ones, segments of UDP, and those of TCP
/// that may leave through another tunnel; fragments by way of its stack.
#[test]
fn some_are_left_to_the_kernel_s_tunnel() -> Result<()> {
    let to = |to| Frame::new(MAC_OVERLAY, MAC_BRIDGE).tcp(at(POD_LONE, 33_000), to, TcpFlags::ACK, &[7; 3000]);
    let udp = Frame::new(MAC_OVERLAY, MAC_BRIDGE).udp(at(POD_LONE, 80), at(POD_A, PORT), &[7; 3000])?;
    let whole = from_lone(&to(at(POD_A, 80))?)?;
    let left = Verdict::Pass(Reason::ToOverlay);
    let options = [17, 0, 1, 4, 0, 0, 0, 0];
    let behind = from_wire().ipv6_behind(six(LONE), six(NODE), 60, &options, &whole[54..]);
    let fragment = from_wire()
        .fragment(7, 0, true)
        .ipv6(six(LONE), six(NODE), 17, &whole[54..1254]);
    for (what, sent, gso_size, verdict) in [
        ("TCP for a pod", whole, 1350, Verdict::Endpoint { ifindex: PORT_A }),
        ("TCP for a NodePort", from_lone(&to(at(NODE, 30_080))?)?, 1350, left),
        ("UDP", from_lone(&udp)?, 1350, left),
        ("behind options", behind, 0, left),
        ("a fragment", fragment, 0, Verdict::Pass(Reason::ToHost)),
    ] {
        let mut packet = HostPacket {
            gso_size,
            ..HostPacket::new(sent.clone(), UPLINK)
        };
        let mut scratch = Scratch::default();
        let found = path::from_wire::run(&mut packet, &mut tables(), &config(), &mut scratch);
        assert_eq!(Verdict::new(found, &scratch), verdict, "{what}");
        assert_eq!(packet.bytes == sent, matches!(verdict, Verdict::Pass(_)), "{what}");
    }
    Ok(())
}

#[test]
fn the_kernel_s_tunnel_brings_it_from_nodes_to_where_they_send() -> Result<()> {
    let frame = Frame::new(MAC_OVERLAY, MAC_BRIDGE).udp(at(POD_LONE, 80), at(POD_A, PORT), b"there")?;
    let delivered = Frame::new(MAC_BRIDGE, MAC_A).udp(at(POD_LONE, 80), at(POD_A, PORT), b"there")?;
    let second = [192, 168, 60, 11];
    for (sender, end, vni, is_ours) in [
        (six(LONE), six(NODE), VNI, true),
        (six(FAR), six(NODE), VNI, true),
        (mapped(FAR), mapped(NODE), VNI, true),
        (six(LONE), six(NODE), VNI + 1, false),
        (six(CLIENT), six(NODE), VNI, false),
        (six(POD_LONE), six(NODE), VNI, false),
        (six(LONE), six(second), VNI, false),
        (mapped(FAR), mapped(second), VNI, false),
        (mapped(LONE), mapped(NODE), VNI, false),
    ] {
        let mut packet = HostPacket {
            tunnel: Some(Tunnel { sender, end, vni }),
            ..HostPacket::new(frame.clone(), OVERLAY)
        };
        let mut scratch = Scratch::default();
        let found = path::from_overlay::run(&mut packet, &mut tables(), &config(), &mut scratch);
        let expected = match is_ours {
            true => (Verdict::Endpoint { ifindex: PORT_A }, &delivered),
            false => (Verdict::Drop(Reason::TunnelFromStranger), &frame),
        };
        assert_eq!(
            (Verdict::new(found, &scratch), &packet.bytes),
            expected,
            "{sender:?} to {end:?}"
        );
    }
    Ok(())
}
