//! ClusterIP and NodePort: there, and back under the address that was asked.

mod connections;

use anyhow::Result;
use netpath_common::{
    abi::{
        conntrack::{
            DIRECTION_ORIGINAL, DIRECTION_REPLY, STATE_CLIENT_CLOSED, STATE_CLOSING, STATE_ESTABLISHED, STATE_NEW,
            STATE_SERVER_CLOSED, v4,
        },
        service::{BackendKey, FLAG_LOAD_BALANCER, Service, v4 as service},
    },
    reason::Reason,
};
use netpath_ebpf::verdict::NextHop;
use netpath_tests::{
    entries,
    frame::{Frame, Socket, TcpFlags},
    verdict::Verdict,
};

use super::node::*;

fn tuple(protocol: u8, source: Socket, destination: Socket) -> v4::Tuple {
    v4::Tuple {
        source: source.0,
        destination: destination.0,
        source_port: source.1,
        destination_port: destination.1,
        protocol,
        reserved: [0; 3],
    }
}

const FROM: Socket = (POD_A, 40_000);
/// The port under which a backend sees it: ephemeral ports begin at 32768 and are moved to begin at 1024.
const SEEN: Socket = (POD_A, 40_000 - 32_768 + 1_024);
const FRONTEND: Socket = (WEB, 80);
const BACKEND: Socket = (POD_B, 8080);

#[test]
fn cluster_ip_on_the_node_there_and_back() -> Result<()> {
    let mut tables = tables();
    let (verdict, frame) = pod_a_sends(&mut tables, from_a().tcp(FROM, FRONTEND, TcpFlags::SYN, b"")?);
    assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_B });
    assert_eq!(
        frame,
        Frame::new(MAC_BRIDGE, MAC_B).tcp(SEEN, BACKEND, TcpFlags::SYN, b"")?
    );

    let entry = |to: (Socket, Socket), state, direction| v4::Connection {
        source: to.0.0,
        destination: to.1.0,
        source_port: to.0.1,
        destination_port: to.1.1,
        state,
        direction,
        ttl: 0,
        reserved: 0,
        last_seen: 1_000,
        set: 1,
    };
    let expected = |state| {
        [
            (
                tuple(6, FROM, FRONTEND),
                entry((SEEN, BACKEND), state, DIRECTION_ORIGINAL),
            ),
            (tuple(6, BACKEND, SEEN), entry((FRONTEND, FROM), state, DIRECTION_REPLY)),
        ]
        .into()
    };
    assert_eq!(tables.v4.connections, expected(STATE_NEW));

    let answer = Frame::new(MAC_B, MAC_A).tcp(BACKEND, SEEN, TcpFlags::SYN_ACK, b"")?;
    let (verdict, frame) = pod_b_sends(&mut tables, answer);
    assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_A });
    assert_eq!(
        frame,
        Frame::new(MAC_BRIDGE, MAC_A).tcp(FRONTEND, FROM, TcpFlags::SYN_ACK, b"")?
    );
    assert_eq!(tables.v4.connections, expected(STATE_ESTABLISHED));

    pod_a_sends(&mut tables, from_a().tcp(FROM, FRONTEND, TcpFlags::FIN_ACK, b"")?);
    assert_eq!(tables.v4.connections, expected(STATE_CLIENT_CLOSED));
    pod_b_sends(
        &mut tables,
        Frame::new(MAC_B, MAC_A).tcp(BACKEND, SEEN, TcpFlags::FIN_ACK, b"")?,
    );
    assert_eq!(tables.v4.connections, expected(STATE_CLOSING));
    Ok(())
}

