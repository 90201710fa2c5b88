//! Status against real maps and links. The programs must be built: `cargo xtask build-ebpf`.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};

use netpath_common::{
    abi::{
        ABI_VERSION,
        bridge::Port,
        config::Config,
        endpoint::{Endpoint, KIND_HOST, KIND_POD},
        route::{
            self, VIA_TUNNEL,
            v4::{Route, RouteKey},
        },
        service::{
            self as abi, BackendKey, FLAG_ADDRESS, FLAG_EXTERNAL_IP, FLAG_NODE_PORT, FLAG_NONE_HERE, Service,
            v4::{Backend, Frontend},
        },
    },
    hook::Hook,
};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

use super::{state::Status, status::look};
use crate::{
    datapath::{attach::attach, cgroup, load::load, pins::Pins, scratch::Scratch, sizes::Sizes, tables},
    family::V6,
};

/// An address where nobody answers.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}

fn loaded(max_routes: u32) -> Scratch {
    let scratch = Scratch::fresh();
    let sizes = Sizes {
        max_services: 16,
        max_backends: 16,
        max_maglev: 64,
        max_sources: 64,
        max_endpoints: 16,
        max_routes,
        max_connections: 256,
        max_affinities: 64,
        max_fragments: 64,
        max_held_fragments: 16,
        max_sockets: 64,
    };
    load(&scratch.0, &sizes).expect("programs that load");
    scratch
}

/// The problems beside that of the agent, which no test here runs.
fn problems(status: &Status) -> Vec<&str> {
    let all = status.problems.iter().map(String::as_str);
    all.filter(|problem| !problem.starts_with("netpath-agent does not answer at "))
        .collect()
}

/// A node whose every device is `lo`, with a pod, a route and two services.
fn fill(pins: &Pins) {
    let config = Config {
        abi_version: ABI_VERSION,
        uplink_ifindex: 1,
        overlay_ifindex: 1,
        bridge_ifindex: 1,
        vni: 78,
        vxlan_port: 4789,
        uplink_mtu: 1500,
        pod_mtu: 1450,
        nat_port_min: 49152,
        nat_port_max: 65535,
        node4: [192, 0, 2, 1],
        gateway4: [10, 244, 1, 1],
        node6: wide("2001:db8::1"),
        gateway6: wide("fd00:244:1::1"),
        ..Config::default()
    };
    tables::config(pins).expect("pinned").set(&config).expect("written");
    let mut endpoints = tables::endpoints::<[u8; 4]>(pins).expect("pinned");
    let mac = [2, 0, 0, 0, 0, 0xaa];
    let pod = Endpoint {
        ifindex: 1,
        mac,
        kind: KIND_POD,
    };
    endpoints.insert(&[10, 244, 1, 2], &pod).expect("room");
    let host = Endpoint {
        kind: KIND_HOST,
        ..Endpoint::default()
    };
    endpoints.insert(&[192, 0, 2, 1], &host).expect("room");
    let port = Port {
        mac,
        address4: [10, 244, 1, 2],
        address6: wide("fd00:244:1::2"),
        ..Port::default()
    };
    tables::endpoints::<V6>(pins)
        .expect("pinned")
        .insert(&wide("fd00:244:1::2"), &pod)
        .expect("room");
    tables::bridge(pins).expect("pinned").insert(&1, &port).expect("room");
    let key = RouteKey {
        address: [10, 244, 2, 0],
        prefix_len: 24,
    };
    let route = Route {
        node: [198, 51, 100, 7],
        via: VIA_TUNNEL,
        ..Route::default()
    };
    tables::routes::<[u8; 4]>(pins)
        .expect("pinned")
        .insert(&key, &route)
        .expect("room");
    let mut services = tables::services::<[u8; 4]>(pins).expect("pinned");
    let frontend = |last, port| Frontend {
        address: [10, 96, 0, last],
        port,
        protocol: 17,
        reserved: 0,
    };
    let one = Service {
        set: 5,
        count: 1,
        affinity: 7,
        affinity_timeout: 10_800,
        flags: FLAG_NODE_PORT | FLAG_NONE_HERE,
        ..Service::default()
    };
    services.insert(&frontend(1, 53), &one).expect("room");
    let external = Service {
        flags: FLAG_EXTERNAL_IP,
        sources: 9,
        ..Service::default()
    };
    let address = Service {
        flags: FLAG_ADDRESS,
        ..Service::default()
    };
    let whole = Frontend {
        port: 0,
        protocol: 0,
        ..frontend(1, 53)
    };
    services.insert(&whole, &address).expect("room");
    let messages = Frontend {
        protocol: 132,
        ..frontend(2, 54)
    };
    services.insert(&messages, &external).expect("room");
    let backend = Backend {
        address: [10, 244, 1, 2],
        port: 5353,
        ..Backend::default()
    };
    let place = BackendKey { set: 5, slot: 0 };
    tables::backends::<[u8; 4]>(pins)
        .expect("pinned")
        .insert(&place, &backend)
        .expect("room");
}

