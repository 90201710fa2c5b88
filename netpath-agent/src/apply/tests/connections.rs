//! Connections of datagrams that a change of the plan ends, and those that it does not.

use std::collections::HashSet;

use netpath_common::abi::{
    conntrack::{
        self, DIRECTION_ORIGINAL, DIRECTION_REPLY,
        v4::{Connection, Tuple},
    },
    service as abi,
};

use super::*;
use crate::family::Family;

/// A client's connection over a frontend to a backend, there and back, as the programs write it.
pub fn both_ways<F: Family>(
    client: (F, u16),
    frontend: F::Frontend,
    backend: F::Backend,
) -> [(F::Tuple, F::Connection); 2] {
    let (frontend, backend): (abi::Frontend<F>, abi::Backend<F>) = (frontend.into(), backend.into());
    let original = conntrack::Tuple {
        source: client.0,
        destination: frontend.address,
        source_port: client.1,
        destination_port: frontend.port,
        protocol: frontend.protocol,
        reserved: [0; 3],
    };
    let answer = conntrack::Tuple {
        source: backend.address,
        destination: client.0,
        source_port: backend.port,
        destination_port: client.1,
        ..original
    };
    let there = conntrack::Connection {
        source: client.0,
        destination: backend.address,
        source_port: client.1,
        destination_port: backend.port,
        direction: DIRECTION_ORIGINAL,
        set: 1,
        ..conntrack::Connection::default()
    };
    let back = conntrack::Connection {
        source: frontend.address,
        destination: client.0,
        source_port: frontend.port,
        destination_port: client.1,
        direction: DIRECTION_REPLY,
        ..there
    };
    [(original.into(), there.into()), (answer.into(), back.into())]
}

/// Opens a connection of a pod's, and says under which tuples it is.
pub fn open(pins: &Pins, port: u16, frontend: Frontend, backend: Backend) -> [Tuple; 2] {
    let entries = both_ways::<V4>(([10, 244, 1, 77], port), frontend, backend);
    let mut connections = tables::connections::<V4>(pins).expect("pinned");
    entries.map(|(tuple, connection)| {
        connections.insert(&tuple, &connection).expect("room");
        tuple
    })
}

#[test]
fn datagrams_to_a_backend_that_is_gone_are_forgotten_and_no_others() {
    let scratch = maps(64, 64);
    let pins = &scratch.0;
    let udp = |last| Frontend {
        protocol: 17,
        ..frontend(last, 53)
    };
    let mut applier = Applier::adopt(pins).expect("maps");
    let tcp = frontend(1, 53);
    applier.apply(&plan(
        [udp(1), udp(2), tcp].map(|frontend| (frontend, service(0, &[1, 2]))),
    ));
    let gone = open(pins, 1001, udp(1), backend(1));
    let mut kept = [
        open(pins, 1002, udp(1), backend(2)),
        open(pins, 1003, udp(2), backend(1)),
        open(pins, 1004, tcp, backend(1)),
    ]
    .concat();

    // Also by an agent that was not there when the backend was.
    let mut applier = Applier::adopt(pins).expect("maps");
    let report = applier.apply(&plan([
        (udp(1), service(0, &[2])),
        (udp(2), service(0, &[1, 2])),
        (tcp, service(0, &[2])),
    ]));
    assert_eq!(report.errors, []);
    assert_eq!(report.tables[names::CONNTRACK4], changes(0, 0, 2));
    let left = || {
        let entries = held(tables::connections::<V4>(pins));
        let tuples: HashSet<Tuple> = entries.into_iter().map(|(tuple, _)| tuple).collect();
        tuples
    };
    assert_eq!(left(), kept.iter().copied().collect());
    assert!(gone.iter().all(|tuple| !left().contains(tuple)));

    // A backend that nothing new is sent to keeps its flows for as long as it answers.
    let leaving = ServicePlan {
        serving: [backend(1), backend(2)].into(),
        ..service(0, &[2])
    };
    let still = plan([(udp(1), service(0, &[2])), (udp(2), leaving), (tcp, service(0, &[2]))]);
    let report = applier.apply(&still);
    assert_eq!(report.errors, []);
    assert_eq!(left(), kept.iter().copied().collect());
    applier.adopt_again(pins).expect("maps");
    let dead = plan([
        (udp(1), service(0, &[2])),
        (udp(2), service(0, &[2])),
        (tcp, service(0, &[2])),
    ]);
    applier.apply(&dead);
    kept.drain(2..4);
    assert_eq!(left(), kept.iter().copied().collect());

    // A frontend that goes takes its own with it.
    let report = applier.apply(&plan([(udp(2), service(0, &[2])), (tcp, service(0, &[2]))]));
    assert_eq!(report.errors, []);
    kept.drain(..2);
    assert_eq!(left(), kept.iter().copied().collect());
}

/// A pod's datagrams to an address outside, before a service answered there: they went past it, and must not go on to.
#[test]
fn datagrams_past_a_frontend_that_is_new_are_forgotten() {
    let scratch = maps(64, 64);
    let pins = &scratch.0;
    let balancer = Frontend {
        address: [203, 0, 113, 8],
        protocol: 17,
        ..frontend(0, 53)
    };
    let itself = Backend {
        address: balancer.address,
        port: balancer.port,
        reserved: [0; 2],
    };
    let mut applier = Applier::adopt(pins).expect("maps");
    applier.apply(&plan([]));
    let tuples = open(pins, 1001, balancer, itself);
    let mut connections = tables::connections::<[u8; 4]>(pins).expect("pinned");
    for tuple in tuples {
        let found = connections.get(&tuple).expect("read").expect("there");
        let masqueraded = Connection { set: 0, ..found };
        connections.insert(&tuple, &masqueraded).expect("room");
    }
    applier.apply(&plan([(frontend(1, 80), service(0, &[1]))]));
    assert_eq!(connections.entries().expect("read").len(), 2);
    applier.apply(&plan([(balancer, service(0, &[1]))]));
    assert_eq!(connections.entries().expect("read"), []);
}
