//! Plans in, exact map contents out, in real maps. The programs must be built: `cargo xtask build-ebpf`.

use std::{
    collections::{BTreeMap, HashSet},
    time::Instant,
};

use netpath_common::abi::{
    ABI_VERSION,
    config::Config,
    conntrack::{
        DIRECTION_ORIGINAL, DIRECTION_REPLY,
        v4::{Connection, Tuple},
    },
    endpoint::{Endpoint, KIND_HOST, KIND_POD},
    route::{
        VIA_DIRECT,
        v4::{Route, RouteKey},
    },
    service::{
        BackendKey, FLAG_NODE_PORT, Service,
        v4::{Backend, Frontend},
    },
};

mod families;
mod following;
mod hostports;
mod maglev;
mod sources;

use super::*;
use crate::{
    datapath::{load::load, scratch::Scratch, sizes::Sizes},
    plan::{FamilyPlan, ServicePlan},
};

/// A root with empty maps in it.
fn maps(services: u32, backends: u32) -> Scratch {
    let scratch = Scratch::fresh();
    let sizes = Sizes {
        max_services: services,
        max_backends: backends,
        max_maglev: 64,
        max_sources: 4,
        max_endpoints: 16,
        max_routes: 16,
        max_connections: 256,
        max_affinities: 64,
        max_fragments: 64,
        max_held_fragments: 16,
        max_sockets: 64,
    };
    load(&scratch.0, &sizes).expect("programs that load");
    scratch
}

fn frontend(last: u8, port: u16) -> Frontend {
    Frontend {
        address: [10, 96, 0, last],
        port,
        protocol: 6,
        reserved: 0,
    }
}

fn backend(last: u8) -> Backend {
    Backend {
        address: [10, 244, 1, last],
        port: 8080,
        reserved: [0; 2],
    }
}

fn service(flags: u16, backends: &[u8]) -> ServicePlan<V4> {
    ServicePlan::alike(flags, backends.iter().map(|last| backend(*last)).collect::<Vec<_>>())
}

fn host(ifindex: u32) -> Endpoint {
    Endpoint {
        ifindex,
        kind: KIND_HOST,
        ..Endpoint::default()
    }
}

fn route(third: u8) -> (RouteKey, Route) {
    let key = RouteKey {
        address: [10, 244, third, 0],
        prefix_len: 24,
    };
    let route = Route {
        node: [192, 0, 2, third],
        next_hop: [192, 0, 2, third],
        via: VIA_DIRECT,
        reserved: [0; 3],
    };
    (key, route)
}

fn plan(services: impl IntoIterator<Item = (Frontend, ServicePlan<V4>)>) -> Plan {
    Plan {
        config: Config {
            abi_version: ABI_VERSION,
            vni: 7,
            route_prefixes4: [24, 0, 0, 0],
            ..Config::default()
        },
        v4: FamilyPlan {
            endpoints: BTreeMap::from([([192, 0, 2, 1], host(2))]),
            routes: BTreeMap::from([route(2), route(3)]),
            services: services.into_iter().collect(),
            ..FamilyPlan::default()
        },
        ..Plan::default()
    }
}

/// What a frontend leads to in the kernel, with its flags; `None` if it is not there.
fn serves(pins: &Pins, frontend: Frontend) -> Option<(u16, Vec<Backend>)> {
    let found = tables::services::<[u8; 4]>(pins)
        .expect("pinned")
        .get(&frontend)
        .expect("read")?;
    let sets = tables::backends::<[u8; 4]>(pins).expect("pinned");
    let slot = |slot| sets.get(&BackendKey { set: found.set, slot }).expect("read");
    let backends = (0..found.count).map(|place| slot(place).expect("every place of a set is filled"));
    Some((found.flags, backends.collect()))
}

fn changes(added: usize, changed: usize, removed: usize) -> Changes {
    Changes {
        added,
        changed,
        removed,
    }
}