/// A way through a tunnel of IPv4 and a service, in IPv6.
fn fill_ipv6(pins: &Pins) {
    let key = route::v6::RouteKey {
        address: wide("fd00:244:2::"),
        prefix_len: 64,
    };
    let way = route::v6::Route {
        node: wide("::ffff:198.51.100.7"),
        via: VIA_TUNNEL,
        ..route::v6::Route::default()
    };
    let mut routes = tables::routes::<V6>(pins).expect("pinned");
    routes.insert(&key, &way).expect("room");
    let frontend = abi::v6::Frontend {
        address: wide("fd00:96::10"),
        port: 80,
        protocol: 6,
        reserved: 0,
    };
    let service = Service {
        set: 5,
        count: 1,
        outside_set: 5,
        outside_count: 1,
        ..Service::default()
    };
    let mut services = tables::services::<V6>(pins).expect("pinned");
    services.insert(&frontend, &service).expect("room");
    let backend = abi::v6::Backend {
        address: wide("fd00:244:1::2"),
        port: 8080,
        ..abi::v6::Backend::default()
    };
    let mut backends = tables::backends::<V6>(pins).expect("pinned");
    backends
        .insert(&BackendKey { set: 5, slot: 0 }, &backend)
        .expect("room");
}

fn wide(address: &str) -> V6 {
    address.parse::<Ipv6Addr>().expect("an address").octets()
}

#[test]
fn a_node_without_programs_is_one_problem() {
    let scratch = Scratch::fresh();
    let status = look(&scratch.0, nobody());
    let problems = problems(&status);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].starts_with("map np_config is not pinned at "),
        "{problems:?}"
    );
    assert!(status.to_string().starts_with("Problems:\n"));
}

