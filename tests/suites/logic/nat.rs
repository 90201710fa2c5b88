//! Masquerade to the outside.

use anyhow::Result;
use netpath_common::{abi::conntrack::v4, reason::Reason};
use netpath_ebpf::verdict::NextHop;
use netpath_tests::{
    frame::{Frame, Socket, TcpFlags},
    tables::HostTables,
    verdict::Verdict,
};

use super::node::*;

const SERVER: Socket = ([198, 51, 100, 7], 443);

fn out(tables: &mut HostTables, port: u16) -> Result<(Verdict, Vec<u8>, u16)> {
    let (verdict, frame) = pod_a_sends(tables, from_a().tcp((POD_A, port), SERVER, TcpFlags::SYN, b"")?);
    let port = u16::from_be_bytes([frame[34], frame[35]]);
    Ok((verdict, frame, port))
}

#[test]
fn out_and_back() -> Result<()> {
    let mut tables = tables();
    let (verdict, frame, port) = out(&mut tables, 40_000)?;
    assert_eq!(
        verdict,
        Verdict::Wire {
            next_hop: NextHop::v4([0; 4]),
            reason: Reason::ToOutside
        }
    );
    assert!(NAT.contains(&port), "{port}");
    assert_eq!(frame, from_a().ttl(63).tcp((NODE, port), SERVER, TcpFlags::SYN, b"")?);

    let (verdict, frame) = wire_brings(
        &mut tables,
        from_wire().tcp(SERVER, (NODE, port), TcpFlags::SYN_ACK, b"")?,
    );
    assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_A });
    assert_eq!(
        frame,
        Frame::new(MAC_BRIDGE, MAC_A).tcp(SERVER, (POD_A, 40_000), TcpFlags::SYN_ACK, b"")?
    );
    assert_eq!(out(&mut tables, 40_000)?.2, port, "the same connection keeps its port");
    Ok(())
}

#[test]
fn an_echo_and_its_reply() {
    let mut tables = tables();
    let (verdict, frame) = pod_a_sends(&mut tables, from_a().echo(POD_A, SERVER.0, 7, b"ping"));
    assert_eq!(
        verdict,
        Verdict::Wire {
            next_hop: NextHop::v4([0; 4]),
            reason: Reason::ToOutside
        }
    );
    let id = u16::from_be_bytes([frame[38], frame[39]]);
    assert!(NAT.contains(&id), "{id}");
    assert_eq!(frame, from_a().ttl(63).echo(NODE, SERVER.0, id, b"ping"));
    let (verdict, frame) = wire_brings(&mut tables, from_wire().echo_reply(SERVER.0, NODE, id, b"ping"));
    assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_A });
    assert_eq!(
        frame,
        Frame::new(MAC_BRIDGE, MAC_A).echo_reply(SERVER.0, POD_A, 7, b"ping")
    );
}

#[test]
fn no_port_twice_and_none_of_the_nodes_own() -> Result<()> {
    let mut tables = tables();
    let (_, _, taken) = out(&mut tables.clone(), 40_000)?;
    // A socket of the node listens on the port that would be first.
    tables.v4.sockets.insert(v4::Tuple {
        source: SERVER.0,
        destination: NODE,
        source_port: SERVER.1,
        destination_port: taken,
        protocol: 6,
        reserved: [0; 3],
    });
    let mut ports = std::collections::BTreeSet::new();
    for source in 40_000..40_050 {
        let (verdict, _, port) = out(&mut tables, source)?;
        assert_eq!(
            verdict,
            Verdict::Wire {
                next_hop: NextHop::v4([0; 4]),
                reason: Reason::ToOutside
            }
        );
        assert!(NAT.contains(&port), "{port}");
        assert!(ports.insert(port), "port {port} was given twice");
    }
    assert!(!ports.contains(&taken));
    Ok(())
}

#[test]
fn exhaustion_is_named_and_ends_with_the_connections() -> Result<()> {
    let mut tables = tables();
    let mut last = 40_000;
    while out(&mut tables, last)?.0 != Verdict::Drop(Reason::NatExhausted) {
        last += 1;
        assert!(last < 40_200, "100 ports served 200 connections");
    }
    tables.clock += 61;
    assert_eq!(
        out(&mut tables, last)?.0,
        Verdict::Wire {
            next_hop: NextHop::v4([0; 4]),
            reason: Reason::ToOutside
        }
    );
    Ok(())
}

#[test]
fn a_protocol_without_ports_is_named() {
    let frame = from_a().ipv4(POD_A, SERVER.0, 47, &[0; 20]);
    assert_eq!(
        pod_a_sends(&mut tables(), frame.clone()),
        (Verdict::Drop(Reason::UnknownProtocol), frame)
    );
}

#[test]
fn a_later_fragment_of_a_protocol_without_ports_is_named() {
    let frame = from_a().fragment(5, 10, false).ipv4(POD_A, SERVER.0, 47, &[0; 20]);
    assert_eq!(
        pod_a_sends(&mut tables(), frame.clone()),
        (Verdict::Drop(Reason::FragmentWithoutHead), frame)
    );
}
