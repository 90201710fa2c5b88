//! IPv6: that the same scenarios end the same, and what it alone has: checksums of ICMP over addresses, tunnels over the other
//! family; headers behind the header and addresses of one link in files of their own.

mod headers;
mod scopes;

use anyhow::Result;
use netpath_common::{abi::config::Config, reason::Reason};
use netpath_ebpf::{packet::Tunnel, path, scratch::Scratch, verdict::NextHop};
use netpath_tests::{
    frame::{Frame, Socket, TcpFlags},
    packet::HostPacket,
    tables::HostTables,
    verdict::Verdict,
};

use super::node::*;

/// A port at the IPv6 address of whoever has this IPv4 address.
pub fn at(address: [u8; 4], port: u16) -> Socket<[u8; 16]> {
    super::node::at(address, port)
}

fn in_tunnel(inner: &[u8]) -> Result<Vec<u8>> {
    from_wire().vxlan((FAR, 50_123), (NODE, 4789), VNI, inner)
}

/// The first packet of a connection as it leaves, and the port that source NAT gave it.
fn masqueraded(tables: &mut HostTables, sent: Vec<u8>, port_at: usize) -> (Vec<u8>, u16) {
    let (verdict, frame) = pod_a_sends(tables, sent);
    let out = Verdict::Wire {
        reason: Reason::ToOutside,
        next_hop: NextHop::ROUTED,
    };
    assert_eq!(verdict, out);
    let port = u16::from_be_bytes([frame[port_at], frame[port_at + 1]]);
    assert!(NAT.contains(&port), "{port}");
    (frame, port)
}

#[test]
fn between_pods_of_a_node_no_byte_changes() -> Result<()> {
    let sent = Frame::new(MAC_A, MAC_B).tcp(at(POD_A, PORT), at(POD_B, 80), TcpFlags::SYN, b"")?;
    let outcome = pod_a_sends(&mut tables(), sent.clone());
    assert_eq!(outcome, (Verdict::Endpoint { ifindex: PORT_B }, sent));
    Ok(())
}

#[test]
fn a_pod_of_a_peer_is_next_hop_by_ipv6() -> Result<()> {
    let sent = from_a().tcp(at(POD_A, PORT), at(POD_PEER, 80), TcpFlags::SYN, b"")?;
    let direct = Verdict::Wire {
        reason: Reason::ToPeer,
        next_hop: NextHop::v6(six(PEER)),
    };
    let aged = from_a()
        .ttl(63)
        .tcp(at(POD_A, PORT), at(POD_PEER, 80), TcpFlags::SYN, b"")?;
    assert_eq!(pod_a_sends(&mut tables(), sent), (direct, aged));
    Ok(())
}

#[test]
fn a_pod_far_away_is_reached_through_a_tunnel_of_ipv4() -> Result<()> {
    let sent = from_a().udp(at(POD_A, PORT), at(POD_FAR, 80), b"hello")?;
    let (verdict, frame) = pod_a_sends(&mut tables(), sent);
    let tunnel = Verdict::Wire {
        reason: Reason::ToTunnel,
        next_hop: NextHop::v4(ROUTER),
    };
    assert_eq!(verdict, tunnel);
    let inner =
        Frame::new(MAC_OVERLAY, [2, b'n', b'p', 0, 0, 0])
            .ttl(63)
            .udp(at(POD_A, PORT), at(POD_FAR, 80), b"hello")?;
    let port = u16::from_be_bytes([frame[34], frame[35]]);
    assert!(port >= 0xc000, "{port}");
    let expected = Frame::new([0; 6], [0; 6]).vxlan((NODE, port), (FAR, 4789), VNI, &inner)?;
    assert_eq!(frame[12..], expected[12..]);

    // The way back.
    let back = Frame::new(MAC_OVERLAY, MAC_BRIDGE).udp(at(POD_FAR, 80), at(POD_A, PORT), b"there")?;
    let delivered = Frame::new(MAC_BRIDGE, MAC_A).udp(at(POD_FAR, 80), at(POD_A, PORT), b"there")?;
    let outcome = wire_brings(&mut tables(), in_tunnel(&back)?);
    assert_eq!(outcome, (Verdict::Endpoint { ifindex: PORT_A }, delivered));
    Ok(())
}

