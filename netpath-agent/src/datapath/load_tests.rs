//! Loading, replacing and attaching, against the running kernel. The programs must be built: `cargo xtask build-ebpf`.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use aya::maps::MapInfo;
use netpath_common::{
    abi::{
        ABI_VERSION,
        config::Config,
        conntrack::v4::{Connection, Tuple},
        endpoint::Endpoint,
    },
    hook::Hook,
    names::{self, CGROUP},
};
use nix::sched::{CloneFlags, unshare};

use super::{
    attach::{attach, detach},
    cgroup,
    load::{Kept, hooks, load, load_with_xdp, object, prepare},
    pins::Pins,
    scratch::Scratch,
    sizes::Sizes,
    sys::{self, LinkInfo, Place},
    tables,
};

/// Sizes that cost the machine little.
const SMALL: Sizes = Sizes {
    max_services: 64,
    max_backends: 64,
    max_maglev: 64,
    max_sources: 64,
    max_endpoints: 64,
    max_routes: 64,
    max_connections: 1024,
    max_affinities: 64,
    max_fragments: 64,
    max_held_fragments: 16,
    max_sockets: 64,
};

/// Gives this thread a network namespace of its own, with `lo` in it, which goes when the thread ends.
fn own_namespace() {
    unshare(CloneFlags::CLONE_NEWNET).expect("root");
}

fn link(pins: &Pins, device: &str, hook: Hook) -> Option<LinkInfo> {
    sys::pinned_link(&pins.link(device, hook)).expect("a link, or none")
}

fn map_id(pins: &Pins, name: &str) -> u32 {
    MapInfo::from_pin(pins.map(name)).expect("a pinned map").id()
}

/// The names in a folder, sorted.
fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    names.sort();
    names
}

