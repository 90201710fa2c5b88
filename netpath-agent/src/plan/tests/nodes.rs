//! Configuration, own addresses and the ways to other nodes.

use netpath_common::abi::{ABI_VERSION, endpoint::KIND_HOST};

use super::*;

fn link(device: u32) -> Way {
    Way::Link { device }
}

fn kernel_route(destination: &str, way: Way) -> KernelRoute {
    KernelRoute {
        destination: destination.parse().unwrap(),
        way,
        source: "10.244.1.1".parse().unwrap(),
    }
}

#[test]
fn three_nodes_fill_the_tables_of_one() {
    let host = Endpoint {
        ifindex: 0,
        mac: [2, 0, 0, 0, 0, 4],
        kind: KIND_HOST,
    };
    let direct = Route {
        node: [192, 168, 1, 12],
        next_hop: [192, 168, 1, 12],
        via: 1,
        reserved: [0; 3],
    };
    let tunnel = Route {
        node: [192, 168, 2, 13],
        next_hop: [192, 168, 1, 1],
        via: 2,
        reserved: [0; 3],
    };
    let local = Route {
        node: [192, 168, 1, 11],
        next_hop: [0; 4],
        via: 3,
        reserved: [0; 3],
    };
    let services = Route {
        node: [0; 4],
        next_hop: [0; 4],
        via: 4,
        reserved: [0; 3],
    };
    let to_c = Way::Tunnel {
        device: 3,
        vni: 78,
        local: "192.168.1.11".parse().unwrap(),
        remote: "192.168.2.13".parse().unwrap(),
    };
    let to_b = Way::Gateway {
        device: 2,
        gateway: "192.168.1.12".parse().unwrap(),
    };
    assert_eq!(
        plan(&cluster(NODES), &facts()),
        Ok(Plan {
            health_check_addresses: [Ipv4Addr::UNSPECIFIED.into()].into(),
            config: Config {
                abi_version: ABI_VERSION,
                hash_seed: 0x5eed,
                netns_cookie: 0xc00_c1e,
                uplink_ifindex: 2,
                overlay_ifindex: 3,
                bridge_ifindex: 4,
                vni: 78,
                vxlan_port: 8472,
                uplink_mtu: 1500,
                pod_mtu: 1450,
                nat_port_min: 49152,
                nat_port_max: 65535,
                uplink_mac: [2, 0, 0, 0, 0, 2],
                bridge_mac: [2, 0, 0, 0, 0, 4],
                overlay_mac: [2, 0, 0, 0, 0, 3],
                node4: [192, 168, 1, 11],
                gateway4: [10, 244, 1, 1],
                node6: [0; 16],
                gateway6: [0; 16],
                route_prefixes4: [24, 16, 32, 0],
                route_prefixes6: [0; 4],
                outside_seed: 0,
                direct_return: 0,
                reserved: [0; 7],
            },
            v4: FamilyPlan {
                subnets: vec!["10.244.1.0/24".parse().unwrap()],
                endpoints: BTreeMap::from([([192, 168, 1, 11], host), ([10, 244, 1, 1], host)]),
                routes: BTreeMap::from([
                    (key("10.244.1.0/24"), local),
                    (key("10.96.0.0/16"), services),
                    (key("10.244.2.0/24"), direct),
                    (key("192.168.1.12/32"), direct),
                    (key("10.244.3.0/24"), tunnel),
                    (key("192.168.2.13/32"), tunnel),
                ]),
                services: BTreeMap::new(),
                sources: BTreeMap::new(),
                addresses: BTreeMap::new(),
            },
            v6: FamilyPlan::default(),
            health_checks: BTreeMap::new(),
            leaving: false,
            kernel_routes: BTreeSet::from([
                kernel_route("10.96.0.0/16", link(4)),
                kernel_route("10.244.2.0/24", to_b),
                kernel_route("10.244.3.0/24", to_c),
            ]),
            problems: vec![],
        })
    );
}

#[test]
fn the_order_of_documents_does_not_matter() {
    let turned: Vec<_> = NODES.split("---").collect::<Vec<_>>().into_iter().rev().collect();
    assert_eq!(
        plan(&cluster(&turned.join("---")), &facts()),
        plan(&cluster(NODES), &facts())
    );
}