#[test]
fn a_plan_is_what_the_maps_hold_and_a_restart_adopts_it() {
    let scratch = maps(64, 64);
    let pins = &scratch.0;
    let plan = plan([
        (frontend(1, 80), service(0, &[1, 2])),
        (frontend(2, 80), service(FLAG_NODE_PORT, &[1, 2])),
        (frontend(3, 53), service(0, &[])),
    ]);
    let report = Applier::adopt(pins).expect("maps").apply(&plan);
    assert_eq!(report.errors, []);
    assert_eq!(
        report.tables,
        BTreeMap::from([
            (names::CONFIG, changes(0, 1, 0)),
            (names::ENDPOINT4, changes(1, 0, 0)),
            (names::ROUTE4, changes(2, 0, 0)),
            (names::SERVICE4, changes(3, 0, 0)),
            // Two services share a set.
            (names::BACKEND4, changes(2, 0, 0)),
        ])
    );
    assert_eq!(tables::config(pins).expect("pinned").get().expect("read"), plan.config);
    let routes = tables::routes::<[u8; 4]>(pins)
        .expect("pinned")
        .entries()
        .expect("read");
    assert_eq!(routes, [route(2), route(3)]);
    let endpoints = tables::endpoints::<[u8; 4]>(pins)
        .expect("pinned")
        .entries()
        .expect("read");
    assert_eq!(endpoints, [([192, 0, 2, 1], host(2))]);
    assert_eq!(serves(pins, frontend(1, 80)), Some((0, vec![backend(1), backend(2)])));
    assert_eq!(
        serves(pins, frontend(2, 80)),
        Some((FLAG_NODE_PORT, vec![backend(1), backend(2)]))
    );
    let refused = tables::services::<[u8; 4]>(pins)
        .expect("pinned")
        .get(&frontend(3, 53))
        .expect("read");
    assert_eq!(refused, Some(Service::default()));

    let report = Applier::adopt(pins).expect("maps").apply(&plan);
    assert!(report.is_empty(), "{report}");
}

#[test]
fn nothing_stays_after_deletion() {
    let scratch = maps(64, 64);
    let pins = &scratch.0;
    let mut applier = Applier::adopt(pins).expect("maps");
    applier.apply(&plan([
        (frontend(1, 80), service(0, &[1, 2])),
        (frontend(2, 80), service(0, &[3])),
    ]));
    let empty = Plan {
        config: plan([]).config,
        ..Plan::default()
    };
    let report = applier.apply(&empty);
    assert_eq!(report.errors, []);
    assert_eq!(report.total(), changes(0, 0, 1 + 2 + 2 + 3));
    assert_eq!(
        tables::endpoints::<[u8; 4]>(pins)
            .expect("pinned")
            .entries()
            .expect("read"),
        []
    );
    assert_eq!(
        tables::routes::<[u8; 4]>(pins)
            .expect("pinned")
            .entries()
            .expect("read"),
        []
    );
    assert_eq!(
        tables::services::<[u8; 4]>(pins)
            .expect("pinned")
            .entries()
            .expect("read"),
        []
    );
    assert_eq!(
        tables::backends::<[u8; 4]>(pins)
            .expect("pinned")
            .entries()
            .expect("read"),
        []
    );
}

#[test]
fn a_changed_list_is_another_set_and_the_old_one_goes() {
    let scratch = maps(64, 64);
    let pins = &scratch.0;
    let mut applier = Applier::adopt(pins).expect("maps");
    applier.apply(&plan([(frontend(1, 80), service(0, &[1, 2]))]));
    let services = tables::services::<[u8; 4]>(pins).expect("pinned");
    let before = services.get(&frontend(1, 80)).expect("read").expect("there");
    let report = applier.apply(&plan([(frontend(1, 80), service(0, &[1, 2, 3]))]));
    assert_eq!(report.errors, []);
    let after = services.get(&frontend(1, 80)).expect("read").expect("there");
    assert_ne!(after.set, before.set);
    assert_eq!(
        serves(pins, frontend(1, 80)),
        Some((0, vec![backend(1), backend(2), backend(3)]))
    );
    let sets = tables::backends::<[u8; 4]>(pins)
        .expect("pinned")
        .entries()
        .expect("read");
    assert!(sets.iter().all(|(key, _)| key.set == after.set), "{sets:?}");

    // The first list again: its number is the first again, also for an agent that never saw it.
    let mut applier = Applier::adopt(pins).expect("maps");
    applier.apply(&plan([(frontend(1, 80), service(0, &[1, 2]))]));
    assert_eq!(services.get(&frontend(1, 80)).expect("read"), Some(before));
}

