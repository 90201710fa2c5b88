//! Session affinity: the same client, the same backend, for as long as that one serves and the client comes back in time.

use std::collections::BTreeSet;

use anyhow::Result;
use netpath_common::abi::{
    affinity::v4::{Affinity, Client},
    service::{BackendKey, Service},
};
use netpath_ebpf::verdict::NextHop;
use netpath_tests::{
    entries,
    frame::{Socket, TcpFlags},
    tables::HostTables,
    verdict::Verdict,
};

use super::node::*;

/// The number under which the service's clients are remembered, and for how long.
const NUMBER: u32 = 7;
const TIMEOUT: u32 = 60;

/// A set of backends, in order, and whom a frontend offers it to.
fn offer(tables: &mut HostTables, set: u32, frontends: &[Socket], backends: &[Socket]) {
    for (slot, &(address, port)) in backends.iter().enumerate() {
        let key = BackendKey { set, slot: slot as u32 };
        let backend = entries::backend(address, port);
        tables.v4.backends.insert(key, backend);
    }
    for &(address, port) in frontends {
        let frontend = entries::frontend(address, port, 6);
        let service = Service {
            affinity: NUMBER,
            affinity_timeout: TIMEOUT,
            ..entries::service(set, backends.len() as u32)
        };
        tables.v4.services.insert(frontend, service);
    }
}

const FRONTEND: Socket = (WEB, 80);
const NODE_PORT: Socket = (NODE, 30_080);

/// Backends of a node behind the router, seen in a frame by where the tunnelled packet goes.
fn far(last: u8) -> Socket {
    ([10, 244, 3, last], 8080)
}

/// Ten backends, in order.
fn ten() -> Vec<Socket> {
    (1..=10).map(far).collect()
}

/// Opens a connection of pod A to a frontend from a port, and says whom it went to.
fn opened(tables: &mut HostTables, to: Socket, port: u16) -> Result<Socket> {
    let (verdict, frame) = pod_a_sends(tables, from_a().tcp((POD_A, port), to, TcpFlags::SYN, b"")?);
    assert!(
        matches!(verdict, Verdict::Wire { next_hop, .. } if next_hop == NextHop::v4(ROUTER)),
        "{verdict:?}"
    );
    Ok(inner_destination(&frame))
}

/// The destination of a tunnelled TCP packet: outer headers are 50 bytes, the inner Ethernet header 14 of them.
fn inner_destination(frame: &[u8]) -> Socket {
    let ip = &frame[64..];
    ([ip[16], ip[17], ip[18], ip[19]], u16::from_be_bytes([ip[22], ip[23]]))
}

fn remembered(backend: Socket, last_used: u32) -> (Client, Affinity) {
    let client = Client {
        address: POD_A,
        affinity: NUMBER,
    };
    let affinity = Affinity {
        address: backend.0,
        port: backend.1,
        reserved: [0; 2],
        last_used,
    };
    (client, affinity)
}

#[test]
fn a_client_keeps_its_backend_on_every_frontend_of_the_port() -> Result<()> {
    let mut tables = tables();
    offer(&mut tables, 9, &[FRONTEND, NODE_PORT], &ten());
    let first = opened(&mut tables, FRONTEND, 40_000)?;
    assert_eq!(tables.v4.affinities, [remembered(first, 1_000)].into());
    for port in 40_001..40_040 {
        assert_eq!(opened(&mut tables, FRONTEND, port)?, first, "port {port}");
        assert_eq!(opened(&mut tables, NODE_PORT, port)?, first, "port {port}");
    }

    // Another client has another backend: of 40, some have.
    let mut others = BTreeSet::new();
    for last in 0..40 {
        let client = ([203, 0, 113, last], 33_000);
        let (_, frame) = wire_brings(&mut tables, from_wire().tcp(client, NODE_PORT, TcpFlags::SYN, b"")?);
        others.insert(inner_destination(&frame));
    }
    assert!(others.len() > 5, "{others:?}");
    assert_eq!(tables.v4.affinities.len(), 41);
    Ok(())
}