#[test]
fn the_kernel_s_tunnel_brings_it_too() -> Result<()> {
    let frame = Frame::new(MAC_OVERLAY, MAC_BRIDGE).udp(at(POD_FAR, 80), at(POD_A, PORT), b"there")?;
    let delivered = Frame::new(MAC_BRIDGE, MAC_A).udp(at(POD_FAR, 80), at(POD_A, PORT), b"there")?;
    for (sender, verdict, expected) in [
        (FAR, Verdict::Endpoint { ifindex: PORT_A }, &delivered),
        (CLIENT, Verdict::Drop(Reason::TunnelFromStranger), &frame),
    ] {
        let mut packet = HostPacket {
            tunnel: Some(Tunnel {
                sender: mapped(sender),
                end: mapped(NODE),
                vni: VNI,
            }),
            ..HostPacket::new(frame.clone(), OVERLAY)
        };
        let mut scratch = Scratch::default();
        let found = path::from_overlay::run(&mut packet, &mut tables(), &config(), &mut scratch);
        assert_eq!((Verdict::new(found, &scratch), &packet.bytes), (verdict, expected));
    }
    Ok(())
}

/// What receive offload put together and may leave through another tunnel, which only the kernel's device makes possible.
#[test]
fn segments_in_a_tunnel_are_left_to_the_kernel_s_unless_for_a_pod() -> Result<()> {
    let inner = Frame::new(MAC_OVERLAY, MAC_BRIDGE);
    let to = |to| inner.tcp(at(POD_FAR, 33_000), to, TcpFlags::ACK, &[7; 3000]);
    let delivered = Frame::new(MAC_BRIDGE, MAC_A).tcp(at(POD_FAR, 33_000), at(POD_A, 80), TcpFlags::ACK, &[7; 3000])?;
    let node_port = in_tunnel(&to(at(NODE, 30_080))?)?;
    for (sent, gso_size, verdict, expected) in [
        (
            in_tunnel(&to(at(POD_A, 80))?)?,
            1358,
            Verdict::Endpoint { ifindex: PORT_A },
            delivered,
        ),
        (node_port.clone(), 1358, Verdict::Pass(Reason::ToOverlay), node_port),
    ] {
        let mut packet = HostPacket {
            gso_size,
            ..HostPacket::new(sent, UPLINK)
        };
        let mut scratch = Scratch::default();
        let found = path::from_wire::run(&mut packet, &mut tables(), &config(), &mut scratch);
        assert_eq!((Verdict::new(found, &scratch), packet.bytes), (verdict, expected));
    }
    Ok(())
}

#[test]
fn a_service_is_translated_there_and_back() -> Result<()> {
    let mut tables = tables();
    let sent = from_a().tcp(at(POD_A, PORT), at(WEB, 80), TcpFlags::SYN, b"")?;
    let translated = Frame::new(MAC_BRIDGE, MAC_B).tcp(at(POD_A, SEEN), at(POD_B, 8080), TcpFlags::SYN, b"")?;
    let outcome = pod_a_sends(&mut tables, sent);
    assert_eq!(outcome, (Verdict::Endpoint { ifindex: PORT_B }, translated));
    let answer = Frame::new(MAC_B, MAC_BRIDGE).tcp(at(POD_B, 8080), at(POD_A, SEEN), TcpFlags::SYN_ACK, b"hi")?;
    let shown = Frame::new(MAC_BRIDGE, MAC_A).tcp(at(WEB, 80), at(POD_A, PORT), TcpFlags::SYN_ACK, b"hi")?;
    let outcome = pod_b_sends(&mut tables, answer);
    assert_eq!(outcome, (Verdict::Endpoint { ifindex: PORT_A }, shown));
    assert!(tables.v4.connections.is_empty(), "the other family knows nothing of it");
    Ok(())
}

#[test]
fn a_pod_reaches_itself_by_its_service() -> Result<()> {
    let mut tables = tables();
    let sent = from_a().tcp(at(POD_A, PORT), at(SELF, 80), TcpFlags::SYN, b"")?;
    let (verdict, frame) = pod_a_sends(&mut tables, sent);
    assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_A });
    let port = u16::from_be_bytes([frame[54], frame[55]]);
    let expected = Frame::new(MAC_BRIDGE, MAC_A).tcp(at(GATEWAY, port), at(POD_A, 8080), TcpFlags::SYN, b"")?;
    assert_eq!(frame, expected);
    Ok(())
}