#[test]
fn a_full_map_leaves_no_half_service() {
    let scratch = maps(64, 4);
    let pins = &scratch.0;
    let mut applier = Applier::adopt(pins).expect("maps");
    applier.apply(&plan([(frontend(1, 80), service(0, &[1, 2]))]));
    let report = applier.apply(&plan([
        (frontend(1, 80), service(0, &[1, 2])),
        (frontend(2, 80), service(0, &[3, 4, 5])),
        (frontend(3, 80), service(0, &[6])),
    ]));
    assert_eq!(
        report.errors,
        [Failure {
            object: "service 10.96.0.2:80/tcp and its 3 backends".to_owned(),
            reason: "map np_backend4 is full with 4 entries: raise --max-backends and restart netpath-agent".to_owned(),
        }]
    );
    assert_eq!(serves(pins, frontend(1, 80)), Some((0, vec![backend(1), backend(2)])));
    assert_eq!(serves(pins, frontend(2, 80)), None);
    assert_eq!(serves(pins, frontend(3, 80)), Some((0, vec![backend(6)])));
    assert_eq!(
        tables::backends::<[u8; 4]>(pins)
            .expect("pinned")
            .entries()
            .expect("read")
            .len(),
        3
    );

    // A frontend whose new set does not fit keeps its old one, whole.
    let report = applier.apply(&plan([
        (frontend(1, 80), service(0, &[1, 2, 3, 4, 5])),
        (frontend(3, 80), service(0, &[6])),
    ]));
    assert_eq!(report.errors.len(), 1, "{report}");
    assert_eq!(serves(pins, frontend(1, 80)), Some((0, vec![backend(1), backend(2)])));
    // What does not fit before another service's set goes fits after, in the same apply.
    let report = applier.apply(&plan([(frontend(1, 80), service(0, &[3, 4]))]));
    assert_eq!(report.errors, []);
    assert_eq!(serves(pins, frontend(1, 80)), Some((0, vec![backend(3), backend(4)])));
    assert_eq!(
        tables::backends::<[u8; 4]>(pins)
            .expect("pinned")
            .entries()
            .expect("read")
            .len(),
        2
    );
}

#[test]
fn frontends_beyond_the_room_are_named_and_the_others_served() {
    let scratch = maps(2, 64);
    let pins = &scratch.0;
    let mut applier = Applier::adopt(pins).expect("maps");
    let three = [1, 2, 3].map(|last| (frontend(last, 80), service(0, &[last])));
    let report = applier.apply(&plan(three.clone()));
    let objects: Vec<&str> = report.errors.iter().map(|failure| failure.object.as_str()).collect();
    assert_eq!(objects, ["service 10.96.0.3:80/tcp"]);
    assert!(report.errors[0].reason.contains("--max-services"), "{report}");
    assert_eq!(serves(pins, frontend(2, 80)), Some((0, vec![backend(2)])));

    // One goes, and the third takes its room in the same apply.
    let report = applier.apply(&plan(three.into_iter().skip(1)));
    assert_eq!(report.errors, []);
    assert_eq!(serves(pins, frontend(1, 80)), None);
    assert_eq!(serves(pins, frontend(3, 80)), Some((0, vec![backend(3)])));
}