#[test]
fn a_node_that_is_gone_leaves_nothing_behind() {
    let three = plan(&cluster(NODES), &facts()).unwrap();
    let alone = plan(&cluster(NODES.split("---").next().unwrap()), &facts()).unwrap();
    assert_eq!(
        alone.v4.routes.keys().copied().collect::<Vec<_>>(),
        [key("10.96.0.0/16"), key("10.244.1.0/24")]
    );
    assert_eq!(
        alone.kernel_routes,
        BTreeSet::from([kernel_route("10.96.0.0/16", link(4))])
    );
    assert_eq!(
        alone.config,
        Config {
            route_prefixes4: [24, 16, 0, 0],
            ..three.config
        }
    );
}

#[test]
fn a_router_that_is_not_known_is_left_to_the_kernel() {
    let facts = NodeFacts {
        next_hops: BTreeMap::new(),
        ..facts()
    };
    let plan = plan(&cluster(NODES), &facts).unwrap();
    let route = Route {
        node: [192, 168, 2, 13],
        next_hop: [0; 4],
        via: 2,
        reserved: [0; 3],
    };
    assert_eq!(plan.v4.routes[&key("10.244.3.0/24")], route);
}

/// A node `z` beside the three, younger than all of them by its name.
fn with_z(created: &str, subnets: &str, address: &str) -> Result<Plan, Vec<Problem>> {
    let z = format!(
        "apiVersion: v1
kind: Node
metadata: {{name: z{created}}}
spec: {{podCIDRs: [{subnets}]}}
status: {{addresses: [{{type: InternalIP, address: {address}}}]}}"
    );
    plan(&cluster(&format!("{NODES}---\n{z}")), &facts())
}

#[test]
fn a_subnet_that_is_somebody_elses_is_refused_and_the_rest_goes_on() {
    let three = plan(&cluster(NODES), &facts()).unwrap();
    for (subnet, conflict) in [
        ("10.244.2.0/24", "it overlaps 10.244.2.0/24 of node b"),
        ("10.244.2.128/25", "it overlaps 10.244.2.0/24 of node b"),
        ("10.244.0.0/16", "it overlaps 10.244.3.0/24 of node c"),
        ("10.96.4.0/24", "it overlaps the services' range 10.96.0.0/16"),
        ("192.168.1.0/24", "it holds 192.168.1.11, the address of node a"),
        ("192.168.1.192/26", "it overlaps the nodes' own network 192.168.1.0/24"),
        ("192.168.2.0/24", "it holds 192.168.2.13, the address of node c"),
        ("127.0.0.0/8", "one end of it is a loopback address"),
        ("0.0.0.0/0", "one end of it is the unspecified address"),
    ] {
        let plan = with_z("", subnet, "192.168.1.99").unwrap();
        assert_eq!(
            said(&plan.problems),
            [format!("Node z: spec.podCIDRs: {subnet} is refused: {conflict}")]
        );
        assert_eq!(plan.kernel_routes, three.kernel_routes, "{subnet}");
        let to_z = Route {
            node: [192, 168, 1, 99],
            next_hop: [192, 168, 1, 99],
            via: 1,
            reserved: [0; 3],
        };
        let mut expected = three.v4.routes.clone();
        expected.insert(key("192.168.1.99/32"), to_z);
        assert_eq!(plan.v4.routes, expected, "{subnet}");
    }
}

