//! Lists of clients that may connect, and the addresses that services have.

use netpath_common::abi::{
    service::{FLAG_ADDRESS, FLAG_LOAD_BALANCER},
    source::{ADMITTED, v4::SourceKey},
};

use super::*;

fn range(sources: u32, last: u8) -> (SourceKey, u32) {
    let key = SourceKey {
        prefix_len: 32 + 32,
        sources,
        address: [192, 0, 2, last],
    };
    (key, ADMITTED)
}

/// A frontend for the clients of a list.
fn restricted(sources: u32, ranges: &[(SourceKey, u32)]) -> Plan {
    let served = ServicePlan {
        sources,
        ..service(FLAG_LOAD_BALANCER, &[1])
    };
    let mut plan = plan([(frontend(1, 80), served)]);
    plan.v4.sources = ranges.iter().copied().collect();
    plan
}

fn named(pins: &Pins) -> Option<u32> {
    let table = tables::services::<[u8; 4]>(pins).expect("pinned");
    table
        .get(&frontend(1, 80))
        .expect("read")
        .map(|service| service.sources)
}

#[test]
fn a_list_comes_before_its_frontend_and_goes_after_it() {
    let scratch = maps(16, 16);
    let pins = &scratch.0;
    let mut applier = Applier::adopt(pins).expect("maps");
    let first = [range(7, 1), range(7, 2)];
    assert_eq!(applier.apply(&restricted(7, &first)).errors, []);
    assert_eq!(
        (named(pins), held(tables::sources::<V4>(pins))),
        (Some(7), first.to_vec())
    );
    let report = Applier::adopt(pins).expect("maps").apply(&restricted(7, &first));
    assert_eq!(report, Report::default(), "a restart adopts it");

    let next = [range(8, 2)];
    let report = applier.apply(&restricted(8, &next));
    assert_eq!(report.errors, []);
    assert_eq!(report.tables[names::SOURCE4], changes(1, 0, 2));
    assert_eq!(
        (named(pins), held(tables::sources::<V4>(pins))),
        (Some(8), next.to_vec())
    );

    // What others left in a list that is wanted goes.
    let (stranger, _) = range(8, 99);
    tables::sources::<[u8; 4]>(pins)
        .expect("pinned")
        .insert(&stranger, &ADMITTED)
        .expect("room");
    applier.adopt_again(pins).expect("maps");
    applier.apply(&restricted(8, &next));
    assert_eq!(held(tables::sources::<V4>(pins)), next);

    assert_eq!(applier.apply(&restricted(0, &[])).errors, []);
    assert_eq!((named(pins), held(tables::sources::<V4>(pins))), (Some(0), vec![]));
}

/// Half a list would keep clients out that may connect.
#[test]
fn a_list_that_does_not_fit_leaves_its_frontend_as_it_is() {
    let scratch = maps(16, 16);
    let pins = &scratch.0;
    let mut applier = Applier::adopt(pins).expect("maps");
    let first = [range(7, 1), range(7, 2)];
    applier.apply(&restricted(7, &first));
    let large: Vec<_> = (1..9).map(|last| range(9, last)).collect();
    let report = applier.apply(&restricted(9, &large));
    assert_eq!(report.errors[0].object, "service 10.96.0.1:80/tcp and its 1 backends");
    assert_eq!(
        report.errors[0].reason,
        "map np_source4 is full with 4 entries: raise --max-sources and restart netpath-agent"
    );
    assert_eq!(named(pins), Some(7));
    assert!(
        first
            .iter()
            .all(|entry| held(tables::sources::<V4>(pins)).contains(entry))
    );
    // Two fit beside the old ones.
    assert_eq!(applier.apply(&restricted(9, &large[..2])).errors, []);
    assert_eq!(
        (named(pins), held(tables::sources::<V4>(pins))),
        (Some(9), large[..2].to_vec())
    );
}

#[test]
fn a_service_s_address_is_an_entry_of_its_own() {
    let scratch = maps(16, 16);
    let pins = &scratch.0;
    let mut applier = Applier::adopt(pins).expect("maps");
    let mut with = plan([(frontend(1, 80), service(0, &[1]))]);
    with.v4.addresses = [([10, 96, 0, 1], FLAG_ADDRESS)].into();
    let address = Frontend {
        address: [10, 96, 0, 1],
        ..Frontend::default()
    };
    assert_eq!(applier.apply(&with).errors, []);
    assert_eq!(serves(pins, address), Some((FLAG_ADDRESS, vec![])));
    assert_eq!(Applier::adopt(pins).expect("maps").apply(&with), Report::default());
    assert_eq!(applier.apply(&plan([(frontend(1, 80), service(0, &[1]))])).errors, []);
    assert_eq!(serves(pins, address), None);
    assert!(serves(pins, frontend(1, 80)).is_some());
}
