//! Pods' hostPorts, which the CNI plugin writes into the same maps.

use netpath_common::abi::service::{
    FLAG_EXTERNAL_IP, FLAG_HOST_PORT, FLAG_LOAD_BALANCER, FLAG_NODE_PORT_HERE, HOST_PORT_SETS,
};

use super::*;

/// A hostPort as the plugin writes it.
fn open(pins: &Pins, frontend: Frontend, last: u8) -> (Frontend, Service) {
    let set = HOST_PORT_SETS + u32::from(last);
    let mut sets = tables::backends::<[u8; 4]>(pins).expect("pinned");
    sets.insert(&BackendKey { set, slot: 0 }, &backend(last)).expect("room");
    let service = Service {
        set,
        count: 1,
        outside_set: set,
        outside_count: 1,
        flags: FLAG_HOST_PORT | FLAG_NODE_PORT,
        ..Service::default()
    };
    let mut services = tables::services::<[u8; 4]>(pins).expect("pinned");
    services.insert(&frontend, &service).expect("room");
    (frontend, service)
}

#[test]
fn they_stay_whatever_the_plan_is() {
    let scratch = maps(16, 16);
    let pins = &scratch.0;
    let (early, late) = (frontend(1, 7000), frontend(1, 7001));
    open(pins, early, 9);
    let mut applier = Applier::adopt(pins).expect("maps");
    let some = plan([
        (frontend(2, 80), service(0, &[1, 2])),
        (frontend(3, 80), service(0, &[3])),
    ]);
    assert_eq!(applier.apply(&some).errors, []);
    open(pins, late, 8);
    for next in [plan([(frontend(2, 80), service(0, &[4]))]), plan([])] {
        assert_eq!(applier.apply(&next).errors, []);
        assert_eq!(Applier::adopt(pins).expect("maps").apply(&next), Report::default());
        for (frontend, last) in [(early, 9), (late, 8)] {
            let flags = FLAG_HOST_PORT | FLAG_NODE_PORT;
            assert_eq!(serves(pins, frontend), Some((flags, vec![backend(last)])));
        }
    }
    let sets = held(tables::backends::<V4>(pins));
    assert_eq!(sets.len(), 2, "{sets:?}");
}

#[test]
fn a_node_port_that_a_pod_has_waits_until_that_is_gone() {
    let scratch = maps(16, 16);
    let pins = &scratch.0;
    let mut applier = Applier::adopt(pins).expect("maps");
    // After the applier has read the map: it does not know.
    let (taken, held) = open(pins, frontend(1, 30_080), 9);
    for flags in [
        FLAG_NODE_PORT,
        FLAG_NODE_PORT_HERE,
        FLAG_LOAD_BALANCER,
        FLAG_EXTERNAL_IP,
    ] {
        a_pod_s_stays(&mut applier, pins, (taken, held), flags);
    }
    let wanted = with_next(taken, FLAG_NODE_PORT);
    tables::services::<[u8; 4]>(pins)
        .expect("pinned")
        .remove(&taken)
        .expect("removed");
    assert_eq!(applier.apply(&wanted).errors, []);
    assert_eq!(serves(pins, taken), Some((FLAG_NODE_PORT, vec![backend(1)])));
}

/// A frontend of a service's with flags, and another on the next port.
fn with_next(frontend: Frontend, flags: u16) -> Plan {
    let port = frontend.port + 1;
    plan([
        (frontend, service(flags, &[1])),
        (Frontend { port, ..frontend }, service(flags, &[1])),
    ])
}

fn a_pod_s_stays(applier: &mut Applier, pins: &Pins, (taken, held): (Frontend, Service), flags: u16) {
    let wanted = with_next(taken, flags);
    for _ in 0..2 {
        let report = applier.apply(&wanted);
        assert_eq!(report.errors.len(), 1, "{report}");
        assert_eq!(report.errors[0].object, "service 10.96.0.1:30080/tcp");
        assert!(report.errors[0].reason.contains("hostPort"), "{report}");
        let found = tables::services::<[u8; 4]>(pins)
            .expect("pinned")
            .get(&taken)
            .expect("read");
        assert_eq!(found, Some(held));
    }
    assert_eq!(serves(pins, frontend(1, 30_081)), Some((flags, vec![backend(1)])));
}
