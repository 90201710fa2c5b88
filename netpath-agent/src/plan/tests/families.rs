//! Clusters of both families, and of IPv6 alone.

use netpath_common::abi::{
    endpoint::KIND_HOST,
    route::{VIA_DIRECT, VIA_LOCAL, VIA_SERVICE, VIA_TUNNEL},
    service::{self as abi, FLAG_ADDRESS, FLAG_LOAD_BALANCER, FLAG_NODE_PORT, FLAG_OUTSIDE},
};

use super::{
    dual::{DUAL, Nodes, dual_facts, gateway, kernel_routes, key6, nodes, octets, planned, route6, tunnel},
    *,
};

#[test]
fn nodes_of_both_families_fill_the_tables_of_both() {
    let plan = planned(DUAL, "");
    assert_eq!(plan.problems, []);
    let host = Endpoint {
        ifindex: 0,
        mac: [2, 0, 0, 0, 0, 4],
        kind: KIND_HOST,
    };
    let to_b = route6(VIA_DIRECT, "2001:db8:1::12", "2001:db8:1::12");
    let to_c = route6(VIA_TUNNEL, "::ffff:192.168.2.13", "::ffff:192.168.1.1");
    let to_d = route6(VIA_TUNNEL, "::ffff:192.168.1.14", "::ffff:192.168.1.14");
    let v6 = FamilyPlan {
        subnets: vec!["fd00:244:1::/64".parse().unwrap()],
        endpoints: BTreeMap::from([(octets("2001:db8:1::11"), host), (octets("fd00:244:1::1"), host)]),
        routes: BTreeMap::from([
            (key6("fd00:244:1::/64"), route6(VIA_LOCAL, "2001:db8:1::11", "::")),
            (key6("fd00:96::/108"), route6(VIA_SERVICE, "::", "::")),
            (key6("fd00:244:2::/64"), to_b),
            (key6("2001:db8:1::12/128"), to_b),
            (key6("fd00:244:3::/64"), to_c),
            (key6("2001:db8:2::13/128"), to_c),
            (key6("fd00:244:4::/64"), to_d),
        ]),
        ..FamilyPlan::default()
    };
    assert_eq!(plan.v6, v6);
    let config = plan.config;
    assert_eq!(
        (config.node4, config.node6),
        ([192, 168, 1, 11], octets("2001:db8:1::11"))
    );
    assert_eq!(
        (config.gateway4, config.gateway6),
        ([10, 244, 1, 1], octets("fd00:244:1::1"))
    );
    assert_eq!(config.route_prefixes4, [24, 16, 32, 0]);
    assert_eq!(config.route_prefixes6, [64, 108, 128, 0]);
    assert_eq!(
        plan.subnets(),
        ["10.244.1.0/24".parse().unwrap(), "fd00:244:1::/64".parse().unwrap()]
    );
    assert_eq!(
        kernel_routes(&plan),
        [
            ("fd00:96::/108".to_owned(), Way::Link { device: 4 }),
            ("fd00:244:2::/64".to_owned(), gateway("2001:db8:1::12")),
            ("fd00:244:3::/64".to_owned(), tunnel("192.168.2.13")),
            ("fd00:244:4::/64".to_owned(), tunnel("192.168.1.14")),
        ]
    );
    // What IPv4 has is what it would have alone.
    let alone = DUAL.iter().map(|(name, addresses, subnets)| {
        let v4 = |list: &str| {
            list.split(", ")
                .filter(|one| !one.contains(':'))
                .collect::<Vec<_>>()
                .join(", ")
        };
        (*name, v4(addresses), v4(subnets))
    });
    let alone: Vec<_> = alone.collect();
    let alone: Vec<_> = alone
        .iter()
        .map(|(name, addresses, subnets)| (*name, &**addresses, &**subnets))
        .collect();
    assert_eq!(planned(&alone, "").v4, plan.v4);
}

