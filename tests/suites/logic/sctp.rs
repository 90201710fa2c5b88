//! SCTP in both families: services and masquerade as other protocols have them, from a connection's first packet to its last.

use anyhow::Result;
use netpath_common::{
    abi::{
        conntrack::{Connection, STATE_CLOSING, STATE_ESTABLISHED, STATE_NEW, Tuple},
        service::BackendKey,
    },
    reason::Reason,
};
use netpath_ebpf::{encap::PEER_MAC, verdict::NextHop};
use netpath_tests::{
    entries,
    frame::Frame,
    sctp::{ABORT, ASCONF, DATA, HEARTBEAT, INIT_ACK, SHUTDOWN, SHUTDOWN_ACK, SHUTDOWN_COMPLETE, chunk, init},
    tables::HostTables,
    verdict::Verdict,
};

use super::node::*;
use crate::families::in_both_families;

const OUTSIDE: Verdict = Verdict::Wire {
    reason: Reason::ToOutside,
    next_hop: NextHop::ROUTED,
};

fn tunnel() -> Verdict {
    Verdict::Wire {
        reason: Reason::ToTunnel,
        next_hop: NextHop::v4(ROUTER),
    }
}

/// The port from which a frame's packet comes, which source NAT has chosen.
fn given<A: At>(frame: &[u8]) -> u16 {
    let ports = 14 + A::HEADER;
    let port = u16::from_be_bytes([frame[ports], frame[ports + 1]]);
    assert!(NAT.contains(&port), "{port}");
    port
}

/// The states of all connections, both directions.
fn states<A: At>(tables: &HostTables) -> Vec<u8> {
    let connections = A::of(tables).connections.values();
    connections
        .map(|connection| {
            let connection: Connection<A> = (*connection).into();
            connection.state
        })
        .collect()
}

mod packets;

in_both_families! {
    a_connection_to_a_service_from_its_init_to_its_end;
    a_backend_at_another_port_and_on_another_node;
    a_node_port_with_a_backend_elsewhere;
    out_and_back;
    an_init_reopens_what_closed_or_lost_its_set;
    silence_ends_a_connection;
    a_port_toward_a_service_and_its_backend_at_once;
    what_closed_keeps_its_port_for_a_moment;
    a_backend_on_the_nodes_network;
}

/// Over each step: who sends what, as what it arrives, and what both directions are taken for then.
fn a_connection_to_a_service_from_its_init_to_its_end<A: At>() -> Result<()> {
    let mut tables = tables();
    let (from, seen) = (at::<A>(POD_A, PORT), at::<A>(POD_A, SEEN));
    let (frontend, backend) = (at::<A>(WEB, SIGNAL), at::<A>(POD_B, SIGNAL));
    for (asks, chunks, state) in [
        (true, init(), STATE_NEW),
        (true, init(), STATE_NEW),
        (false, chunk(INIT_ACK, &[3; 20]), STATE_ESTABLISHED),
        (true, chunk(DATA, b"a message"), STATE_ESTABLISHED),
        (false, chunk(HEARTBEAT, &[9; 8]), STATE_ESTABLISHED),
        (true, chunk(SHUTDOWN, &[0; 4]), STATE_ESTABLISHED),
        (false, chunk(SHUTDOWN_ACK, &[]), STATE_CLOSING),
        (true, chunk(SHUTDOWN_COMPLETE, &[]), STATE_CLOSING),
    ] {
        let (verdict, frame) = if asks {
            pod_a_sends(&mut tables, from_a().sctp(from, frontend, &chunks))
        } else {
            pod_b_sends(&mut tables, Frame::new(MAC_B, MAC_A).sctp(backend, seen, &chunks))
        };
        let (ifindex, arrives) = if asks {
            (PORT_B, Frame::new(MAC_BRIDGE, MAC_B).sctp(seen, backend, &chunks))
        } else {
            (PORT_A, Frame::new(MAC_BRIDGE, MAC_A).sctp(frontend, from, &chunks))
        };
        assert_eq!(
            (verdict, frame),
            (Verdict::Endpoint { ifindex }, arrives),
            "{chunks:02x?}"
        );
        assert_eq!(states::<A>(&tables), [state; 2], "{chunks:02x?}");
    }
    Ok(())
}