#[test]
fn a_whole_node_is_told_whole() {
    unshare(CloneFlags::CLONE_NEWNET).expect("root");
    let scratch = loaded(64);
    let pins = &scratch.0;
    fill(pins);
    fill_ipv6(pins);
    let hooks = [
        Hook::FromPod,
        Hook::FromOverlay,
        Hook::FromWire,
        Hook::ToWire,
        Hook::FromHost,
    ];
    for hook in hooks {
        attach(pins, hook, "lo").expect("attached");
    }
    let root = cgroup::root(None).expect("a cgroup2");
    for hook in cgroup::hooks() {
        cgroup::attach(pins, hook, &root).expect("attached");
    }
    let status = look(pins, nobody());
    assert_eq!(problems(&status), [""; 0]);

    let told = serde_json::to_value(&status).expect("JSON");
    assert_eq!(told["agent"]["state"], "unreachable");
    assert_eq!(
        told["node"],
        json!({
            "addresses": ["192.0.2.1", "2001:db8::1"], "gateways": ["10.244.1.1", "fd00:244:1::1"], "uplink": "lo", "overlay": "lo", "bridge": "lo",
            "uplinkMtu": 1500, "podMtu": 1450, "vni": 78, "vxlanPort": 4789, "natPorts": [49152, 65535],
        })
    );
    assert_eq!(told["hostAddresses"], json!(["192.0.2.1"]));
    assert_eq!(
        told["pods"],
        json!([
            { "address": "10.244.1.2", "mac": "02:00:00:00:00:aa", "device": "lo" },
            { "address": "fd00:244:1::2", "mac": "02:00:00:00:00:aa", "device": "lo" },
        ])
    );
    assert_eq!(
        told["routes"],
        json!([
            { "subnet": "10.244.2.0/24", "via": "tunnel", "node": "198.51.100.7", "nextHop": null },
            { "subnet": "fd00:244:2::/64", "via": "tunnel", "node": "198.51.100.7", "nextHop": null },
        ])
    );
    assert_eq!(
        told["services"],
        json!([
            {
                "frontend": "10.96.0.1:53", "protocol": "udp", "nodePort": true, "hostPort": false, "loadBalancer": false, "externalIp": false,
                "relayed": false, "maglev": false,
                "affinityTimeout": 10800, "backends": ["10.244.1.2:5353"], "outside": [], "noneHere": true, "restricted": false,
            },
            {
                "frontend": "10.96.0.2:54", "protocol": "sctp", "nodePort": false, "hostPort": false, "loadBalancer": false, "externalIp": true,
                "relayed": false, "maglev": false,
                "affinityTimeout": null, "backends": [], "outside": null, "noneHere": false, "restricted": true,
            },
            {
                "frontend": "[fd00:96::10]:80", "protocol": "tcp", "nodePort": false, "hostPort": false, "loadBalancer": false, "externalIp": false,
                "relayed": false, "maglev": false,
                "affinityTimeout": null, "backends": ["[fd00:244:1::2]:8080"], "outside": null, "noneHere": false, "restricted": false,
            },
        ])
    );
    assert_eq!(
        told["links"].as_array().map(Vec::len),
        Some(hooks.len() + cgroup::hooks().count())
    );
    for (place, device, hook) in [(0, "cgroup", "connect4"), (8, "lo", "from_pod")] {
        let line = json!({ "device": device, "hook": hook, "attached": true });
        assert_eq!(told["links"][place], line);
    }
    let conntrack = told["maps"]
        .as_array()
        .and_then(|maps| maps.iter().find(|map| map["map"] == "np_conntrack4"));
    assert_eq!(
        conntrack,
        Some(&json!({ "map": "np_conntrack4", "entries": 0, "capacity": 256, "evicts": true }))
    );

    let text = status.to_string();
    for line in [
        "node        192.0.2.1 2001:db8::1 on lo, MTU 1500",
        "pods        gateway 10.244.1.1 fd00:244:1::1 on lo, MTU 1450",
        "tunnel      VXLAN 78 on UDP port 4789, lo",
        "  10.244.1.2     02:00:00:00:00:aa  lo",
        "  fd00:244:1::2  02:00:00:00:00:aa  lo",
        "  10.244.2.0/24    tunnel  198.51.100.7  -",
        "  fd00:244:2::/64  tunnel  198.51.100.7  -",
        "  10.96.0.1:53/udp      NodePort sticky 10800 s  10.244.1.2:5353; from outside none here: dropped",
        "  10.96.0.2:54/sctp     externalIP for some      none: refused",
        "  [fd00:96::10]:80/tcp                           [fd00:244:1::2]:8080",
        "  lo      from_wire     attached",
        "  cgroup  connect4      attached",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line:?} is missing in\n{text}"
        );
    }
}

#[test]
fn what_is_wrong_is_said() {
    unshare(CloneFlags::CLONE_NEWNET).expect("root");
    let scratch = loaded(1);
    let pins = &scratch.0;
    fill(pins);
    for hook in [Hook::FromOverlay, Hook::FromWire, Hook::ToWire, Hook::FromHost] {
        attach(pins, hook, "lo").expect("attached");
    }
    let root = cgroup::root(None).expect("a cgroup2");
    for hook in [Hook::Connect4, Hook::Recvmsg4, Hook::Connect6, Hook::Recvmsg6] {
        cgroup::attach(pins, hook, &root).expect("attached");
    }
    let mut backends = tables::backends::<[u8; 4]>(pins).expect("pinned");
    backends.remove(&BackendKey { set: 5, slot: 0 }).expect("removed");
    let gone = Endpoint {
        ifindex: 4_000_000,
        kind: KIND_POD,
        ..Endpoint::default()
    };
    let mut endpoints = tables::endpoints::<[u8; 4]>(pins).expect("pinned");
    endpoints.insert(&[10, 244, 1, 3], &gone).expect("room");
    assert_eq!(
        problems(&look(pins, nobody())),
        [
            "pod 10.244.1.3: its device (index 4000000) is gone; the runtime's next CNI DEL or GC clears the entry",
            "service 10.96.0.1:53: set 5 has 0 backends where 1 belong; restart netpath-agent, which mends it",
            "map np_route4 holds 1 of 1 entries; beyond, new entries are refused: raise --max-routes and restart \
             netpath-agent",
            "programs sendmsg4, getpeername4, sendmsg6, getpeername6 are on no cgroup: the node's own processes reach services' \
             addresses through the bridge alone, and no NodePort or hostPort on the node's own addresses; netpath-agent's log \
             says why, see --cgroup-root",
            "program from_pod is not on lo: restart netpath-agent; if lo is a pod's, delete the pod",
        ]
    );
}