#[test]
fn the_elder_keeps_what_two_claim() {
    let yaml = "
apiVersion: v1
kind: Node
metadata: {name: a, creationTimestamp: '2026-01-01T00:00:00Z'}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 192.168.1.11}]}
---
apiVersion: v1
kind: Node
metadata: {name: b, creationTimestamp: '2026-01-03T00:00:00Z'}
spec: {podCIDRs: [10.244.2.0/24]}
status: {addresses: [{type: InternalIP, address: 192.168.1.12}]}
---
apiVersion: v1
kind: Node
metadata: {name: c, creationTimestamp: '2026-01-02T00:00:00Z'}
spec: {podCIDRs: [10.244.2.0/24]}
status: {addresses: [{type: InternalIP, address: 192.168.1.13}]}
";
    let plan = plan(&cluster(yaml), &facts()).unwrap();
    assert_eq!(plan.v4.routes[&key("10.244.2.0/24")].node, [192, 168, 1, 13]);
    assert_eq!(
        said(&plan.problems),
        ["Node b: spec.podCIDRs: 10.244.2.0/24 is refused: it overlaps 10.244.2.0/24 of node c"]
    );
}

#[test]
fn an_address_that_two_nodes_have_is_the_elders() {
    let plan = with_z("", "10.244.9.0/24", "192.168.1.12").unwrap();
    assert_eq!(
        said(&plan.problems),
        ["Node z: status.addresses: InternalIP 192.168.1.12 is node b's already"]
    );
    assert!(!plan.v4.routes.contains_key(&key("10.244.9.0/24")));
}

#[test]
fn a_node_without_subnet_or_address_is_named() {
    let plan = with_z("", "", "192.168.1.99").unwrap();
    assert_eq!(said(&plan.problems), ["Node z: spec.podCIDRs: there is no subnet"]);
    assert!(
        plan.v4.routes.contains_key(&key("192.168.1.99/32")),
        "the node itself is reached all the same"
    );
    let plan = with_z("", "10.244.9.0/24", "fd00::1").unwrap();
    assert_eq!(
        said(&plan.problems),
        ["Node z: status.addresses: there is no InternalIP of IPv4"]
    );
    let plan = with_z("", "10.244.9.0/24, fd00:9::/64", "192.168.1.99").unwrap();
    assert_eq!(
        (plan.problems, plan.v6),
        (vec![], FamilyPlan::default()),
        "the node itself has no IPv6"
    );
    assert!(plan.v4.routes.contains_key(&key("10.244.9.0/24")));
}

#[test]
fn a_fifth_prefix_length_finds_no_place() {
    let plan = with_z("", "10.245.0.0/20, 10.246.0.0/21", "192.168.1.99").unwrap();
    assert_eq!(plan.config.route_prefixes4, [24, 20, 16, 32]);
    assert_eq!(
        said(&plan.problems),
        ["Node z: 10.246.0.0/21 is refused: routes have 4 prefix lengths already (/16, /20, /24, /32)"]
    );
    assert!(
        plan.kernel_routes
            .iter()
            .all(|route| route.destination != "10.246.0.0/21".parse().unwrap())
    );
}

#[test]
fn a_node_that_cannot_be_planned_says_why_and_changes_nothing() {
    let without = |yaml: &str| said(&plan(&cluster(yaml), &facts()).unwrap_err());
    let node = |spec: &str, address: &str| {
        format!(
            "{{apiVersion: v1, kind: Node, metadata: {{name: a}}, spec: {{{spec}}},
            status: {{addresses: [{{type: InternalIP, address: {address}}}]}}}}"
        )
    };
    assert_eq!(
        without("{apiVersion: v1, kind: List, items: []}"),
        ["Node a: there is no Node of this name"]
    );
    assert_eq!(
        without(&node("", "192.168.1.11")),
        ["Node a: spec.podCIDRs: there is no subnet"]
    );
    assert_eq!(
        without(&node("podCIDR: 10.244.1.0/24", "192.168.1.77")),
        ["Node a: its InternalIP is not an address of the uplink"]
    );
    assert_eq!(
        without(&node("podCIDR: 10.244.1.0/31", "192.168.1.11")),
        ["Node a: it has no pod subnet of its own with room for pods"]
    );
    assert_eq!(
        without(&node("podCIDR: 10.96.0.0/24", "192.168.1.11")),
        ["Node a: spec.podCIDRs: 10.96.0.0/24 is refused: it overlaps the services' range 10.96.0.0/16"]
    );
    assert_eq!(
        without(&node("podCIDR: banana", "192.168.1.11")),
        ["Node a: spec.podCIDRs: \"banana\" is not a subnet"]
    );
}