/// A client's connection over a frontend to a backend, in both directions, as the programs write it.
fn connection(pins: &Pins, client: u16, frontend: Frontend, backend: Backend) -> [Tuple; 2] {
    let source = [10, 244, 1, 77];
    let original = Tuple {
        source,
        destination: frontend.address,
        source_port: client,
        destination_port: frontend.port,
        protocol: frontend.protocol,
        reserved: [0; 3],
    };
    let answer = Tuple {
        source: backend.address,
        destination: source,
        source_port: backend.port,
        destination_port: client,
        protocol: frontend.protocol,
        reserved: [0; 3],
    };
    let there = Connection {
        source,
        destination: backend.address,
        source_port: client,
        destination_port: backend.port,
        direction: DIRECTION_ORIGINAL,
        set: 1,
        ..Connection::default()
    };
    let back = Connection {
        source: frontend.address,
        destination: source,
        source_port: frontend.port,
        destination_port: client,
        direction: DIRECTION_REPLY,
        set: 1,
        ..Connection::default()
    };
    let mut connections = tables::connections::<[u8; 4]>(pins).expect("pinned");
    connections.insert(&original, &there).expect("room");
    connections.insert(&answer, &back).expect("room");
    [original, answer]
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
    let gone = connection(pins, 1001, udp(1), backend(1));
    let mut kept = [
        connection(pins, 1002, udp(1), backend(2)),
        connection(pins, 1003, udp(2), backend(1)),
        connection(pins, 1004, tcp, backend(1)),
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
        let entries = tables::connections::<[u8; 4]>(pins)
            .expect("pinned")
            .entries()
            .expect("read");
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
    let tuples = connection(pins, 1001, balancer, itself);
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

#[test]
fn a_frontend_s_two_lists_are_two_sets_and_both_go_with_it() {
    let scratch = maps(64, 64);
    let pins = &scratch.0;
    let split = ServicePlan {
        outside: service(0, &[2]).backends,
        affinity: 7,
        affinity_timeout: 10_800,
        ..service(FLAG_NODE_PORT, &[1, 2])
    };
    let mut applier = Applier::adopt(pins).expect("maps");
    let report = applier.apply(&plan([
        (frontend(1, 80), split.clone()),
        (frontend(2, 80), service(0, &[2])),
    ]));
    assert_eq!(report.errors, []);
    assert_eq!(
        report.tables[names::BACKEND4],
        changes(3, 0, 0),
        "a shared list is one set"
    );
    let found = tables::services::<[u8; 4]>(pins).expect("pinned");
    let found = found.get(&frontend(1, 80)).expect("read").expect("there");
    let other = tables::services::<[u8; 4]>(pins).expect("pinned").get(&frontend(2, 80));
    let other = other.expect("read").expect("there");
    let expected = Service {
        set: found.set,
        count: 2,
        outside_set: other.set,
        outside_count: 1,
        affinity: 7,
        affinity_timeout: 10_800,
        sources: 0,
        flags: FLAG_NODE_PORT,
        maglev: 0,
        reserved: 0,
    };
    assert_eq!(found, expected);
    assert_ne!(found.set, other.set);
    // While the outside set alone is named, it stays.
    let report = applier.apply(&plan([(frontend(1, 80), split)]));
    assert_eq!(report.errors, []);
    assert_eq!(
        tables::backends::<[u8; 4]>(pins)
            .expect("pinned")
            .entries()
            .expect("read")
            .len(),
        3
    );
    applier.apply(&plan([]));
    assert_eq!(
        tables::backends::<[u8; 4]>(pins)
            .expect("pinned")
            .entries()
            .expect("read"),
        []
    );
}

#[test]
fn pods_entries_are_left_alone() {
    let scratch = maps(64, 64);
    let pins = &scratch.0;
    let pod = Endpoint {
        ifindex: 9,
        mac: [2, 0, 0, 0, 0, 9],
        kind: KIND_POD,
    };
    let mut endpoints = tables::endpoints::<[u8; 4]>(pins).expect("pinned");
    endpoints.insert(&[10, 244, 1, 9], &pod).expect("room");
    let mut wanted = plan([]);
    wanted.v4.endpoints.insert([10, 244, 1, 9], host(3));
    let mut applier = Applier::adopt(pins).expect("maps");
    let report = applier.apply(&wanted);
    assert_eq!(
        report.errors,
        [Failure {
            object: "the node's address 10.244.1.9".to_owned(),
            reason: "a pod of this node has it: delete that pod".to_owned(),
        }]
    );
    wanted.v4.endpoints.clear();
    assert_eq!(applier.apply(&wanted).errors, []);
    assert_eq!(endpoints.entries().expect("read"), [([10, 244, 1, 9], pod)]);
}

#[test]
fn ten_thousand_services_are_a_matter_of_moments() {
    let scratch = maps(32_768, 65_536);
    let pins = &scratch.0;
    let numbered = |number: u16, list: u8| {
        let [high, low] = number.to_be_bytes();
        let address = |last| Backend {
            address: [10, list, high, low],
            port: last,
            reserved: [0; 2],
        };
        let frontend = Frontend {
            address: [10, 96, high, low],
            port: 80,
            protocol: 6,
            reserved: 0,
        };
        let backends = [1, 2, 3].map(address).to_vec();
        (frontend, ServicePlan::alike(0, backends))
    };
    let mut applier = Applier::adopt(pins).expect("maps");
    let first = plan((0..10_000).map(|number| numbered(number, 1)));
    let start = Instant::now();
    let report = applier.apply(&first);
    let took = start.elapsed();
    assert_eq!(report.errors, []);
    assert_eq!(report.tables[names::SERVICE4], changes(10_000, 0, 0));
    assert_eq!(report.tables[names::BACKEND4], changes(30_000, 0, 0));

    let mut one = first.clone();
    one.v4.services.extend([numbered(77, 2)]);
    let start = Instant::now();
    let report = applier.apply(&one);
    let change = start.elapsed();
    assert_eq!(report.total(), changes(3, 1, 3));

    let start = Instant::now();
    let adopted = Applier::adopt(pins).expect("maps").apply(&one);
    println!(
        "10,000 services: {took:?}; one changed: {change:?}; adopted: {:?}",
        start.elapsed()
    );
    assert!(adopted.is_empty(), "{adopted}");
    // A bound for a debug build on a busy machine: the bench holds the release build to half a second.
    assert!(took.as_secs() < 5, "{took:?}");
}
