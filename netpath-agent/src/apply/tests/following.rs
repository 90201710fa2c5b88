//! Following a plan's changes is applying it whole: the same plans, one after the other, by both ways into maps of their own.

use std::collections::HashSet;

use netpath_common::abi::{
    conntrack::v4::{Connection, Tuple},
    service::{FLAG_ADDRESS, FLAG_HOST_PORT, FLAG_LOAD_BALANCER, FLAG_OUTSIDE, HOST_PORT_SETS},
    source::{ADMITTED, v4::SourceKey},
};
use proptest::{collection::vec, prelude::*, sample::select};

use super::{connections::both_ways, *};
use crate::plan;

/// The ports of a pod, where it has them: in the way of NodePorts.
const HOST_PORTS: [Frontend; 4] = [at(1, 17), at(2, 6), at(3, 17), at(4, 6)];

const fn at(last: u8, protocol: u8) -> Frontend {
    Frontend {
        address: [10, 96, 0, last],
        port: 80,
        protocol,
        reserved: 0,
    }
}

fn backends() -> impl Strategy<Value = Vec<Backend>> {
    vec(1u8..5, 0..4).prop_map(|lasts| {
        let lasts: std::collections::BTreeSet<u8> = lasts.into_iter().collect();
        lasts.into_iter().map(backend).collect()
    })
}

fn a_service() -> impl Strategy<Value = ServicePlan<V4>> {
    let flags = select(vec![0, FLAG_NODE_PORT, FLAG_LOAD_BALANCER]);
    let rest = (select(vec![0u32, 0, 7, 8]), any::<bool>());
    (backends(), backends(), flags, rest).prop_map(|(backends, outside, flags, (sources, maglev))| ServicePlan {
        outside: outside.into(),
        maglev,
        sources,
        ..ServicePlan::alike(flags, backends)
    })
}

/// Frontends of both protocols on four addresses, lists and addresses of services.
fn a_plan() -> impl Strategy<Value = Plan> {
    let frontend = (1u8..5, select(vec![6u8, 17])).prop_map(|(last, protocol)| at(last, protocol));
    let services = proptest::collection::btree_map(frontend, a_service(), 0..6);
    let address = (1u8..4).prop_map(|last| [10, 96, 0, last]);
    let flags = select(vec![FLAG_ADDRESS, FLAG_ADDRESS | FLAG_OUTSIDE]);
    let addresses = proptest::collection::btree_map(address, flags, 0..3);
    (services, addresses, vec(1u8..3, 0..3)).prop_map(|(services, addresses, listed)| {
        let mut plan = plan(services);
        plan.v4.addresses = addresses;
        let lists = plan.v4.services.values().map(|service| service.sources);
        for sources in lists.filter(|sources| *sources != 0) {
            let entries = listed.iter().map(|last| {
                let key = SourceKey {
                    prefix_len: 32 + 32,
                    sources,
                    address: [192, 0, 2, *last],
                };
                (key, ADMITTED)
            });
            plan.v4.sources.extend(entries);
        }
        plan
    })
}

/// Something that happens before a plan is applied.
#[derive(Clone, Copy, Debug)]
enum Before {
    Nothing,
    /// A pod with hostPorts comes.
    PodComes,
    /// And goes.
    PodGoes,
    /// The maps are read anew.
    Adopted,
    /// The node's routes change too.
    OtherGround,
}

/// Plans, each with what happens before it, and whether it is there at all: what was refused must be tried again without one.
fn events() -> impl Strategy<Value = Vec<(Before, bool, Plan)>> {
    let before = select(vec![
        Before::Nothing,
        Before::PodComes,
        Before::PodComes,
        Before::PodGoes,
        Before::PodGoes,
        Before::Adopted,
        Before::OtherGround,
    ]);
    vec((before, any::<bool>(), a_plan()), 1..12)
}

/// Maps and who fills them.
struct Side {
    scratch: Scratch,
    applier: Applier,
}

impl Side {
    fn new() -> Self {
        let scratch = maps(16, 16);
        let applier = Applier::adopt(&scratch.0).expect("maps");
        Self { scratch, applier }
    }

    fn before(&mut self, before: Before) {
        let pins = &self.scratch.0;
        let mut services = tables::services::<V4>(pins).expect("pinned");
        let mut connections = tables::connections::<V4>(pins).expect("pinned");
        for last in 1..5 {
            let client = ([10, 244, 1, 99], 40_000);
            for (tuple, connection) in both_ways::<V4>(client, at(last, 17), backend(last)) {
                connections.insert(&tuple, &connection).expect("room");
            }
        }
        for frontend in HOST_PORTS {
            let ours = services
                .get(&frontend)
                .expect("read")
                .is_some_and(|found| found.flags & FLAG_HOST_PORT != 0);
            let service = Service {
                set: HOST_PORT_SETS,
                flags: FLAG_HOST_PORT | FLAG_NODE_PORT,
                ..Service::default()
            };
            match before {
                // Where no service is, and there is room.
                Before::PodComes => drop(services.insert_new(&frontend, &service)),
                Before::PodGoes if ours => drop(services.remove(&frontend)),
                _ => {}
            }
        }
        if let Before::Adopted = before {
            self.applier.adopt_again(pins).expect("maps");
        }
    }

    /// All that the maps hold.
    fn held(&self) -> impl PartialEq + std::fmt::Debug {
        let pins = &self.scratch.0;
        let sorted = |mut connections: Vec<(Tuple, Connection)>| {
            connections.sort_by_key(|(tuple, _)| (tuple.source, tuple.destination));
            connections
        };
        let services = held(tables::services::<V4>(pins));
        let with = services.iter().filter(|(_, service)| service.maglev != 0);
        let with: HashSet<u32> = with.map(|(_, service)| service.outside_set).collect();
        // A table that nobody chooses by may stay until its set goes.
        let mut chosen_by = held(tables::maglev::<V4>(pins));
        chosen_by.retain(|(key, _)| with.contains(&key.set));
        chosen_by.sort_unstable();
        (
            tables::config(pins).expect("pinned").get().expect("read"),
            held(tables::routes::<V4>(pins)),
            services,
            chosen_by,
            held(tables::backends::<V4>(pins)),
            held(tables::sources::<V4>(pins)),
            sorted(held(tables::connections::<V4>(pins))),
        )
    }
}

/// What a report refuses; the order in which things fail says nothing.
fn errors(report: &Report) -> Vec<String> {
    let mut errors: Vec<String> = report.errors.iter().map(|failure| failure.object.clone()).collect();
    errors.sort_unstable();
    errors
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn following_the_changes_is_applying_the_plan(events in events()) {
        let (mut whole, mut following) = (Side::new(), Side::new());
        let mut last = Plan::default();
        for (before, is_new, mut plan) in events {
            if !is_new {
                plan = last.clone();
            }
            whole.before(before);
            following.before(before);
            let mut changes = plan::Changes::between(&last, &plan);
            changes.ground = last == Plan::default();
            if let Before::OtherGround = before {
                plan.v4.routes.remove(&route(3).0);
                changes.ground = true;
            } else if !changes.ground {
                plan.v4.routes = last.v4.routes.clone();
            }
            let expected = whole.applier.apply(&plan);
            let followed = following.applier.follow(&plan, &changes);
            prop_assert_eq!(errors(&followed), errors(&expected));
            prop_assert_eq!(following.applier.tidy(&plan).errors, []);
            prop_assert_eq!(following.held(), whole.held());
            last = plan;
        }
    }
}
