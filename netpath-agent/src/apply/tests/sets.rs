//! Sets of backends: one for each list, under a number that follows from what is in it.

use netpath_common::abi::service::FLAG_NODE_PORT;

use super::*;

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
    let sets = held(tables::backends::<V4>(pins));
    assert!(sets.iter().all(|(key, _)| key.set == after.set), "{sets:?}");

    // The first list again: its number is the first again, also for an agent that never saw it.
    let mut applier = Applier::adopt(pins).expect("maps");
    applier.apply(&plan([(frontend(1, 80), service(0, &[1, 2]))]));
    assert_eq!(services.get(&frontend(1, 80)).expect("read"), Some(before));
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
    assert_eq!(held(tables::backends::<V4>(pins)).len(), 3);
    applier.apply(&plan([]));
    assert_eq!(held(tables::backends::<V4>(pins)), []);
}