#[test]
fn a_cluster_of_ipv6_alone_has_nothing_of_ipv4() {
    let alone: Nodes<'_> = &[
        ("a", "'2001:db8:1::11'", "'fd00:244:1::/64'"),
        ("b", "'2001:db8:1::12'", "'fd00:244:2::/64'"),
        ("c", "192.168.2.13, '2001:db8:2::13'", "'fd00:244:3::/64'"),
        ("d", "192.168.1.14", "'fd00:244:4::/64'"),
    ];
    let plan = planned(alone, "");
    assert_eq!(
        said(&plan.problems),
        [
            "Node d: spec.podCIDRs: fd00:244:4::/64 is not reached: the node is on another segment, and a tunnel needs an \
          InternalIP of one family at both ends"
        ]
    );
    assert_eq!(plan.v4, FamilyPlan::default());
    let to_c = route6(VIA_TUNNEL, "2001:db8:2::13", "fe80::1");
    let to_b = route6(VIA_DIRECT, "2001:db8:1::12", "2001:db8:1::12");
    assert_eq!(
        plan.v6.routes,
        BTreeMap::from([
            (key6("fd00:244:1::/64"), route6(VIA_LOCAL, "2001:db8:1::11", "::")),
            (key6("fd00:96::/108"), route6(VIA_SERVICE, "::", "::")),
            (key6("fd00:244:2::/64"), to_b),
            (key6("2001:db8:1::12/128"), to_b),
            (key6("fd00:244:3::/64"), to_c),
            (key6("2001:db8:2::13/128"), to_c),
        ])
    );
    assert_eq!(
        kernel_routes(&plan),
        [
            ("fd00:96::/108".to_owned(), Way::Link { device: 4 }),
            ("fd00:244:2::/64".to_owned(), gateway("2001:db8:1::12")),
            ("fd00:244:3::/64".to_owned(), tunnel("2001:db8:2::13")),
        ]
    );
    let config = plan.config;
    assert_eq!((config.uplink_mtu, config.pod_mtu), (1500, 1430));
    assert_eq!(
        (config.node4, config.gateway4, config.route_prefixes4),
        ([0; 4], [0; 4], [0; 4])
    );
    assert_eq!(
        (config.node6, config.gateway6),
        (octets("2001:db8:1::11"), octets("fd00:244:1::1"))
    );
    let services = service("shop", "clusterIPs: ['fd00:96::10'], ports: [{port: 80}]")
        + &service("old", "clusterIP: 10.96.0.10, ports: [{port: 80}]");
    let plan = planned(&alone[..2], &services);
    assert_eq!(
        said(&plan.problems),
        ["Service web/old: spec.clusterIPs: 10.96.0.10 is IPv4, which the node has no pods of"]
    );
    let frontends: Vec<_> = plan.v6.services.keys().map(|frontend| frontend.address).collect();
    assert_eq!((frontends, plan.v4.services.len()), (vec![octets("fd00:96::10")], 0));
}

#[test]
fn ipv6_pods_of_a_node_without_an_address_of_it_go_by_tunnels() {
    let mut turned = DUAL.to_vec();
    turned[0].1 = "192.168.1.11";
    let plan = planned(&turned, "");
    assert_eq!(
        said(&plan.problems),
        [
            "Node a: status.addresses: there is no InternalIP of IPv6: pods reach the cluster by it, through tunnels, and nothing \
          else"
        ]
    );
    let to_b = route6(VIA_TUNNEL, "::ffff:192.168.1.12", "::ffff:192.168.1.12");
    assert_eq!(
        plan.v6.routes[&key6("fd00:244:2::/64")],
        to_b,
        "b does not send directly either"
    );
    assert_eq!(plan.config.node6, [0; 16]);
}

/// A node's object asks for pods of a family: until it has place for them all else stays as it is.
#[test]
fn a_family_that_the_node_is_to_have_is_not_left_out() {
    let refused = |node: (&str, &str, &str), facts: &NodeFacts| {
        let cluster = cluster(&nodes(&[node, DUAL[1]]));
        said(&plan(&cluster, facts).unwrap_err())[0].clone()
    };
    assert_eq!(
        refused(
            ("z", "192.168.1.11", "10.244.1.0/24, 'fd00:96::/112'"),
            &NodeFacts {
                name: "z".into(),
                ..dual_facts()
            }
        ),
        "Node z: spec.podCIDRs: fd00:96::/112 is refused: it overlaps the services' range fd00:96::/108"
    );
    assert_eq!(
        refused(
            ("a", "'2001:db8:1::11'", "10.244.1.0/24, 'fd00:244:1::/64'"),
            &dual_facts()
        ),
        "Node a: status.addresses: there is no InternalIP of IPv4"
    );
    assert_eq!(
        refused(("a", "'2001:db8:1::99'", "'fd00:244:1::/64'"), &dual_facts()),
        "Node a: its InternalIP is not an address of the uplink"
    );
    let mut narrow = dual_facts();
    narrow.uplink.mtu = 1300;
    let plan = plan(&cluster(&nodes(DUAL)), &narrow).unwrap();
    assert_eq!(
        said(&plan.problems),
        ["Node a: the uplink's MTU of 1300 leaves pods' packets 1250 bytes: IPv6 needs 1280"]
    );
    assert_eq!((plan.v6, plan.config.gateway6), (FamilyPlan::default(), [0; 16]));
}

fn frontend6(address: &str, port: u16) -> abi::v6::Frontend {
    abi::v6::Frontend {
        address: octets(address),
        port,
        protocol: TCP,
        reserved: 0,
    }
}

