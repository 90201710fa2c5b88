//! Traffic policies: what comes from outside stays on the node, or goes nowhere; what comes from this node's pods and
//! from the node itself goes to every backend.

use anyhow::Result;
use netpath_common::{
    abi::service::{BackendKey, FLAG_LOAD_BALANCER, FLAG_NODE_PORT, FLAG_NONE_HERE, Service},
    reason::Reason,
};
use netpath_ebpf::verdict::NextHop;
use netpath_tests::{
    entries,
    frame::{Frame, Socket, TcpFlags},
    tables::HostTables,
    verdict::Verdict,
};

use super::node::*;

const NODE_PORT: Socket = (NODE, 30_090);
/// An address of a load balancer, which no device has.
const BALANCER: Socket = ([198, 51, 100, 8], 443);
const FRONTEND: Socket = ([10, 96, 0, 81], 80);
const HERE: Socket = (POD_B, 8080);
const THERE: Socket = (POD_FAR, 8080);

/// A frontend with a set for inside and one for outside.
fn serve(tables: &mut HostTables, at: Socket, flags: u16, inside: &[Socket], outside: &[Socket]) {
    let mut set = |number: u32, backends: &[Socket]| {
        for (slot, &(address, port)) in backends.iter().enumerate() {
            let key = BackendKey {
                set: number,
                slot: slot as u32,
            };
            let backend = entries::backend(address, port);
            tables.v4.backends.insert(key, backend);
        }
        (number, backends.len() as u32)
    };
    let ((set, count), (outside_set, outside_count)) = (set(20, inside), set(21, outside));
    let frontend = entries::frontend(at.0, at.1, 6);
    let service = Service {
        set,
        count,
        outside_set,
        outside_count,
        flags,
        ..Service::default()
    };
    tables.v4.services.insert(frontend, service);
}

const OUTSIDE: Socket = (CLIENT, 33_000);

#[test]
fn from_outside_only_backends_here_answer_and_see_the_client() -> Result<()> {
    for (at, flags) in [(NODE_PORT, FLAG_NODE_PORT), (BALANCER, FLAG_LOAD_BALANCER)] {
        let mut tables = tables();
        serve(&mut tables, at, flags, &[THERE], &[HERE]);
        let (verdict, frame) = wire_brings(&mut tables, from_wire().tcp(OUTSIDE, at, TcpFlags::SYN, b"")?);
        assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_B });
        let seen = Frame::new(MAC_BRIDGE, MAC_B);
        assert_eq!(frame, seen.tcp(OUTSIDE, HERE, TcpFlags::SYN, b"")?);
        let answer = Frame::new(MAC_B, MAC_BRIDGE).tcp(HERE, OUTSIDE, TcpFlags::SYN_ACK, b"")?;
        let (_, frame) = pod_b_sends(&mut tables, answer);
        let back = Frame::new(MAC_B, MAC_BRIDGE).ttl(63);
        assert_eq!(frame, back.tcp(at, OUTSIDE, TcpFlags::SYN_ACK, b"")?);
    }
    Ok(())
}

/// Also a pod of another node, which chose this node's NodePort itself, is outside.
#[test]
fn from_outside_without_a_backend_here_nothing_answers() -> Result<()> {
    for (at, flags) in [(NODE_PORT, FLAG_NODE_PORT), (BALANCER, FLAG_LOAD_BALANCER)] {
        for client in [OUTSIDE, (POD_PEER, 33_000)] {
            let mut tables = tables();
            serve(&mut tables, at, flags | FLAG_NONE_HERE, &[THERE], &[]);
            let sent = from_wire().tcp(client, at, TcpFlags::SYN, b"")?;
            assert_eq!(
                wire_brings(&mut tables, sent.clone()),
                (Verdict::Drop(Reason::NoLocalEndpoint), sent)
            );
            assert!(tables.v4.connections.is_empty());
        }
    }
    Ok(())
}

#[test]
fn pods_of_this_node_and_the_node_itself_reach_every_backend() -> Result<()> {
    for (at, flags) in [(NODE_PORT, FLAG_NODE_PORT), (BALANCER, FLAG_LOAD_BALANCER)] {
        let mut tables = tables();
        serve(&mut tables, at, flags | FLAG_NONE_HERE, &[THERE], &[]);
        let to_tunnel = Verdict::Wire {
            next_hop: NextHop::v4(ROUTER),
            reason: Reason::ToTunnel,
        };
        let (verdict, frame) = pod_a_sends(&mut tables, from_a().tcp((POD_A, 500), at, TcpFlags::SYN, b"")?);
        assert_eq!(verdict, to_tunnel);
        let inner = Frame::new(MAC_OVERLAY, netpath_ebpf::encap::PEER_MAC).ttl(63);
        assert_eq!(frame[50..], inner.tcp((POD_A, 500), THERE, TcpFlags::SYN, b"")?);
        let sent = Frame::new(MAC_BRIDGE, MAC_OVERLAY).tcp((NODE, 500), at, TcpFlags::SYN, b"")?;
        let (verdict, _) = host_sends(&mut tables, sent);
        assert_eq!(verdict, to_tunnel);
    }
    Ok(())
}

/// `internalTrafficPolicy: Local` holds for everyone, and a service without any endpoint refuses as ever.
#[test]
fn a_cluster_address_that_stays_here_drops_what_finds_nobody() -> Result<()> {
    let mut tables = tables();
    serve(&mut tables, FRONTEND, FLAG_NONE_HERE, &[], &[]);
    let sent = from_a().tcp((POD_A, 500), FRONTEND, TcpFlags::SYN, b"")?;
    assert_eq!(
        pod_a_sends(&mut tables, sent.clone()),
        (Verdict::Drop(Reason::NoLocalEndpoint), sent.clone())
    );
    serve(&mut tables, FRONTEND, 0, &[HERE], &[HERE]);
    let (verdict, _) = pod_a_sends(&mut tables, sent.clone());
    assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_B });
    tables.v4.connections.clear();
    serve(&mut tables, FRONTEND, 0, &[], &[]);
    let (verdict, _) = pod_a_sends(&mut tables, sent);
    assert_eq!(verdict, Verdict::Bounce(Reason::Refused));
    Ok(())
}

/// A SYN under the tuple of an open connection asks whether its set is still one of the frontend's: either counts.
#[test]
fn a_connection_from_outside_is_not_reopened_while_its_set_stands() -> Result<()> {
    let mut tables = tables();
    serve(&mut tables, NODE_PORT, FLAG_NODE_PORT, &[THERE], &[HERE]);
    let sent = from_wire().tcp(OUTSIDE, NODE_PORT, TcpFlags::SYN, b"")?;
    wire_brings(&mut tables, sent.clone());
    tables.clock += 3;
    let before = tables.v4.connections.clone();
    wire_brings(&mut tables, sent);
    assert_eq!(tables.v4.connections, before);
    Ok(())
}
