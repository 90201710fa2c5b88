//! Frontends that only some clients may connect to.

use anyhow::Result;
use netpath_common::reason::Reason;
use netpath_ebpf::{path::from_socket, socket::Keeps, v4::V4};
use netpath_tests::verdict::Verdict;
use netpath_tests::{
    entries,
    frame::{Frame, Socket, TcpFlags},
    socket::HostSocket,
};

use super::node::*;

const BALANCER: Socket = (BALANCED, 80);

#[test]
fn a_client_in_the_ranges_connects() -> Result<()> {
    for last in [0, 9, 255] {
        let client = ([203, 0, 113, last], 50_000);
        let mut tables = tables();
        let (verdict, frame) = wire_brings(&mut tables, from_wire().tcp(client, BALANCER, TcpFlags::SYN, b"")?);
        assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_B });
        let seen = Frame::new(MAC_BRIDGE, MAC_B);
        assert_eq!(frame, seen.tcp(client, (POD_B, 8080), TcpFlags::SYN, b"")?);
    }
    let (verdict, _) = pod_a_sends(
        &mut tables(),
        from_a().tcp((POD_A, 40_000), BALANCER, TcpFlags::SYN, b"")?,
    );
    assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_B });
    Ok(())
}

/// Pods and the node itself are asked like everyone; nothing is remembered of who may not.
#[test]
fn no_other_client_does() -> Result<()> {
    for client in [[203, 0, 112, 255], [203, 0, 114, 0], PEER, POD_PEER] {
        let mut tables = tables();
        let sent = from_wire().tcp((client, 50_000), BALANCER, TcpFlags::SYN, b"")?;
        assert_eq!(
            wire_brings(&mut tables, sent.clone()),
            (Verdict::Drop(Reason::SourceDenied), sent)
        );
        assert!(tables.v4.connections.is_empty());
    }
    let sent = Frame::new(MAC_B, MAC_BRIDGE).tcp((POD_B, 40_000), BALANCER, TcpFlags::SYN, b"")?;
    let (verdict, _) = pod_b_sends(&mut tables(), sent);
    assert_eq!(verdict, Verdict::Drop(Reason::SourceDenied));
    let mut socket = HostSocket {
        netns: NETNS,
        cookie: 1,
        protocol: 6,
        peer: BALANCER,
    };
    let call = from_socket::run::<V4, _, _>(&mut socket, &mut tables(), &config(), Keeps::Connection);
    assert_eq!((call, socket.peer), (Err(Reason::SourceDenied), BALANCER));
    Ok(())
}

/// Who may not connect is not told whether there is anybody to connect to.
#[test]
fn the_ranges_are_asked_before_all_else() -> Result<()> {
    for (flags, admitted) in [
        (0, Verdict::Bounce(Reason::Refused)),
        (
            netpath_common::abi::service::FLAG_NONE_HERE,
            Verdict::Drop(Reason::NoLocalEndpoint),
        ),
    ] {
        let mut tables = tables();
        let at = entries::frontend(BALANCED, 80, 6);
        let service = tables.v4.services.get_mut(&at).expect("there");
        (service.outside_count, service.flags) = (0, flags);
        let from = |client| from_wire().tcp((client, 50_000), BALANCER, TcpFlags::SYN, b"");
        assert_eq!(wire_brings(&mut tables, from(CLIENT)?).0, admitted);
        assert_eq!(
            wire_brings(&mut tables, from(PEER)?).0,
            Verdict::Drop(Reason::SourceDenied)
        );
    }
    Ok(())
}

/// As everywhere, a connection that is known is not asked about again.
#[test]
fn a_connection_that_was_let_in_stays() -> Result<()> {
    let mut tables = tables();
    let client = (CLIENT, 50_000);
    wire_brings(&mut tables, from_wire().tcp(client, BALANCER, TcpFlags::SYN, b"")?);
    tables.v4.sources.clear();
    let (verdict, _) = wire_brings(&mut tables, from_wire().tcp(client, BALANCER, TcpFlags::ACK, b"more")?);
    assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_B });
    let (verdict, _) = wire_brings(
        &mut tables,
        from_wire().tcp((CLIENT, 50_001), BALANCER, TcpFlags::SYN, b"")?,
    );
    assert_eq!(verdict, Verdict::Drop(Reason::SourceDenied));
    Ok(())
}