#[test]
fn a_service_of_both_families_answers_in_each_with_its_own_endpoints() {
    let spec = "type: LoadBalancer, clusterIPs: ['fd00:96::10', 10.96.0.10], externalTrafficPolicy: Local,
        healthCheckNodePort: 30099, loadBalancerSourceRanges: [203.0.113.0/24],
        ports: [{port: 80, nodePort: 30080}]";
    let ingress = "status: {loadBalancer: {ingress: [{ip: 203.0.113.8}, {ip: '2001:db8:113::8'}]}}";
    let service = service("shop", spec).replace("spec:", &format!("{ingress}, spec:"));
    let yaml = service
        + &slice(
            "shop-4",
            "shop",
            "{addresses: [10.244.1.5], nodeName: a}, {addresses: [10.244.2.7], nodeName: b}",
            "{port: 8080}",
        )
        + &slice(
            "shop-6",
            "shop",
            "{addresses: ['fd00:244:1::5'], nodeName: a}, {addresses: ['fd00:244:2::7'], nodeName: b}",
            "{port: 8080}",
        )
        .replace("addressType: IPv4", "addressType: IPv6");
    let plan = planned(DUAL, &yaml);
    assert_eq!(
        said(&plan.problems),
        [
            "Service web/shop: spec.loadBalancerSourceRanges: there is no range of IPv6, so that nobody may connect by IPv6"
        ]
    );
    let backend = |address: &str| abi::v6::Backend {
        address: octets(address),
        port: 8080,
        reserved: [0; 2],
    };
    let all = [backend("fd00:244:1::5"), backend("fd00:244:2::7")];
    let answers = |flags, outside: &[abi::v6::Backend]| ServicePlan::<V6> {
        flags,
        backends: all.into(),
        outside: outside.into(),
        ..ServicePlan::default()
    };
    let balanced = ServicePlan {
        sources: plan.v6.services[&frontend6("2001:db8:113::8", 80)].sources,
        ..answers(FLAG_LOAD_BALANCER, &all[..1])
    };
    assert_ne!(balanced.sources, 0);
    assert_eq!(
        plan.v6.services,
        BTreeMap::from([
            (frontend6("fd00:96::10", 80), answers(0, &all)),
            (frontend6("2001:db8:113::8", 80), balanced),
            (frontend6("2001:db8:1::11", 30080), answers(FLAG_NODE_PORT, &all[..1])),
        ])
    );
    assert_eq!(plan.v6.sources, BTreeMap::new(), "a list of nobody");
    assert_eq!(
        plan.v6.addresses,
        BTreeMap::from([
            (octets("fd00:96::10"), FLAG_ADDRESS),
            (octets("2001:db8:113::8"), FLAG_ADDRESS | FLAG_OUTSIDE),
        ])
    );
    let ports: Vec<_> = plan
        .v4
        .services
        .keys()
        .map(|key| (Ipv4Addr::from(key.address).to_string(), key.port))
        .collect();
    let expected = [("10.96.0.10", 80), ("192.168.1.11", 30080), ("203.0.113.8", 80)];
    assert_eq!(ports, expected.map(|(address, port)| (address.to_owned(), port)));
    assert_eq!(plan.health_checks[&30099].local_endpoints, 1, "one pod, in two slices");
}

#[test]
fn a_node_port_is_one_service_s_in_both_families() {
    let yaml = service(
        "four",
        "type: NodePort, clusterIP: 10.96.0.10, ports: [{port: 80, nodePort: 30080}]",
    ) + &service(
        "six",
        "type: NodePort, clusterIP: 'fd00:96::10', ports: [{port: 80, nodePort: 30080}]",
    ) + &service(
        "too",
        "clusterIP: 'fd00:96::11', externalIPs: [198.51.100.7], ports: [{port: 80}]",
    );
    let plan = planned(DUAL, &yaml);
    assert_eq!(
        said(&plan.problems),
        [
            "Service web/six: spec.ports: TCP nodePort 30080 is service web/four's already",
            "Service web/too: spec.externalIPs: 198.51.100.7 is IPv4, which the service is not",
        ]
    );
    let frontends: Vec<_> = plan.v6.services.keys().copied().collect();
    assert_eq!(frontends, [frontend6("fd00:96::10", 80), frontend6("fd00:96::11", 80)]);
    let ports: Vec<u16> = plan.v4.services.keys().map(|frontend| frontend.port).collect();
    assert_eq!(ports, [80, 30080]);
}

/// That IPv6 is not asked for costs a cluster of IPv4 nothing that could be seen.
#[test]
fn nodes_without_ipv6_are_not_placed_in_it() {
    let mut facts = facts();
    facts.name = "a".to_owned();
    let mut cluster = cluster(NODES);
    cluster.nodes.insert("z".to_owned(), Arc::default());
    let places = super::super::nodes::place(&cluster, &facts, &mut Vec::new());
    assert_eq!((places.v4.len(), places.v6.len()), (3, 0));
}
