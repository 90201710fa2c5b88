//! Connections to services: how long they are known, which backend they keep, and what one alone has.

use super::*;

/// Who has sent all may wait for the answer (RFC 9293, section 3.6), an hour as with kube-proxy's `tcpCloseWaitTimeout`; one
/// that both have closed is over after two minutes.
#[test]
fn an_end_that_has_closed_is_still_answered() -> Result<()> {
    let to_client = |frame: &[u8]| {
        frame
            == Frame::new(MAC_BRIDGE, MAC_A)
                .tcp(FRONTEND, FROM, TcpFlags::ACK, b"late")
                .unwrap()
    };
    let ask = |flags| from_a().tcp(FROM, FRONTEND, flags, b"");
    const RST: TcpFlags = TcpFlags {
        rst: true,
        ..TcpFlags::ACK
    };
    let answer = |flags, data| Frame::new(MAC_B, MAC_A).tcp(BACKEND, SEEN, flags, data);
    for (closes, waits, known) in [
        (&[TcpFlags::FIN_ACK][..], 3_600, true),
        (&[TcpFlags::FIN_ACK], 3_601, false),
        (&[TcpFlags::FIN_ACK, TcpFlags::FIN_ACK, TcpFlags::ACK], 3_600, true),
        (&[RST], 120, true),
        (&[RST], 121, false),
    ] {
        let mut tables = tables();
        pod_a_sends(&mut tables, ask(TcpFlags::SYN)?);
        pod_b_sends(&mut tables, answer(TcpFlags::SYN_ACK, b"")?);
        for flags in closes {
            pod_a_sends(&mut tables, ask(*flags)?);
        }
        tables.clock += waits;
        let (_, frame) = pod_b_sends(&mut tables, answer(TcpFlags::ACK, b"late")?);
        assert_eq!(to_client(&frame), known, "{closes:?}, {waits} s later");
    }
    // Closed by the server alone, and by both.
    for (client_closes, state, waits) in [(false, STATE_SERVER_CLOSED, 3_600), (true, STATE_CLOSING, 120)] {
        let mut tables = tables();
        pod_a_sends(&mut tables, ask(TcpFlags::SYN)?);
        pod_b_sends(&mut tables, answer(TcpFlags::FIN_ACK, b"")?);
        if client_closes {
            pod_a_sends(&mut tables, ask(TcpFlags::FIN_ACK)?);
        }
        assert!(
            tables
                .v4
                .connections
                .values()
                .all(|connection| connection.state == state)
        );
        tables.clock += waits;
        let (verdict, _) = pod_a_sends(&mut tables, ask(TcpFlags::ACK)?);
        assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_B });
        assert!(
            tables
                .v4
                .connections
                .values()
                .all(|connection| connection.last_seen == 1_000 + waits)
        );
        // Under the same port a new connection begins.
        pod_a_sends(&mut tables, ask(TcpFlags::SYN)?);
        assert!(
            tables
                .v4
                .connections
                .values()
                .all(|connection| connection.state == STATE_NEW)
        );
    }
    Ok(())
}

/// A pod that speaks to a service and, from the same port, to the backend by its own address: to the backend, and on the way
/// back, the two must stay apart.
#[test]
fn the_same_port_to_a_service_and_to_its_backend() -> Result<()> {
    let mut tables = tables();
    let (_, frame) = pod_a_sends(&mut tables, from_a().tcp(FROM, FRONTEND, TcpFlags::SYN, b"")?);
    assert_eq!(
        frame,
        Frame::new(MAC_BRIDGE, MAC_B).tcp(SEEN, BACKEND, TcpFlags::SYN, b"")?
    );

    let straight = Frame::new(MAC_A, MAC_B);
    let (verdict, frame) = pod_a_sends(&mut tables, straight.tcp(SEEN, BACKEND, TcpFlags::SYN, b"")?);
    assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_B });
    let port = u16::from_be_bytes([frame[34], frame[35]]);
    assert!(NAT.contains(&port), "{port}");
    let seen = (FROM.0, port);
    assert_eq!(
        frame,
        Frame::new(MAC_BRIDGE, MAC_B).tcp(seen, BACKEND, TcpFlags::SYN, b"")?
    );

    let answer = Frame::new(MAC_B, MAC_BRIDGE);
    let back = Frame::new(MAC_BRIDGE, MAC_A);
    let (_, frame) = pod_b_sends(&mut tables, answer.tcp(BACKEND, seen, TcpFlags::SYN_ACK, b"")?);
    assert_eq!(frame, back.tcp(BACKEND, SEEN, TcpFlags::SYN_ACK, b"")?);
    let (_, frame) = pod_b_sends(&mut tables, answer.tcp(BACKEND, SEEN, TcpFlags::SYN_ACK, b"")?);
    assert_eq!(frame, back.tcp(FRONTEND, FROM, TcpFlags::SYN_ACK, b"")?);
    Ok(())
}