#[test]
fn cluster_ip_through_the_tunnel_over_udp() -> Result<()> {
    let mut tables = tables();
    let (verdict, frame) = pod_a_sends(&mut tables, from_a().udp(FROM, (DATABASE, 53), b"who")?);
    assert_eq!(
        verdict,
        Verdict::Wire {
            next_hop: NextHop::v4(ROUTER),
            reason: Reason::ToTunnel
        }
    );
    let inner = Frame::new(MAC_OVERLAY, netpath_ebpf::encap::PEER_MAC).ttl(63);
    assert_eq!(frame[64 - 14..], inner.udp(SEEN, (POD_FAR, 5353), b"who")?);

    let answer = Frame::new([9; 6], [8; 6]).ttl(63).udp((POD_FAR, 5353), SEEN, b"me")?;
    let (verdict, frame) = wire_brings(
        &mut tables,
        from_wire().vxlan((FAR, 50_123), (NODE, 4789), VNI, &answer)?,
    );
    assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_A });
    assert_eq!(
        frame,
        Frame::new(MAC_BRIDGE, MAC_A).ttl(63).udp((DATABASE, 53), FROM, b"me")?
    );
    Ok(())
}

#[test]
fn a_udp_datagram_without_checksum_stays_without() -> Result<()> {
    let (_, frame) = pod_a_sends(
        &mut tables(),
        from_a().udp_without_checksum(FROM, (DATABASE, 53), b"who")?,
    );
    let inner = Frame::new(MAC_OVERLAY, netpath_ebpf::encap::PEER_MAC).ttl(63);
    assert_eq!(frame[50..], inner.udp_without_checksum(SEEN, (POD_FAR, 5353), b"who")?);
    Ok(())
}

#[test]
fn node_port_with_a_backend_here_keeps_the_client() -> Result<()> {
    let mut tables = tables();
    let client = (CLIENT, 50_000);
    let (verdict, frame) = wire_brings(
        &mut tables,
        from_wire().tcp(client, (NODE, 30_080), TcpFlags::SYN, b"")?,
    );
    assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_B });
    assert_eq!(
        frame,
        Frame::new(MAC_BRIDGE, MAC_B).tcp(client, BACKEND, TcpFlags::SYN, b"")?
    );

    let answer = Frame::new(MAC_B, MAC_BRIDGE).tcp(BACKEND, client, TcpFlags::SYN_ACK, b"")?;
    let (verdict, frame) = pod_b_sends(&mut tables, answer);
    assert_eq!(
        verdict,
        Verdict::Wire {
            next_hop: NextHop::v4([0; 4]),
            reason: Reason::ToOutside
        }
    );
    let expected = Frame::new(MAC_B, MAC_BRIDGE).ttl(63);
    assert_eq!(frame, expected.tcp((NODE, 30_080), client, TcpFlags::SYN_ACK, b"")?);
    Ok(())
}

#[test]
fn node_port_with_a_backend_elsewhere_comes_back_through_this_node() -> Result<()> {
    let mut tables = tables();
    let client = (CLIENT, 50_000);
    let (verdict, frame) = wire_brings(
        &mut tables,
        from_wire().tcp(client, (NODE, 30_054), TcpFlags::SYN, b"")?,
    );
    assert_eq!(
        verdict,
        Verdict::Wire {
            next_hop: NextHop::v4(ROUTER),
            reason: Reason::ToTunnel
        }
    );
    let port = u16::from_be_bytes([frame[84], frame[85]]);
    assert!(NAT.contains(&port), "{port}");
    let inner = Frame::new(MAC_OVERLAY, netpath_ebpf::encap::PEER_MAC).ttl(63);
    assert_eq!(
        frame[50..],
        inner.tcp((NODE, port), (POD_FAR, 5432), TcpFlags::SYN, b"")?
    );

    let answer = Frame::new([9; 6], [8; 6])
        .ttl(63)
        .tcp((POD_FAR, 5432), (NODE, port), TcpFlags::SYN_ACK, b"")?;
    let (verdict, frame) = wire_brings(
        &mut tables,
        from_wire().vxlan((FAR, 50_123), (NODE, 4789), VNI, &answer)?,
    );
    assert_eq!(
        verdict,
        Verdict::Wire {
            next_hop: NextHop::v4([0; 4]),
            reason: Reason::ToOutside
        }
    );
    assert_eq!(
        frame,
        from_wire()
            .ttl(62)
            .tcp((NODE, 30_054), client, TcpFlags::SYN_ACK, b"")?
    );
    Ok(())
}