fn a_backend_at_another_port_and_on_another_node<A: At>() -> Result<()> {
    let mut tables = tables();
    let (from, seen) = (at::<A>(POD_A, PORT), at::<A>(POD_A, SEEN));
    let (frontend, backend) = (at::<A>(DATABASE, DIAMETER), at::<A>(POD_FAR, FAR_DIAMETER));
    let (verdict, frame) = pod_a_sends(&mut tables, from_a().sctp(from, frontend, &init()));
    assert_eq!(verdict, tunnel());
    let inner = Frame::new(MAC_OVERLAY, PEER_MAC).ttl(63);
    assert_eq!(frame[50..], inner.sctp(seen, backend, &init()));

    let long = chunk(INIT_ACK, &[0x5c; 1_201]);
    let answer = Frame::new([9; 6], [8; 6]).ttl(63).sctp(backend, seen, &long);
    let tunnelled = from_wire().vxlan((FAR, 50_123), (NODE, 4789), VNI, &answer)?;
    let (verdict, frame) = wire_brings(&mut tables, tunnelled);
    assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_A });
    let back = Frame::new(MAC_BRIDGE, MAC_A).ttl(63);
    assert_eq!(frame, back.sctp(frontend, from, &long));
    Ok(())
}

fn a_node_port_with_a_backend_elsewhere<A: At>() -> Result<()> {
    let mut tables = tables();
    let (client, frontend) = (at::<A>(CLIENT, 33_000), at::<A>(NODE, 30_085));
    let backend = at::<A>(POD_FAR, FAR_DIAMETER);
    let (verdict, frame) = wire_brings(&mut tables, from_wire().sctp(client, frontend, &init()));
    assert_eq!(verdict, tunnel());
    let seen = at::<A>(NODE, given::<A>(&frame[50..]));
    let inner = Frame::new(MAC_OVERLAY, PEER_MAC).ttl(63);
    assert_eq!(frame[50..], inner.sctp(seen, backend, &init()));

    let chunks = chunk(INIT_ACK, &[1; 20]);
    let answer = Frame::new([9; 6], [8; 6]).ttl(63).sctp(backend, seen, &chunks);
    let tunnelled = from_wire().vxlan((FAR, 50_123), (NODE, 4789), VNI, &answer)?;
    let (verdict, frame) = wire_brings(&mut tables, tunnelled);
    let sent = from_wire().ttl(62).sctp(frontend, client, &chunks);
    assert_eq!((verdict, frame), (OUTSIDE, sent));
    Ok(())
}

fn out_and_back<A: At>() -> Result<()> {
    let mut tables = tables();
    let (from, server) = (at::<A>(POD_A, PORT), at::<A>(SERVER, SIGNAL));
    let (verdict, frame) = pod_a_sends(&mut tables, from_a().sctp(from, server, &init()));
    let seen = at::<A>(NODE, given::<A>(&frame));
    assert_eq!(
        (verdict, frame),
        (OUTSIDE, from_a().ttl(63).sctp(seen, server, &init()))
    );

    let chunks = chunk(INIT_ACK, &[1; 20]);
    let (verdict, frame) = wire_brings(&mut tables, from_wire().sctp(server, seen, &chunks));
    let back = Frame::new(MAC_BRIDGE, MAC_A).sctp(server, from, &chunks);
    assert_eq!((verdict, frame), (Verdict::Endpoint { ifindex: PORT_A }, back));

    let other = at::<A>(POD_B, PORT);
    let (verdict, frame) = pod_b_sends(&mut tables, Frame::new(MAC_B, MAC_BRIDGE).sctp(other, server, &init()));
    assert_eq!(verdict, OUTSIDE);
    assert_ne!(given::<A>(&frame), seen.1, "no port twice");
    Ok(())
}