#[test]
fn a_connection_keeps_its_backend_and_a_new_one_takes_the_new() -> Result<()> {
    let mut tables = tables();
    pod_a_sends(&mut tables, from_a().tcp(FROM, FRONTEND, TcpFlags::SYN, b"")?);
    // The service moves to the far pod.
    let frontend = entries::frontend(WEB, 80, 6);
    let moved = *tables
        .v4
        .services
        .get(&service::Frontend {
            address: DATABASE,
            port: 5432,
            ..frontend
        })
        .unwrap();
    tables.v4.services.insert(frontend, moved);
    let (verdict, _) = pod_a_sends(&mut tables, from_a().tcp(FROM, FRONTEND, TcpFlags::ACK, b"more")?);
    assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_B });
    let (verdict, _) = pod_a_sends(&mut tables, from_a().tcp(FROM, FRONTEND, TcpFlags::SYN, b"")?);
    assert_eq!(
        verdict,
        Verdict::Wire {
            next_hop: NextHop::v4(ROUTER),
            reason: Reason::ToTunnel
        }
    );
    assert_eq!(
        tables.v4.connections.len(),
        2,
        "the old connection left an entry behind: {:?}",
        tables.v4.connections
    );
    Ok(())
}

#[test]
fn two_frontends_of_one_backend_from_one_port() -> Result<()> {
    let mut tables = tables();
    pod_a_sends(&mut tables, from_a().tcp(FROM, FRONTEND, TcpFlags::SYN, b"")?);
    let (verdict, frame) = pod_a_sends(&mut tables, from_a().tcp(FROM, (NODE, 30_080), TcpFlags::SYN, b"")?);
    assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_B });
    let port = u16::from_be_bytes([frame[34], frame[35]]);
    assert!(NAT.contains(&port), "{port}");
    let answer = Frame::new(MAC_B, MAC_A).tcp(BACKEND, (POD_A, port), TcpFlags::SYN_ACK, b"")?;
    let (_, frame) = pod_b_sends(&mut tables, answer);
    assert_eq!(
        frame,
        Frame::new(MAC_BRIDGE, MAC_A).tcp((NODE, 30_080), FROM, TcpFlags::SYN_ACK, b"")?
    );
    Ok(())
}

#[test]
fn a_full_table_refuses_and_leaves_nothing() -> Result<()> {
    let mut tables = tables();
    tables.v4.max_connections = 1;
    let frame = from_a().tcp(FROM, FRONTEND, TcpFlags::SYN, b"")?;
    assert_eq!(
        pod_a_sends(&mut tables, frame.clone()),
        (Verdict::Drop(Reason::ConntrackFull), frame)
    );
    assert!(tables.v4.connections.is_empty());
    Ok(())
}

/// Where the table is full, the entry that is used less goes: of datagrams that nobody answers that of the answers, of what has
/// long been silent either. What is left of a connection is made whole, and it keeps its port.
#[test]
fn half_of_a_connection_becomes_a_whole_one() -> Result<()> {
    // A client outside, whose port source NAT has moved.
    let asks = || from_wire().tcp((CLIENT, 40_000), (NODE, 30_054), TcpFlags::ACK, b"");
    for gone in [DIRECTION_ORIGINAL, DIRECTION_REPLY] {
        let mut tables = tables();
        let opens = from_wire().tcp((CLIENT, 40_000), (NODE, 30_054), TcpFlags::SYN, b"")?;
        wire_brings(&mut tables, opens);
        let whole = tables.v4.connections.clone();
        assert_eq!(whole.len(), 2);
        tables
            .v4
            .connections
            .retain(|_, connection| connection.direction != gone);
        tables.clock += 5;
        wire_brings(&mut tables, asks()?);
        let seen_now = whole.iter().map(|(tuple, connection)| {
            let last_seen = connection.last_seen + 5;
            (
                *tuple,
                v4::Connection {
                    last_seen,
                    ..*connection
                },
            )
        });
        assert_eq!(tables.v4.connections, seen_now.collect(), "without {gone}");
    }
    Ok(())
}