#[test]
fn hairpin_seems_to_come_from_the_gateway() -> Result<()> {
    let mut tables = tables();
    let (verdict, frame) = pod_a_sends(&mut tables, from_a().tcp(FROM, (SELF, 80), TcpFlags::SYN, b"")?);
    assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_A });
    let port = u16::from_be_bytes([frame[34], frame[35]]);
    assert!(NAT.contains(&port), "{port}");
    let seen = (GATEWAY, port);
    assert_eq!(
        frame,
        Frame::new(MAC_BRIDGE, MAC_A).tcp(seen, (POD_A, 8080), TcpFlags::SYN, b"")?
    );

    let (verdict, frame) = pod_a_sends(&mut tables, from_a().tcp((POD_A, 8080), seen, TcpFlags::SYN_ACK, b"")?);
    assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_A });
    assert_eq!(
        frame,
        Frame::new(MAC_BRIDGE, MAC_A).tcp((SELF, 80), FROM, TcpFlags::SYN_ACK, b"")?
    );
    Ok(())
}

/// From a port that no socket of the node has: one may speak to the same pod by the pod's own address.
#[test]
fn the_host_reaches_a_service_too() -> Result<()> {
    let mut tables = tables();
    let host = (GATEWAY, 40_000);
    let sent = Frame::new(MAC_BRIDGE, MAC_OVERLAY);
    let (verdict, frame) = host_sends(&mut tables, sent.tcp(host, FRONTEND, TcpFlags::SYN, b"")?);
    assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_B });
    let seen = (GATEWAY, SEEN.1);
    assert_eq!(
        frame,
        Frame::new(MAC_BRIDGE, MAC_B).tcp(seen, BACKEND, TcpFlags::SYN, b"")?
    );
    let answer = Frame::new(MAC_B, MAC_BRIDGE);
    let (verdict, frame) = pod_b_sends(&mut tables, answer.tcp(BACKEND, seen, TcpFlags::SYN_ACK, b"")?);
    assert_eq!(verdict, Verdict::Pass(Reason::ToHost));
    assert_eq!(frame, answer.tcp(FRONTEND, host, TcpFlags::SYN_ACK, b"")?);

    let (verdict, frame) = pod_b_sends(&mut tables, answer.tcp(BACKEND, host, TcpFlags::SYN_ACK, b"")?);
    assert_eq!(verdict, Verdict::Pass(Reason::ToHost));
    assert_eq!(
        frame,
        answer.tcp(BACKEND, host, TcpFlags::SYN_ACK, b"")?,
        "an answer to the pod's own address stays"
    );
    Ok(())
}

/// A backend on the node's own network answers through the stack; its pod client must not notice.
#[test]
fn a_backend_on_the_nodes_network() -> Result<()> {
    let mut tables = tables();
    let key = BackendKey { set: 1, slot: 0 };
    tables.v4.backends.insert(key, entries::backend(NODE, 6443));
    let (verdict, frame) = pod_a_sends(&mut tables, from_a().tcp(FROM, FRONTEND, TcpFlags::SYN, b"")?);
    assert_eq!(verdict, Verdict::Pass(Reason::ToHost));
    assert_eq!(frame, from_a().tcp(SEEN, (NODE, 6443), TcpFlags::SYN, b"")?);
    let answer = Frame::new(MAC_BRIDGE, MAC_A);
    let (verdict, frame) = host_sends(&mut tables, answer.tcp((NODE, 6443), SEEN, TcpFlags::SYN_ACK, b"")?);
    assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_A });
    assert_eq!(frame, answer.tcp(FRONTEND, FROM, TcpFlags::SYN_ACK, b"")?);

    let client = (CLIENT, 50_000);
    let (verdict, _) = wire_brings(
        &mut tables,
        from_wire().tcp(client, (NODE, 30_080), TcpFlags::SYN, b"")?,
    );
    assert_eq!(verdict, Verdict::Pass(Reason::ToHost));
    let answer = Frame::new(MAC_UPLINK, MAC_ROUTER);
    let (verdict, frame) = stack_sends_out(&mut tables, answer.tcp((NODE, 6443), client, TcpFlags::SYN_ACK, b"")?);
    assert_eq!(verdict, Verdict::Pass(Reason::ToStack));
    assert_eq!(frame, answer.tcp((NODE, 30_080), client, TcpFlags::SYN_ACK, b"")?);
    Ok(())
}