fn sorted(names: impl IntoIterator<Item = &'static str>) -> Vec<&'static str> {
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_unstable();
    names
}

#[test]
fn a_first_load_pins_everything_and_a_second_adopts_it() {
    let scratch = Scratch::fresh();
    let pins = &scratch.0;
    let loaded = load(pins, &SMALL).expect("programs that load");
    assert_eq!(loaded.adopted, [""; 0]);
    assert_eq!(files(&pins.maps_dir()), sorted(names::MAPS.iter().copied()));
    assert_eq!(
        files(&pins.programs_dir()),
        sorted(hooks().iter().map(|hook| hook.name()))
    );
    let before: Vec<u32> = names::MAPS.iter().map(|name| map_id(pins, name)).collect();

    let loaded = load(pins, &SMALL).expect("programs that load");
    assert_eq!(loaded.adopted, sorted(names::MAPS.iter().copied()));
    assert_eq!(loaded.created, []);
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    let after: Vec<u32> = names::MAPS.iter().map(|name| map_id(pins, name)).collect();
    assert_eq!(after, before);
    assert_eq!(files(&pins.maps_dir()), sorted(names::MAPS.iter().copied()));
}

#[test]
fn a_link_stays_with_its_device_and_gets_new_programs() {
    own_namespace();
    let scratch = Scratch::fresh();
    let pins = &scratch.0;
    load(pins, &SMALL).expect("programs that load");
    let root = cgroup::root(None).expect("a cgroup2");
    for hook in hooks() {
        match cgroup::call(hook) {
            Some(_) => cgroup::attach(pins, hook, &root).expect("attached"),
            None => attach(pins, hook, "lo").expect("attached"),
        }
    }
    let calls = link(pins, CGROUP, Hook::Connect4).expect("a link");
    assert_eq!(calls.place, Some(Place::Cgroup(1)));
    cgroup::attach(pins, Hook::Connect4, &root).expect("attached");
    assert_eq!(link(pins, CGROUP, Hook::Connect4), Some(calls));

    let first = link(pins, "lo", Hook::FromWire).expect("a link");
    assert_eq!(first.ifindex(), Some(1));
    attach(pins, Hook::FromWire, "lo").expect("attached");
    assert_eq!(link(pins, "lo", Hook::FromWire), Some(first));

    let loaded = load(pins, &SMALL).expect("programs that load");
    assert_eq!(loaded.replaced, hooks().len());
    let second = link(pins, "lo", Hook::FromWire).expect("a link");
    assert_eq!(second.ifindex(), Some(1));
    assert_ne!(second.program, first.program);
    let other = link(pins, CGROUP, Hook::Connect4).expect("a link");
    assert_eq!(other.place, calls.place);
    assert_ne!(other.program, calls.program);

    // As a version with another hook would have left it.
    let outdated = [pins.programs_dir().join("to_pod"), pins.links_dir().join("lo-to_pod")];
    fs::rename(pins.program(Hook::ToWire), &outdated[0]).expect("renamed");
    fs::rename(pins.link("lo", Hook::ToWire), &outdated[1]).expect("renamed");
    let loaded = load(pins, &SMALL).expect("programs that load");
    assert_eq!(
        (loaded.outdated.as_slice(), loaded.replaced),
        (&outdated[..], hooks().len() - 1)
    );
    assert_eq!(
        files(&pins.programs_dir()),
        sorted(hooks().iter().map(|hook| hook.name()))
    );

    assert!(detach(pins, Hook::FromWire, "lo").expect("detached"));
    assert!(!detach(pins, Hook::FromWire, "lo").expect("an answer"));
    assert_eq!(link(pins, "lo", Hook::FromWire), None);
}

#[test]
fn a_link_whose_device_is_gone_is_dropped_or_replaced() {
    let scratch = Scratch::fresh();
    let pins = &scratch.0;
    load(pins, &SMALL).expect("programs that load");
    let theirs = pins.clone();
    let gone = thread::spawn(move || {
        own_namespace();
        attach(&theirs, Hook::FromWire, "lo").expect("attached");
        attach(&theirs, Hook::ToWire, "lo").expect("attached");
    });
    gone.join().expect("no panic");
    let deadline = Instant::now() + Duration::from_secs(10);
    while [Hook::FromWire, Hook::ToWire]
        .iter()
        .any(|hook| link(pins, "lo", *hook).is_some_and(|link| link.place.is_some()))
    {
        assert!(Instant::now() < deadline, "the kernel keeps the namespace");
        thread::sleep(Duration::from_millis(20));
    }

    own_namespace();
    attach(pins, Hook::FromWire, "lo").expect("attached");
    assert_eq!(
        link(pins, "lo", Hook::FromWire).and_then(|link| link.ifindex()),
        Some(1)
    );
    let loaded = load(pins, &SMALL).expect("programs that load");
    assert_eq!(loaded.replaced, 1);
    assert_eq!(loaded.dropped, [("lo".to_owned(), Hook::ToWire)]);
    assert_eq!(pins.links().expect("a list"), [("lo".to_owned(), Hook::FromWire)]);
}

#[test]
fn a_new_size_carries_everything_over() {
    let scratch = Scratch::fresh();
    let pins = &scratch.0;
    load(pins, &SMALL).expect("programs that load");
    let pod = |number: u8| Endpoint {
        ifindex: number.into(),
        ..Endpoint::default()
    };
    let mut endpoints = tables::endpoints::<[u8; 4]>(pins).expect("pinned");
    for number in 1..=64u8 {
        endpoints.insert(&[10, 244, 0, number], &pod(number)).expect("room");
    }
    let held = endpoints.entries().expect("read");
    assert_eq!(held.len(), 64);
    let adopted = map_id(pins, names::ROUTE4);

    let larger = Sizes {
        max_endpoints: 128,
        ..SMALL
    };
    let mut loaded = load(pins, &larger).expect("programs that load");
    loaded.created.sort_unstable();
    let created = [(names::BRIDGE, 0), (names::ENDPOINT4, 64), (names::ENDPOINT6, 0)];
    assert_eq!(loaded.created, created);
    assert_eq!(loaded.kept, []);
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    let endpoints = tables::endpoints::<[u8; 4]>(pins).expect("pinned");
    assert_eq!(endpoints.capacity(), 128);
    assert_eq!(endpoints.entries().expect("read"), held);
    assert_eq!(map_id(pins, names::ROUTE4), adopted);
}

#[test]
fn maps_that_programs_write_to_keep_their_size_and_say_so() {
    let scratch = Scratch::fresh();
    let pins = &scratch.0;
    load(pins, &SMALL).expect("programs that load");
    let tuple = |port: u16| Tuple {
        source: [10, 244, 0, 2],
        source_port: port,
        ..Tuple::default()
    };
    let connection = Connection {
        set: 7,
        ..Connection::default()
    };
    let mut connections = tables::connections::<[u8; 4]>(pins).expect("pinned");
    for port in 1..=200 {
        connections.insert(&tuple(port), &connection).expect("room");
    }
    let tracked = connections.entries().expect("read");
    let maps = [names::CONNTRACK4, names::CONNTRACK6, names::FRAGMENT4, names::FRAGMENT6];
    let before = maps.map(|map| map_id(pins, map));

    let other = Sizes {
        max_connections: 128,
        max_fragments: 128,
        ..SMALL
    };
    let loaded = load(pins, &other).expect("programs that load");
    assert_eq!(loaded.created, []);
    let kept = |map, entries| Kept {
        map,
        entries,
        wanted: 128,
    };
    let sizes = [1024, 1024, 64, 64];
    assert_eq!(
        loaded.kept,
        maps.iter()
            .zip(sizes)
            .map(|(map, size)| kept(*map, size))
            .collect::<Vec<_>>()
    );
    assert_eq!(
        loaded.kept[0].to_string(),
        "map np_conntrack4 keeps its room for 1024 entries, since programs write to it: --max-connections 128 takes effect \
         when the node starts again, or after `netpath uninstall`"
    );
    assert_eq!(maps.map(|map| map_id(pins, map)), before);
    let connections = tables::connections::<[u8; 4]>(pins).expect("pinned");
    assert_eq!(
        (connections.capacity(), connections.entries().expect("read")),
        (1024, tracked)
    );
}

/// A load that is killed leaves what it had made ready. The next one, which needs no such pin, removes it.
#[test]
fn what_a_broken_load_left_goes_with_the_next_one() {
    let scratch = Scratch::fresh();
    let pins = &scratch.0;
    let larger = Sizes {
        max_endpoints: 128,
        ..SMALL
    };
    load(pins, &SMALL).expect("programs that load");
    let whole = (files(&pins.maps_dir()), files(&pins.programs_dir()));
    let ids: Vec<u32> = names::MAPS.iter().map(|name| map_id(pins, name)).collect();
    let ready =
        prepare(object().expect("built programs"), pins, &larger, Hook::ALL.to_vec()).expect("programs that load");
    assert_ne!((files(&pins.maps_dir()), files(&pins.programs_dir())), whole);
    std::mem::forget(ready);

    let loaded = load(pins, &SMALL).expect("programs that load");
    assert_eq!(loaded.created, []);
    assert_eq!((files(&pins.maps_dir()), files(&pins.programs_dir())), whole);
    let after: Vec<u32> = names::MAPS.iter().map(|name| map_id(pins, name)).collect();
    assert_eq!(after, ids);
}

#[test]
fn maps_of_another_version_are_made_anew_with_what_they_hold() {
    let scratch = Scratch::fresh();
    let pins = &scratch.0;
    load(pins, &SMALL).expect("programs that load");
    let mut config = tables::config(pins).expect("pinned");
    let old = Config {
        abi_version: ABI_VERSION + 1,
        vni: 5,
        ..Config::default()
    };
    config.set(&old).expect("written");
    let mut endpoints = tables::endpoints::<[u8; 4]>(pins).expect("pinned");
    endpoints.insert(&[10, 244, 0, 1], &Endpoint::default()).expect("room");
    let before: Vec<u32> = names::MAPS.iter().map(|name| map_id(pins, name)).collect();

    let loaded = load(pins, &SMALL).expect("programs that load");
    assert_eq!(loaded.adopted, [""; 0]);
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    for (name, before) in names::MAPS.iter().zip(before) {
        assert_ne!(map_id(pins, name), before, "{name}");
    }
    assert_eq!(tables::config(pins).expect("pinned").get().expect("read"), old);
    let carried = tables::endpoints::<[u8; 4]>(pins)
        .expect("pinned")
        .entries()
        .expect("read");
    assert_eq!(carried, [([10, 244, 0, 1], Endpoint::default())]);
}

#[test]
fn what_fails_leaves_all_as_it_was() {
    own_namespace();
    let scratch = Scratch::fresh();
    let pins = &scratch.0;
    load(pins, &SMALL).expect("programs that load");
    attach(pins, Hook::FromWire, "lo").expect("attached");
    let mut endpoints = tables::endpoints::<[u8; 4]>(pins).expect("pinned");
    for number in 1..=9 {
        endpoints
            .insert(&[10, 244, 0, number], &Endpoint::default())
            .expect("room");
    }
    let state = || {
        let ids: Vec<u32> = names::MAPS.iter().map(|name| map_id(pins, name)).collect();
        (
            ids,
            link(pins, "lo", Hook::FromWire),
            files(&pins.maps_dir()),
            files(&pins.programs_dir()),
        )
    };
    let before = state();

    let small = Sizes {
        max_endpoints: 8,
        ..SMALL
    };
    let error = load(pins, &small).expect_err("nine do not fit in eight");
    assert_eq!(
        error.to_string(),
        "map np_endpoint4 holds 9 entries and would have room for 8: set --max-endpoints to 9 or more"
    );
    assert_eq!(state(), before);

    let error = prepare(b"no object", pins, &SMALL, hooks())
        .expect_err("no object")
        .to_string();
    assert!(
        error.starts_with("the eBPF object of this build cannot be used: "),
        "{error}"
    );
    let cut = &object().expect("built programs")[..4096];
    prepare(cut, pins, &SMALL, hooks()).expect_err("half an object");
    assert_eq!(state(), before);
}

#[test]
fn a_card_without_native_xdp_is_refused_with_the_remedy() {
    own_namespace();
    let scratch = Scratch::fresh();
    let pins = &scratch.0;
    load_with_xdp(pins, &SMALL).expect("programs that load");
    let error = attach(pins, Hook::FromWireXdp, "lo")
        .expect_err("lo has no driver")
        .to_string();
    assert!(error.contains("from_wire_xdp on lo"), "{error}");
    assert!(error.contains("--xdp off"), "{error}");
    assert_eq!(pins.links().expect("a list"), []);

    load(pins, &SMALL).expect("programs that load");
    assert!(!pins.program(Hook::FromWireXdp).exists());
}

#[test]
fn a_missing_device_or_program_is_named() {
    own_namespace();
    let scratch = Scratch::fresh();
    let pins = &scratch.0;
    let error = attach(pins, Hook::FromPod, "lo")
        .expect_err("nothing is loaded")
        .to_string();
    assert!(error.starts_with("program from_pod is not pinned at "), "{error}");
    let error = attach(pins, Hook::FromPod, "np-nowhere")
        .expect_err("no device")
        .to_string();
    assert!(error.starts_with("there is no device np-nowhere: "), "{error}");
}