#[test]
fn a_node_port_is_served_from_the_wire() -> Result<()> {
    let mut tables = tables();
    let sent = from_wire().tcp(at(CLIENT, 33_000), at(NODE, 30_080), TcpFlags::SYN, b"")?;
    let translated = Frame::new(MAC_BRIDGE, MAC_B).tcp(at(CLIENT, 33_000), at(POD_B, 8080), TcpFlags::SYN, b"")?;
    let outcome = wire_brings(&mut tables, sent);
    assert_eq!(outcome, (Verdict::Endpoint { ifindex: PORT_B }, translated));
    let answer = Frame::new(MAC_B, MAC_BRIDGE).tcp(at(POD_B, 8080), at(CLIENT, 33_000), TcpFlags::SYN_ACK, b"")?;
    let (verdict, frame) = pod_b_sends(&mut tables, answer);
    let out = Verdict::Wire {
        reason: Reason::ToOutside,
        next_hop: NextHop::ROUTED,
    };
    let shown =
        Frame::new(MAC_B, MAC_BRIDGE)
            .ttl(63)
            .tcp(at(NODE, 30_080), at(CLIENT, 33_000), TcpFlags::SYN_ACK, b"")?;
    assert_eq!((verdict, frame), (out, shown));
    Ok(())
}

#[test]
fn who_may_not_connect_is_told_by_its_address() -> Result<()> {
    let asks = |client| -> Result<Verdict> {
        let sent = from_wire().tcp(at(client, 33_000), at(BALANCED, 80), TcpFlags::SYN, b"")?;
        Ok(wire_brings(&mut tables(), sent).0)
    };
    assert_eq!(asks(CLIENT)?, Verdict::Endpoint { ifindex: PORT_B });
    assert_eq!(asks(PEER)?, Verdict::Drop(Reason::SourceDenied));
    Ok(())
}

#[test]
fn a_client_keeps_its_backend() -> Result<()> {
    let mut tables = tables();
    let mut chosen = |port| -> Result<Vec<u8>> {
        let sent = from_wire().tcp(at(CLIENT, port), at(NODE, 30_081), TcpFlags::SYN, b"")?;
        wire_brings(&mut tables, sent);
        let of_port = |tuple: &netpath_common::abi::conntrack::v6::Tuple| tuple.source_port == port;
        let known = tables.v6.connections.iter().find(|(tuple, _)| of_port(tuple));
        Ok(known
            .map(|(_, becomes)| becomes.destination.to_vec())
            .unwrap_or_default())
    };
    let first = chosen(33_000)?;
    for port in 33_001..33_020 {
        assert_eq!(chosen(port)?, first, "port {port}");
    }
    Ok(())
}

#[test]
fn what_leaves_the_cluster_is_masqueraded() -> Result<()> {
    let mut tables = tables();
    let sent = from_a().udp(at(POD_A, PORT), at(SERVER, 53), b"who")?;
    let (frame, port) = masqueraded(&mut tables, sent, 54);
    assert_eq!(frame, from_a().ttl(63).udp(at(NODE, port), at(SERVER, 53), b"who")?);
    let answer = from_wire().udp(at(SERVER, 53), at(NODE, port), b"me")?;
    let shown = Frame::new(MAC_BRIDGE, MAC_A).udp(at(SERVER, 53), at(POD_A, PORT), b"me")?;
    let outcome = wire_brings(&mut tables, answer);
    assert_eq!(outcome, (Verdict::Endpoint { ifindex: PORT_A }, shown));
    Ok(())
}

/// The checksum of ICMPv6 covers the addresses, which change.
#[test]
fn an_echo_is_masqueraded_with_its_checksum() {
    let mut tables = tables();
    let sent = from_a().echo(six(POD_A), six(SERVER), 77, b"abcdefghi");
    let (frame, id) = masqueraded(&mut tables, sent, 58);
    assert_eq!(frame, from_a().ttl(63).echo(six(NODE), six(SERVER), id, b"abcdefghi"));
    let answer = from_wire().echo_reply(six(SERVER), six(NODE), id, b"abcdefghi");
    let shown = Frame::new(MAC_BRIDGE, MAC_A).echo_reply(six(SERVER), six(POD_A), 77, b"abcdefghi");
    let outcome = wire_brings(&mut tables, answer);
    assert_eq!(outcome, (Verdict::Endpoint { ifindex: PORT_A }, shown));
}