#[test]
fn a_set_without_its_backend_is_named() -> Result<()> {
    let mut tables = tables();
    tables.v4.backends.remove(&BackendKey { set: 1, slot: 0 });
    let frame = from_a().tcp(FROM, FRONTEND, TcpFlags::SYN, b"")?;
    assert_eq!(
        pod_a_sends(&mut tables, frame.clone()),
        (Verdict::Drop(Reason::NoBackend), frame)
    );
    Ok(())
}

#[test]
fn fragments_follow_their_first() -> Result<()> {
    let mut tables = tables();
    let datagram = from_a().udp(FROM, (DATABASE, 53), &[7; 64])?;
    let payload = &datagram[34..];
    let first = from_a().fragment(99, 0, true).ipv4(POD_A, DATABASE, 17, &payload[..40]);
    let last = from_a()
        .fragment(99, 5, false)
        .ipv4(POD_A, DATABASE, 17, &payload[40..]);
    let translated = from_a().udp(SEEN, (POD_FAR, 5353), &[7; 64])?;
    let inner = Frame::new(MAC_OVERLAY, netpath_ebpf::encap::PEER_MAC).ttl(63);

    let (_, frame) = pod_a_sends(&mut tables, first);
    assert_eq!(
        frame[50..],
        inner
            .fragment(99, 0, true)
            .ipv4(POD_A, POD_FAR, 17, &translated[34..74])
    );
    let (_, frame) = pod_a_sends(&mut tables, last);
    assert_eq!(
        frame[50..],
        inner.fragment(99, 5, false).ipv4(POD_A, POD_FAR, 17, &translated[74..])
    );
    Ok(())
}

/// Some balancers assign addresses of nodes. From inside such a service is reached without the node that has the address, which
/// may have no endpoint, or be away; what else is asked of that node goes there.
#[test]
fn a_balancer_s_address_that_is_another_node_s_is_served_at_the_client_s() -> Result<()> {
    for (node, reason) in [(PEER, Reason::ToPeer), (FAR, Reason::ToTunnel)] {
        let mut tables = tables();
        let at = |address| entries::frontend(address, 80, 6);
        let balanced = Service {
            flags: FLAG_LOAD_BALANCER,
            ..tables.v4.services[&at(WEB)]
        };
        tables.v4.services.insert(at(node), balanced);
        let asked = from_a().tcp(FROM, (node, 80), TcpFlags::SYN, b"")?;
        let (verdict, frame) = pod_a_sends(&mut tables, asked);
        assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_B });
        assert_eq!(
            frame,
            Frame::new(MAC_BRIDGE, MAC_B).tcp(SEEN, BACKEND, TcpFlags::SYN, b"")?
        );
        let answer = Frame::new(MAC_B, MAC_A).tcp(BACKEND, SEEN, TcpFlags::SYN_ACK, b"")?;
        let (verdict, frame) = pod_b_sends(&mut tables, answer);
        assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_A });
        assert_eq!(
            frame,
            Frame::new(MAC_BRIDGE, MAC_A).tcp((node, 80), FROM, TcpFlags::SYN_ACK, b"")?
        );

        let other = from_a().tcp(FROM, (node, 22), TcpFlags::SYN, b"")?;
        let (verdict, _) = pod_a_sends(&mut tables, other);
        assert_eq!(verdict.reason(), reason);
    }
    Ok(())
}