#[test]
fn without_affinity_connections_spread_and_nothing_is_remembered() -> Result<()> {
    let mut tables = tables();
    offer(&mut tables, 9, &[FRONTEND], &ten());
    for service in tables.v4.services.values_mut() {
        (service.affinity, service.affinity_timeout) = (0, 0);
    }
    let chosen: BTreeSet<Socket> = (40_000..40_040)
        .map(|port| opened(&mut tables, FRONTEND, port))
        .collect::<Result<_>>()?;
    assert!(chosen.len() > 5, "{chosen:?}");
    assert!(tables.v4.affinities.is_empty());
    Ok(())
}

/// Switched off, what was remembered does not count; switched on again, it does.
#[test]
fn affinity_goes_and_comes_with_the_service_s_wish() -> Result<()> {
    let mut tables = tables();
    offer(&mut tables, 9, &[FRONTEND], &ten());
    let first = opened(&mut tables, FRONTEND, 40_000)?;
    let key = entries::frontend(WEB, 80, 6);
    let sticky = tables.v4.services[&key];
    let loose = Service {
        affinity: 0,
        affinity_timeout: 0,
        ..sticky
    };
    tables.v4.services.insert(key, loose);
    let chosen: BTreeSet<Socket> = (40_100..40_140)
        .map(|port| opened(&mut tables, FRONTEND, port))
        .collect::<Result<_>>()?;
    assert!(chosen.len() > 5, "{chosen:?}");
    tables.v4.services.insert(key, sticky);
    for port in 40_200..40_220 {
        assert_eq!(opened(&mut tables, FRONTEND, port)?, first);
    }
    Ok(())
}

#[test]
fn a_backend_that_left_is_replaced_and_one_that_only_moved_in_its_set_stays() -> Result<()> {
    for kept in 1..=10 {
        let mut tables = tables();
        offer(&mut tables, 9, &[FRONTEND], &ten());
        let (client, known) = remembered(far(kept), 1_000);
        tables.v4.affinities.insert(client, known);
        assert_eq!(opened(&mut tables, FRONTEND, 40_000)?, far(kept), "of ten");

        // Of nine others and it: another set, where it has another place; also at both ends.
        let moved: Vec<Socket> = [far(kept), far(kept.saturating_sub(1)), far(kept + 1), far(200)].into();
        let mut moved: Vec<Socket> = moved.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        offer(&mut tables, 10, &[FRONTEND], &moved);
        assert_eq!(opened(&mut tables, FRONTEND, 40_001)?, far(kept), "of {moved:?}");

        // The same address under another port is another backend.
        moved.retain(|backend| *backend != far(kept));
        moved.push((far(kept).0, 8081));
        moved.sort_unstable();
        offer(&mut tables, 11, &[FRONTEND], &moved);
        let next = opened(&mut tables, FRONTEND, 40_002)?;
        assert!(moved.contains(&next), "{next:?} of {moved:?}");
        assert_eq!(tables.v4.affinities, [remembered(next, 1_000)].into());
        for port in 40_003..40_020 {
            assert_eq!(opened(&mut tables, FRONTEND, port)?, next);
        }
    }
    Ok(())
}

/// Time counts from the last new connection, not from the first.
#[test]
fn a_client_that_stays_away_too_long_is_forgotten() -> Result<()> {
    let mut tables = tables();
    offer(&mut tables, 9, &[FRONTEND], &ten());
    let first = opened(&mut tables, FRONTEND, 40_000)?;
    for (port, clock) in (40_001..40_020).zip((1_000..).step_by(TIMEOUT as usize)) {
        tables.clock = clock;
        assert_eq!(opened(&mut tables, FRONTEND, port)?, first, "at {clock}");
        assert_eq!(tables.v4.affinities, [remembered(first, clock)].into());
    }
    let other = (0..40).find_map(|turn| {
        tables.clock += TIMEOUT + 1;
        let next = opened(&mut tables, FRONTEND, 40_100 + turn).ok()?;
        assert_eq!(tables.v4.affinities, [remembered(next, tables.clock)].into());
        (next != first).then_some(next)
    });
    assert!(other.is_some(), "always {first:?}");
    Ok(())
}
