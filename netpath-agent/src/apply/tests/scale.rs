//! As many services as large clusters have.

use std::time::Instant;

use super::*;

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
