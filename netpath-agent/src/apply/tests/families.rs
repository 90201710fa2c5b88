//! Both families' maps, each brought to its own part of a plan.

use netpath_common::abi::{
    route::{self, VIA_TUNNEL},
    service::{self as abi, FLAG_ADDRESS},
    source::{self, ADMITTED},
};

use super::{connections::both_ways, *};
use crate::family::V6;

/// An address of a net, by its last two octets.
fn address(net: u8, last: u8) -> V6 {
    let mut address = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    address[13] = net;
    address
}

fn frontend6(last: u8, protocol: u8) -> abi::v6::Frontend {
    abi::v6::Frontend {
        address: address(96, last),
        port: 53,
        protocol,
        reserved: 0,
    }
}

fn backend6(last: u8) -> abi::v6::Backend {
    abi::v6::Backend {
        address: address(1, last),
        port: 5353,
        reserved: [0; 2],
    }
}

fn service6(backends: &[u8]) -> ServicePlan<V6> {
    ServicePlan::alike(0, backends.iter().map(|last| backend6(*last)).collect::<Vec<_>>())
}

fn plan6(services: impl IntoIterator<Item = (abi::v6::Frontend, ServicePlan<V6>)>) -> FamilyPlan<V6> {
    let key = route::v6::RouteKey {
        address: address(2, 0),
        prefix_len: 120,
    };
    let way = route::v6::Route {
        node: address(7, 2),
        next_hop: [0; 16],
        via: VIA_TUNNEL,
        reserved: [0; 3],
    };
    let listed = source::v6::SourceKey {
        prefix_len: 32 + 64,
        sources: 9,
        address: address(0, 0),
    };
    FamilyPlan {
        endpoints: BTreeMap::from([(address(7, 1), host(2))]),
        routes: BTreeMap::from([(key, way)]),
        services: services.into_iter().collect(),
        sources: BTreeMap::from([(listed, ADMITTED)]),
        addresses: BTreeMap::from([(address(96, 1), FLAG_ADDRESS)]),
        ..FamilyPlan::default()
    }
}

/// What a frontend leads to in the kernel; `None` if it is not there.
fn serves6(pins: &Pins, frontend: abi::v6::Frontend) -> Option<Vec<abi::v6::Backend>> {
    let found = tables::services::<V6>(pins)
        .expect("pinned")
        .get(&frontend)
        .expect("read")?;
    let sets = tables::backends::<V6>(pins).expect("pinned");
    let slot = |slot| sets.get(&BackendKey { set: found.set, slot }).expect("read");
    let backends = (0..found.count).map(|place| slot(place).expect("every place of a set is filled"));
    Some(backends.collect())
}

#[test]
fn each_family_has_its_own_maps_and_leaves_the_other_s_alone() {
    let scratch = maps(64, 64);
    let pins = &scratch.0;
    let mut applier = Applier::adopt(pins).expect("maps");
    let mut both = plan([(frontend(1, 80), service(0, &[1, 2]))]);
    both.v6 = plan6([
        (frontend6(1, 17), service6(&[1, 2, 3])),
        (frontend6(2, 6), service6(&[3])),
    ]);
    let report = applier.apply(&both);
    assert_eq!(report.errors, []);
    assert_eq!(
        report.tables,
        BTreeMap::from([
            (names::CONFIG, changes(0, 1, 0)),
            (names::ENDPOINT4, changes(1, 0, 0)),
            (names::ROUTE4, changes(2, 0, 0)),
            (names::SERVICE4, changes(1, 0, 0)),
            (names::BACKEND4, changes(2, 0, 0)),
            (names::ENDPOINT6, changes(1, 0, 0)),
            (names::ROUTE6, changes(1, 0, 0)),
            (names::SERVICE6, changes(3, 0, 0)),
            (names::BACKEND6, changes(4, 0, 0)),
            (names::SOURCE6, changes(1, 0, 0)),
        ])
    );
    let routes = held(tables::routes::<V6>(pins));
    assert_eq!(routes, both.v6.routes.clone().into_iter().collect::<Vec<_>>());
    let sources = held(tables::sources::<V6>(pins));
    assert_eq!(sources, both.v6.sources.clone().into_iter().collect::<Vec<_>>());
    let endpoints = held(tables::endpoints::<V6>(pins));
    assert_eq!(endpoints, [(address(7, 1), host(2))]);
    let all = [1, 2, 3].map(backend6).to_vec();
    assert_eq!(serves6(pins, frontend6(1, 17)), Some(all));
    assert_eq!(serves6(pins, frontend6(2, 6)), Some(vec![backend6(3)]));
    let entry = abi::v6::Frontend {
        address: address(96, 1),
        ..abi::v6::Frontend::default()
    };
    let said = tables::services::<V6>(pins).expect("pinned").get(&entry).expect("read");
    assert_eq!(said.map(|service| service.flags), Some(FLAG_ADDRESS));

    let report = Applier::adopt(pins).expect("maps").apply(&both);
    assert!(report.is_empty(), "{report}");
    // The node has no IPv6 any more.
    let alone = plan([(frontend(1, 80), service(0, &[1, 2]))]);
    let report = applier.apply(&alone);
    assert_eq!(
        (report.errors.as_slice(), report.total()),
        ([].as_slice(), changes(0, 0, 10))
    );
    assert_eq!(serves(pins, frontend(1, 80)), Some((0, vec![backend(1), backend(2)])));
    assert_eq!(held(tables::backends::<V6>(pins)), []);
}

#[test]
fn datagrams_to_a_backend_that_is_gone_are_forgotten_in_ipv6_too() {
    let scratch = maps(64, 64);
    let pins = &scratch.0;
    let mut applier = Applier::adopt(pins).expect("maps");
    let mut before = plan([]);
    before.v6 = plan6([(frontend6(1, 17), service6(&[1, 2]))]);
    applier.apply(&before);
    let mut connections = tables::connections::<V6>(pins).expect("pinned");
    for last in [1, 2] {
        let client = (address(1, 77), 1000 + u16::from(last));
        for (tuple, connection) in both_ways::<V6>(client, frontend6(1, 17), backend6(last)) {
            connections.insert(&tuple, &connection).expect("room");
        }
    }
    let mut after = before.clone();
    after.v6.services.insert(frontend6(1, 17), service6(&[2]));
    let report = applier.apply(&after);
    assert_eq!(report.tables[names::CONNTRACK6], changes(0, 0, 2));
    let left = connections.entries().expect("read").into_iter().map(|(tuple, _)| tuple);
    let ports: Vec<_> = left.map(|tuple| (tuple.source_port, tuple.destination_port)).collect();
    assert_eq!(ports, [(5353, 1002), (1002, 53)]);
}

#[test]
fn what_one_frontend_is_refused_is_named_as_people_write_it() {
    let scratch = maps(64, 2);
    let pins = &scratch.0;
    let mut full = plan([]);
    full.v6 = plan6([(frontend6(1, 17), service6(&[1, 2, 3]))]);
    let report = Applier::adopt(pins).expect("maps").apply(&full);
    assert_eq!(
        report.errors,
        [Failure {
            object: "service [fd00::60:1]:53/udp and its 3 backends".to_owned(),
            reason: "map np_backend6 is full with 2 entries: raise --max-backends and restart netpath-agent".to_owned(),
        }]
    );
}