/// The frontend, and the same moved to the far pod.
fn move_far<A: At>(tables: &mut HostTables) {
    let frontend = |address, port| entries::frontend(A::at(address), port, 132);
    let services = &mut A::of_mut(tables).services;
    let far = services[&frontend(DATABASE, DIAMETER)];
    services.insert(frontend(WEB, SIGNAL), far);
}

fn an_init_reopens_what_closed_or_lost_its_set<A: At>() -> Result<()> {
    let sent = |chunks: &[u8]| from_a().sctp(at::<A>(POD_A, PORT), at(WEB, SIGNAL), chunks);
    let here = Verdict::Endpoint { ifindex: PORT_B };
    for last in [None, Some(ABORT), Some(SHUTDOWN_ACK), Some(SHUTDOWN_COMPLETE)] {
        let mut tables = tables();
        pod_a_sends(&mut tables, sent(&init()));
        if let Some(last) = last {
            pod_a_sends(&mut tables, sent(&chunk(last, &[])));
            assert_eq!(states::<A>(&tables), [STATE_CLOSING; 2]);
        }
        // What is open stays, and what opens chooses anew. Both ends may have opened at once (RFC 9260, section 5.2.1).
        move_far::<A>(&mut tables);
        for other in [DATA, INIT_ACK, ASCONF] {
            assert_eq!(
                pod_a_sends(&mut tables, sent(&chunk(other, &[0; 20]))).0,
                here,
                "{other}"
            );
        }
        assert_eq!(pod_a_sends(&mut tables, sent(&init())).0, tunnel());
        assert_eq!(states::<A>(&tables), [STATE_NEW; 2], "nothing of the old is left");
    }
    // While the set is there, closing alone makes an INIT the first of a new connection.
    let mut tables = tables();
    for (chunks, state) in [
        (init(), STATE_NEW),
        (chunk(ABORT, &[]), STATE_CLOSING),
        (init(), STATE_NEW),
    ] {
        assert_eq!(pod_a_sends(&mut tables, sent(&chunks)).0, here);
        assert_eq!(states::<A>(&tables), [state; 2]);
    }
    Ok(())
}

/// Seconds as the kernel's own connection tracking has them.
fn silence_ends_a_connection<A: At>() -> Result<()> {
    let sent = |chunks: &[u8]| from_a().sctp(at::<A>(POD_A, PORT), at(WEB, SIGNAL), chunks);
    let answer = Frame::new(MAC_B, MAC_A).sctp(at::<A>(POD_B, SIGNAL), at(POD_A, SEEN), &chunk(INIT_ACK, &[1; 20]));
    for (answered, seconds) in [(false, 30), (true, 210)] {
        for (over, verdict) in [(0, Verdict::Endpoint { ifindex: PORT_B }), (1, tunnel())] {
            let mut tables = tables();
            pod_a_sends(&mut tables, sent(&init()));
            if answered {
                pod_b_sends(&mut tables, answer.clone());
            }
            move_far::<A>(&mut tables);
            tables.clock += seconds + over;
            let (found, _) = pod_a_sends(&mut tables, sent(&chunk(HEARTBEAT, &[9; 8])));
            assert_eq!(found, verdict, "{answered}, {over} over");
        }
    }
    Ok(())
}

