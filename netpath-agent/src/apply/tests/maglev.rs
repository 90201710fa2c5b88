//! Tables by which every node chooses alike: there before a frontend says so, and gone when none does.

use netpath_common::abi::{
    conntrack::{
        DIRECTION_RELAYED,
        v4::{Connection, Tuple},
    },
    maglev::{MaglevBlock, MaglevKey},
    service::FLAG_RELAYED,
};

use super::{connections::open, *};

fn alike(flags: u16, backends: &[u8]) -> ServicePlan<V4> {
    ServicePlan {
        maglev: true,
        ..service(flags, backends)
    }
}

fn blocks(pins: &Pins) -> BTreeMap<MaglevKey, MaglevBlock> {
    let table = tables::maglev::<[u8; 4]>(pins).expect("pinned");
    table.entries().expect("read").into_iter().collect()
}

/// What a frontend says of its table.
fn bits(pins: &Pins, frontend: Frontend) -> u8 {
    let services = tables::services::<[u8; 4]>(pins).expect("pinned");
    services.get(&frontend).expect("read").expect("there").maglev
}

#[test]
fn a_set_has_a_table_for_as_long_as_a_frontend_chooses_by_it() {
    let scratch = maps(64, 64);
    let pins = &scratch.0;
    let mut applier = Applier::adopt(pins).expect("maps");
    let both = [
        (frontend(1, 80), alike(FLAG_NODE_PORT, &[1, 2, 3])),
        (frontend(2, 80), service(0, &[1, 2, 3])),
    ];
    let report = applier.apply(&plan(both.clone()));
    assert_eq!(report.errors, []);
    // Three hundred places and more, in blocks of 64.
    assert_eq!(report.tables[names::MAGLEV4], changes(8, 0, 0));
    assert_eq!((bits(pins, frontend(1, 80)), bits(pins, frontend(2, 80))), (9, 0));
    let set = tables::services::<[u8; 4]>(pins).expect("pinned").get(&frontend(1, 80));
    let set = set.expect("read").expect("there").outside_set;
    let held = blocks(pins);
    assert!(held.keys().copied().eq((0..8).map(|block| MaglevKey { set, block })));
    let mut shares = [0; 3];
    for slot in held.values().flat_map(|block| block.slots) {
        shares[usize::from(slot)] += 1;
    }
    shares.sort_unstable();
    assert_eq!(shares, [170, 171, 171]);

    let mut again = Applier::adopt(pins).expect("maps");
    assert_eq!(again.apply(&plan(both)).total(), Changes::default());
    assert_eq!(blocks(pins), held);
    let report = again.apply(&plan([(frontend(2, 80), service(0, &[1, 2, 3]))]));
    assert_eq!(report.tables[names::MAGLEV4], changes(0, 0, 8));
    assert_eq!(blocks(pins), BTreeMap::new());
}

#[test]
fn what_a_broken_write_left_is_written_anew() {
    let scratch = maps(64, 64);
    let pins = &scratch.0;
    let wanted = plan([(frontend(1, 80), alike(FLAG_NODE_PORT, &[1, 2]))]);
    Applier::adopt(pins).expect("maps").apply(&wanted);
    let held = blocks(pins);
    let last = *held.keys().next_back().expect("blocks");
    tables::maglev::<[u8; 4]>(pins)
        .expect("pinned")
        .remove(&last)
        .expect("there");
    Applier::adopt(pins).expect("maps").apply(&wanted);
    assert_eq!(blocks(pins), held);
}

/// A node that chooses by itself is better than none.
#[test]
fn a_table_without_room_leaves_the_service_served_and_is_tried_again() {
    let scratch = maps(64, 64);
    let pins = &scratch.0;
    let full: Vec<MaglevBlock> = vec![MaglevBlock::default(); 64 - 3];
    let keys: Vec<MaglevKey> = (0..61).map(|set| MaglevKey { set: set + 1, block: 1 }).collect();
    let mut applier = Applier::adopt(pins).expect("maps");
    let mut table = tables::maglev::<[u8; 4]>(pins).expect("pinned");
    table.insert_all(&keys, &full).expect("room");
    let wanted = plan([(frontend(1, 80), alike(FLAG_NODE_PORT, &[1, 2]))]);
    let report = applier.apply(&wanted);
    let failure = Failure {
        object: "service 10.96.0.1:80/tcp, which is served without a Maglev table,".to_owned(),
        reason: "map np_maglev4 is full with 64 entries: raise --max-maglev and restart netpath-agent".to_owned(),
    };
    assert_eq!(report.errors, [failure]);
    assert_eq!(
        serves(pins, frontend(1, 80)),
        Some((FLAG_NODE_PORT, vec![backend(1), backend(2)]))
    );
    assert_eq!(bits(pins, frontend(1, 80)), 0);
    assert_eq!(blocks(pins).len(), 61, "nothing of the table stays");
    for key in keys {
        table.remove(&key).expect("there");
    }
    let report = applier.apply(&wanted);
    assert_eq!((report.errors.len(), bits(pins, frontend(1, 80))), (0, 8));
}

/// Of flows that another node relays the frontend is that without an address; of those that are relayed here there is one entry.
#[test]
fn relayed_datagrams_stay_with_who_answers_and_no_longer() {
    let scratch = maps(64, 64);
    let pins = &scratch.0;
    let anywhere = Frontend {
        address: [0; 4],
        port: 30_053,
        protocol: 17,
        reserved: 0,
    };
    let others = Frontend {
        address: [192, 0, 2, 3],
        ..anywhere
    };
    let mut applier = Applier::adopt(pins).expect("maps");
    let serve = |backends| plan([(anywhere, alike(FLAG_RELAYED, backends))]);
    applier.apply(&serve(&[1, 2]));
    let served = open(pins, 1001, others, backend(1));
    let mut connections = tables::connections::<[u8; 4]>(pins).expect("pinned");
    let found = connections.get(&served[0]).expect("read").expect("there");
    let relayed = Tuple {
        source_port: 1002,
        ..served[0]
    };
    let one = Connection {
        direction: DIRECTION_RELAYED,
        ..found
    };
    connections.insert(&relayed, &one).expect("room");
    applier.apply(&serve(&[1, 3]));
    assert_eq!(connections.entries().expect("read").len(), 3, "backend 1 answers still");
    applier.apply(&serve(&[3]));
    assert_eq!(connections.entries().expect("read"), []);
}