#[test]
fn a_node_without_an_address_leads_nowhere() -> Result<()> {
    let config = Config {
        node6: [0; 16],
        ..config()
    };
    let frame = from_a().udp(at(POD_A, PORT), at(SERVER, 53), b"who")?;
    let (mut packet, mut scratch) = (HostPacket::new(frame, PORT_A), Scratch::default());
    let verdict = path::from_pod::run(&mut packet, &mut tables(), &config, &mut scratch);
    assert_eq!(Verdict::new(verdict, &scratch), Verdict::Drop(Reason::NoRoute));
    Ok(())
}

#[test]
fn a_checksum_of_zero_stays_and_none_becomes_zero() -> Result<()> {
    let mut tables = tables();
    let sent = from_a().udp_without_checksum(at(POD_A, PORT), at(SERVER, 53), b"who")?;
    let (frame, port) = masqueraded(&mut tables, sent, 54);
    let expected = from_a()
        .ttl(63)
        .udp_without_checksum(at(NODE, port), at(SERVER, 53), b"who")?;
    assert_eq!(frame, expected);
    // A payload that makes the new sum zero, which is then written as 0xffff (RFC 8200, section 8.1).
    let found = (0..=u16::MAX).find_map(|word| {
        let payload = word.to_be_bytes();
        let out = from_a().ttl(63).udp(at(NODE, port), at(SERVER, 53), &payload).ok()?;
        (out[60..62] == [0xff, 0xff]).then_some((payload, out))
    });
    let (payload, out) = found.expect("one of all words");
    let sent = from_a().udp(at(POD_A, PORT), at(SERVER, 53), &payload)?;
    assert_eq!(pod_a_sends(&mut tables, sent).1, out);
    Ok(())
}

#[test]
fn where_pods_have_no_ipv6_none_passes() -> Result<()> {
    let mut tables = tables();
    for port in tables.bridge.values_mut() {
        port.address6 = [0; 16];
    }
    let sent = from_a().udp(at(POD_A, PORT), at(POD_B, 53), b"who")?;
    assert_eq!(pod_a_sends(&mut tables, sent).0, Verdict::Drop(Reason::FamilyNotServed));
    let config = Config {
        gateway6: [0; 16],
        ..config()
    };
    let run = |frame: Vec<u8>| {
        let (mut packet, mut scratch) = (HostPacket::new(frame, UPLINK), Scratch::default());
        let verdict = path::from_wire::run(&mut packet, &mut self::tables(), &config, &mut scratch);
        Verdict::new(verdict, &scratch)
    };
    let inner = Frame::new(MAC_OVERLAY, MAC_BRIDGE).udp(at(POD_FAR, 80), at(POD_A, PORT), b"there")?;
    assert_eq!(run(in_tunnel(&inner)?), Verdict::Drop(Reason::FamilyNotServed));
    let plain = from_wire().udp(at(CLIENT, 80), at(NODE, PORT), b"there")?;
    assert_eq!(run(plain), Verdict::Pass(Reason::ToStack));
    Ok(())
}

/// The node's own answers, on their way to a pod and out of the node.
#[test]
fn answers_of_the_stack_come_from_the_service() -> Result<()> {
    let mut tables = tables();
    pod_a_sends(
        &mut tables,
        from_a().tcp(at(POD_A, PORT), at(WEB, 80), TcpFlags::SYN, b"")?,
    );
    let answer = Frame::new(MAC_BRIDGE, MAC_A).tcp(at(POD_B, 8080), at(POD_A, SEEN), TcpFlags::SYN_ACK, b"")?;
    let shown = Frame::new(MAC_BRIDGE, MAC_A).tcp(at(WEB, 80), at(POD_A, PORT), TcpFlags::SYN_ACK, b"")?;
    let outcome = host_sends(&mut tables, answer);
    assert_eq!(outcome, (Verdict::Endpoint { ifindex: PORT_A }, shown));
    let sent = from_wire().tcp(at(CLIENT, 33_000), at(NODE, 30_080), TcpFlags::SYN, b"")?;
    wire_brings(&mut tables, sent);
    let answer = Frame::new(MAC_UPLINK, MAC_ROUTER).tcp(at(POD_B, 8080), at(CLIENT, 33_000), TcpFlags::SYN_ACK, b"")?;
    let shown = Frame::new(MAC_UPLINK, MAC_ROUTER).tcp(at(NODE, 30_080), at(CLIENT, 33_000), TcpFlags::SYN_ACK, b"")?;
    let outcome = stack_sends_out(&mut tables, answer);
    assert_eq!(outcome, (Verdict::Pass(Reason::ToStack), shown));
    Ok(())
}
