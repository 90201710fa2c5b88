//! Objects that contradict themselves or each other: what is wrong is named, and all else is served.

use netpath_common::abi::service::{FLAG_NODE_PORT, FLAG_NONE_HERE};

use super::*;

const SHOP: &str =
    "type: NodePort, externalTrafficPolicy: Local, clusterIP: 10.96.0.10, ports: [{port: 80, nodePort: 30080}]";

/// Behind a gateway is what listens for its node alone.
#[test]
fn an_endpoint_is_no_node_s_own_side_of_its_pods_network() {
    let yaml = service("shop", SHOP)
        + &slice(
            "shop-1",
            "shop",
            "{addresses: [10.244.1.1], nodeName: a}, {addresses: [10.244.2.1]}, {addresses: [10.244.2.7]},
             {addresses: [192.168.1.11], nodeName: a}",
            "{port: 8080}",
        );
    let plan = with_nodes(&yaml);
    assert_eq!(
        said(&plan.problems),
        [
            "EndpointSlice web/shop-1: endpoints: \"10.244.1.1\" is node a's own toward its pods",
            "EndpointSlice web/shop-1: endpoints: \"10.244.2.1\" is node b's own toward its pods",
        ]
    );
    let (host, pod) = (("192.168.1.11", 8080), ("10.244.2.7", 8080));
    assert_eq!(
        plan.v4.services[&frontend("10.96.0.10", 80, TCP)],
        served(0, &[pod, host]),
        "a pod on the node's own network has the node's address"
    );
}

#[test]
fn an_endpoint_is_on_one_node_whichever_slices_say_otherwise() {
    let elsewhere = slice(
        "shop-1",
        "shop",
        "{addresses: [10.244.2.7], nodeName: b}",
        "{port: 8080}",
    );
    let here = slice(
        "shop-2",
        "shop",
        "{addresses: [10.244.2.7], nodeName: a}, {addresses: [10.244.1.5], nodeName: a}",
        "{port: 8080}",
    );
    let plan = with_nodes(&(service("shop", SHOP) + &elsewhere + &here));
    assert_eq!(
        said(&plan.problems),
        [
            "EndpointSlice web/shop-2: endpoints: \"10.244.2.7\" is on node a here, and on node b in web/shop-1, which counts"
        ]
    );
    let (moved, own) = (("10.244.2.7", 8080), ("10.244.1.5", 8080));
    let node_port = ServicePlan {
        outside: served(0, &[own]).backends,
        ..served(FLAG_NODE_PORT, &[own, moved])
    };
    assert_eq!(plan.v4.services[&frontend("192.168.1.11", 30080, TCP)], node_port);

    // One that does not say contradicts nobody; nor does the same node.
    let silent = slice("shop-0", "shop", "{addresses: [10.244.2.7]}", "{port: 8080}");
    let same = slice(
        "shop-3",
        "shop",
        "{addresses: [10.244.2.7], nodeName: b}",
        "{port: 8080}",
    );
    let plan = with_nodes(&(service("shop", SHOP) + &silent + &elsewhere + &same));
    assert_eq!(plan.problems, []);
    assert_eq!(
        plan.v4.services[&frontend("192.168.1.11", 30080, TCP)].flags,
        FLAG_NODE_PORT | FLAG_NONE_HERE
    );
}

/// An endpoint that is ready in one slice and not in another is ready: it moves from one to the other.
#[test]
fn of_two_conditions_the_better_counts_in_any_order() {
    let ready = |name: &str| slice(name, "shop", "{addresses: [10.244.2.7], nodeName: b}", "{port: 8080}");
    let gone = |name: &str| {
        let endpoint =
            "{addresses: [10.244.2.7], nodeName: b, conditions: {ready: false, serving: false, terminating: true}}";
        slice(name, "shop", endpoint, "{port: 8080}")
    };
    for slices in [ready("shop-1") + &gone("shop-2"), gone("shop-1") + &ready("shop-2")] {
        let plan = with_nodes(&(service("shop", SHOP) + &slices));
        assert_eq!(plan.problems, []);
        assert_eq!(
            plan.v4.services[&frontend("10.96.0.10", 80, TCP)],
            served(0, &[("10.244.2.7", 8080)])
        );
    }
}

#[test]
fn a_port_has_a_name_of_its_own() {
    let yaml = service(
        "shop",
        "clusterIP: 10.96.0.10, ports: [{name: http, port: 80}, {name: http, port: 81}, {name: dns, port: 53, protocol: UDP}]",
    ) + &slice(
        "shop-1",
        "shop",
        "{addresses: [10.244.2.7]}",
        "{name: http, port: 8080}, {name: http, port: 8081}, {name: dns, port: 53, protocol: UDP}, {name: dns, port: 54}",
    );
    let plan = with_nodes(&yaml);
    assert_eq!(
        said(&plan.problems),
        [
            "EndpointSlice web/shop-1: ports: 54 has the name \"dns\" of another port",
            "EndpointSlice web/shop-1: ports: 8081 has the name \"http\" of another port",
            "Service web/shop: spec.ports: 81 has the name \"http\" of another port",
        ]
    );
    assert_eq!(
        plan.v4.services,
        BTreeMap::from([
            (frontend("10.96.0.10", 80, TCP), served(0, &[("10.244.2.7", 8080)])),
            (frontend("10.96.0.10", 53, UDP), datagrams(0, &[("10.244.2.7", 53)])),
        ])
    );
}