/// A connection to the backend's own address would be taken for the one to the service.
fn a_port_toward_a_service_and_its_backend_at_once<A: At>() -> Result<()> {
    let mut tables = tables();
    let own = at::<A>(POD_A, 5_000);
    let backend = at::<A>(POD_B, SIGNAL);
    pod_a_sends(&mut tables, from_a().sctp(own, at(WEB, SIGNAL), &init()));
    let straight = Frame::new(MAC_A, MAC_B);
    let (verdict, frame) = pod_a_sends(&mut tables, straight.sctp(own, backend, &init()));
    let seen = at::<A>(POD_A, given::<A>(&frame));
    let arrives = Frame::new(MAC_BRIDGE, MAC_B).sctp(seen, backend, &init());
    assert_eq!((verdict, frame), (Verdict::Endpoint { ifindex: PORT_B }, arrives));
    let chunks = chunk(INIT_ACK, &[1; 20]);
    let (_, frame) = pod_b_sends(&mut tables, Frame::new(MAC_B, MAC_A).sctp(backend, seen, &chunks));
    assert_eq!(frame, Frame::new(MAC_BRIDGE, MAC_A).sctp(backend, own, &chunks));
    Ok(())
}

/// Five seconds.
fn what_closed_keeps_its_port_for_a_moment<A: At>() -> Result<()> {
    let own = at::<A>(POD_A, 5_000);
    let straight = Frame::new(MAC_A, MAC_B).sctp(own, at(POD_B, SIGNAL), &init());
    for (seconds, stays) in [(5, false), (6, true)] {
        let mut tables = tables();
        for chunks in [init(), chunk(ABORT, &[])] {
            pod_a_sends(&mut tables, from_a().sctp(own, at(WEB, SIGNAL), &chunks));
        }
        tables.clock += seconds;
        let (_, frame) = pod_a_sends(&mut tables, straight.clone());
        assert_eq!(frame == straight, stays, "{seconds}");
    }
    Ok(())
}

/// It answers through the node's stack.
fn a_backend_on_the_nodes_network<A: At>() -> Result<()> {
    let mut tables = tables();
    let backend = entries::backend(A::at(NODE), FAR_DIAMETER);
    let place = BackendKey { set: 8, slot: 0 };
    A::of_mut(&mut tables).backends.insert(place, backend);
    let backend = at::<A>(NODE, FAR_DIAMETER);
    let chunks = chunk(INIT_ACK, &[1; 20]);

    let (client, seen, frontend) = (at::<A>(POD_A, PORT), at::<A>(POD_A, SEEN), at::<A>(DATABASE, DIAMETER));
    let outcome = pod_a_sends(&mut tables, from_a().sctp(client, frontend, &init()));
    let arrives = from_a().sctp(seen, backend, &init());
    assert_eq!(outcome, (Verdict::Pass(Reason::ToHost), arrives));
    let answer = Frame::new(MAC_BRIDGE, MAC_A);
    let outcome = host_sends(&mut tables, answer.sctp(backend, seen, &chunks));
    let shown = answer.sctp(frontend, client, &chunks);
    assert_eq!(outcome, (Verdict::Endpoint { ifindex: PORT_A }, shown));

    let (client, frontend) = (at::<A>(CLIENT, 33_000), at::<A>(NODE, 30_085));
    let outcome = wire_brings(&mut tables, from_wire().sctp(client, frontend, &init()));
    let arrives = from_wire().sctp(client, backend, &init());
    assert_eq!(outcome, (Verdict::Pass(Reason::ToHost), arrives));
    let answer = Frame::new(MAC_UPLINK, MAC_ROUTER);
    let outcome = stack_sends_out(&mut tables, answer.sctp(backend, client, &chunks));
    let shown = answer.sctp(frontend, client, &chunks);
    assert_eq!(outcome, (Verdict::Pass(Reason::ToStack), shown));
    Ok(())
}

/// A tuple is of one protocol: connections of others with the same addresses and ports are others.
#[test]
fn a_tuple_of_another_protocol_is_another() {
    let mut tables = tables();
    pod_a_sends(&mut tables, from_a().sctp((POD_A, PORT), (WEB, SIGNAL), &init()));
    let protocols = tables.v4.connections.keys().map(|tuple| {
        let tuple: Tuple<[u8; 4]> = (*tuple).into();
        tuple.protocol
    });
    assert_eq!(protocols.collect::<Vec<_>>(), [132, 132]);
}
