//! Plans in, exact map contents out, in real maps. The programs must be built: `cargo xtask build-ebpf`.

use std::collections::BTreeMap;

use bytemuck::Pod;
use netpath_common::abi::{
    ABI_VERSION,
    config::Config,
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

mod connections;
mod families;
mod following;
mod hostports;
mod maglev;
mod room;
mod scale;
mod sets;
mod sources;

use super::*;
use crate::{
    datapath::{load::load, maps::Table, scratch::Scratch, sizes::Sizes},
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

/// All that a map holds.
fn held<K: Pod, V: Pod>(table: Result<Table<K, V>>) -> Vec<(K, V)> {
    table.expect("pinned").entries().expect("read")
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
    let routes = held(tables::routes::<V4>(pins));
    assert_eq!(routes, [route(2), route(3)]);
    let endpoints = held(tables::endpoints::<V4>(pins));
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
    assert_eq!(held(tables::endpoints::<V4>(pins)), []);
    assert_eq!(held(tables::routes::<V4>(pins)), []);
    assert_eq!(held(tables::services::<V4>(pins)), []);
    assert_eq!(held(tables::backends::<V4>(pins)), []);
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
