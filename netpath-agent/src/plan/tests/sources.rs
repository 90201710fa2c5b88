//! `loadBalancerSourceRanges`: who may connect, and where that holds.

use netpath_common::abi::{
    service::{FLAG_ADDRESS, FLAG_OUTSIDE},
    source::v4::SourceKey,
};

use super::*;

/// The lists of a service's frontends, by address; the ranges of all lists; and what is said.
type Lists = (BTreeMap<String, u32>, Vec<(String, u32)>, Vec<String>);

fn lists(facts: &NodeFacts, ranges: &str) -> Lists {
    let yaml = service(
        "shop",
        &format!(
            "type: LoadBalancer, clusterIP: 10.96.0.10, externalIPs: [198.51.100.7], loadBalancerSourceRanges: [{ranges}],
             ports: [{{port: 80, nodePort: 30080}}]}}, status: {{loadBalancer: {{ingress: [{{ip: 203.0.113.8}}]}}"
        ),
    );
    let plan = plan(&cluster(&format!("{NODES}---\n{yaml}")), facts).unwrap();
    let frontends = plan.v4.services.iter();
    let frontends = frontends.map(|(frontend, plan)| (Ipv4Addr::from(frontend.address).to_string(), plan.sources));
    let entries = plan.v4.sources.keys();
    let range = |key: &SourceKey| format!("{}/{}", Ipv4Addr::from(key.address), key.prefix_len - 32);
    let ranges = entries.map(|key| (range(key), key.sources));
    (frontends.collect(), ranges.collect(), said(&plan.problems))
}

/// The frontends with these lists, in the order of their addresses.
fn frontends(cluster_ip: u32, node_port: u32, external: u32, balancer: u32) -> BTreeMap<String, u32> {
    let all = [
        ("10.96.0.10", cluster_ip),
        ("192.168.1.11", node_port),
        ("198.51.100.7", external),
        ("203.0.113.8", balancer),
    ];
    all.map(|(address, list)| (address.to_owned(), list)).into()
}

#[test]
fn the_ranges_hold_where_clients_come_as_they_are() {
    let (found, ranges, said) = lists(&facts(), "203.0.113.0/24, \" 192.0.2.7/24 \"");
    let list = found["203.0.113.8"];
    assert_ne!(list, 0);
    assert_eq!(found, frontends(0, 0, list, list));
    assert_eq!(
        ranges,
        [("192.0.2.0/24".to_owned(), list), ("203.0.113.0/24".to_owned(), list)]
    );
    assert_eq!(said, [""; 0]);
    // The same service asks for another list.
    let (other, _, _) = lists(&facts(), "203.0.113.0/25");
    assert_ne!(other["203.0.113.8"], list);
}

#[test]
fn node_ports_are_in_it_where_that_is_set() {
    let facts = NodeFacts {
        node_ports_have_sources: true,
        ..facts()
    };
    let (found, ..) = lists(&facts, "203.0.113.0/24");
    let list = found["203.0.113.8"];
    assert_ne!(list, 0);
    assert_eq!(found, frontends(0, list, list, list));
}

#[test]
fn everyone_may_connect_without_ranges_and_with_that_of_all() {
    for ranges in ["", "10.0.0.0/8, \" 0.0.0.0/0 \""] {
        assert_eq!(
            lists(&facts(), ranges),
            (frontends(0, 0, 0, 0), vec![], vec![]),
            "{ranges}"
        );
    }
}

/// Serving the address to everyone would be worse than serving it to nobody.
#[test]
fn a_range_that_is_none_admits_nobody() {
    let (found, ranges, said) = lists(&facts(), "banana, 10.0.0.0/33, 10.0.0.1");
    let list = found["203.0.113.8"];
    assert_ne!(list, 0);
    assert_eq!((found, ranges), (frontends(0, 0, list, list), vec![]));
    assert_eq!(
        said,
        [
            "Service web/shop: spec.loadBalancerSourceRanges: \"10.0.0.0/33\" is not a range of addresses",
            "Service web/shop: spec.loadBalancerSourceRanges: \"10.0.0.1\" is not a range of addresses",
            "Service web/shop: spec.loadBalancerSourceRanges: \"banana\" is not a range of addresses",
            "Service web/shop: spec.loadBalancerSourceRanges: there is no range of IPv4, so that nobody may connect by IPv4",
        ]
    );
    let (found, ranges, said) = lists(&facts(), "banana, 10.0.0.0/8");
    assert_eq!(
        ranges,
        [("10.0.0.0/8".to_owned(), found["203.0.113.8"])],
        "the others count"
    );
    assert_eq!(said.len(), 1);
}

#[test]
fn a_service_s_addresses_are_known_whatever_it_serves_there() {
    let yaml = service(
        "shop",
        "clusterIP: 10.96.0.10, ports: [{port: 80}, {name: b, port: 81}]",
    ) + &service(
        "bare",
        "type: LoadBalancer, clusterIP: 10.96.0.11}, status: {loadBalancer: {ingress: [{ip: 9.9.9.9}]}",
    ) + &service("none", "clusterIP: None")
        + &service("other", "clusterIP: 10.96.0.10, ports: [{port: 82}]");
    let plan = with_nodes(&yaml);
    let address = |last| ([10, 96, 0, last], FLAG_ADDRESS);
    let balancer = ([9, 9, 9, 9], FLAG_ADDRESS | FLAG_OUTSIDE);
    assert_eq!(plan.v4.addresses, BTreeMap::from([address(10), address(11), balancer]));
}

/// Clouds route a load balancer's addresses to the node's own stack, which answers their health checks.
#[test]
fn an_address_that_the_node_s_stack_has_is_left_to_it() {
    let yaml = service(
        "shop",
        "type: LoadBalancer, clusterIP: 10.96.0.10, externalIPs: [198.51.100.7, 192.168.1.11], ports: [{port: 80}]},
         status: {loadBalancer: {ingress: [{ip: 203.0.113.8}, {ip: 203.0.113.77}]}",
    );
    let plan = with_nodes(&yaml);
    let keys: Vec<_> = plan.v4.addresses.into_keys().collect();
    assert_eq!(keys, [[10, 96, 0, 10], [198, 51, 100, 7], [203, 0, 113, 8]]);
    assert_eq!(plan.v4.services.len(), 5, "and served all the same");
}
