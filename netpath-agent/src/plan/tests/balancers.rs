//! Load balancers: their addresses, and what they ask a node.

use netpath_common::abi::service::{FLAG_LOAD_BALANCER, FLAG_NODE_PORT, FLAG_NONE_HERE};

use super::*;
use crate::model::ObjectName;

/// A service of type LoadBalancer, with further fields of its spec and the addresses in its status.
fn balanced(name: &str, address: &str, spec: &str, ingress: &str) -> String {
    service(
        name,
        &format!(
            "type: LoadBalancer, clusterIP: {address}, ports: [{{port: 80}}] {spec}}},
             status: {{loadBalancer: {{ingress: [{ingress}]}}"
        ),
    )
}

#[test]
fn a_balancer_s_address_answers_unless_a_proxy_has_it() {
    let ingress = "{ip: 203.0.113.8}, {ip: 203.0.113.9, ipMode: VIP}, {ip: 203.0.113.10, ipMode: Proxy},
                   {hostname: example.org}, {ip: 192.168.1.11}";
    let yaml = balanced("shop", "10.96.0.10", ", externalTrafficPolicy: Local", ingress)
        + &slice(
            "shop-1",
            "shop",
            "{addresses: [10.244.2.7], nodeName: b}",
            "{port: 8080}",
        );
    let plan = with_nodes(&yaml);
    assert_eq!(plan.problems, []);
    let everywhere = served(0, &[("10.244.2.7", 8080)]);
    let here = ServicePlan {
        flags: FLAG_LOAD_BALANCER | FLAG_NONE_HERE,
        outside: served(0, &[]).backends,
        ..everywhere.clone()
    };
    assert_eq!(
        plan.v4.services,
        BTreeMap::from([
            (frontend("10.96.0.10", 80, TCP), everywhere),
            (frontend("203.0.113.8", 80, TCP), here.clone()),
            (frontend("203.0.113.9", 80, TCP), here.clone()),
            (frontend("192.168.1.11", 80, TCP), here),
        ])
    );
}

#[test]
fn a_balancer_s_address_may_be_shared_by_port_and_taken_from_nobody() {
    let yaml = balanced("elder", "10.96.0.10", "", "{ip: 203.0.113.8}")
        + &balanced(
            "newer",
            "10.96.0.11",
            "",
            "{ip: 203.0.113.8}, {ip: 10.96.0.10}, {ip: 10.244.2.9}, {ip: 127.0.0.1}, {ip: pear}, {ip: 'fd00::8'}",
        )
        + &service(
            "other",
            "type: LoadBalancer, clusterIP: 10.96.0.12, ports: [{port: 81}]}, status: {loadBalancer: {ingress: [{ip: 203.0.113.8}]}",
        );
    let plan = with_nodes(&yaml);
    assert_eq!(
        said(&plan.problems),
        [
            "Service web/newer: spec.ports: TCP port 80 on 203.0.113.8 is service web/elder's already",
            "Service web/newer: status.loadBalancer.ingress: \"127.0.0.1\" is a loopback address",
            "Service web/newer: status.loadBalancer.ingress: \"pear\" is not an IP address",
            "Service web/newer: status.loadBalancer.ingress: 10.244.2.9 is in the pod subnet of node b, \
             10.244.2.0 to 10.244.2.255",
            "Service web/newer: status.loadBalancer.ingress: 10.96.0.10 is the cluster address of service web/elder",
            "Service web/newer: status.loadBalancer.ingress: fd00::8 is IPv6, which the node has no pods of",
        ]
    );
    let keys: Vec<Frontend> = plan.v4.services.into_keys().collect();
    let wanted = [
        frontend("10.96.0.10", 80, TCP),
        frontend("10.96.0.11", 80, TCP),
        frontend("10.96.0.12", 81, TCP),
        frontend("203.0.113.8", 80, TCP),
        frontend("203.0.113.8", 81, TCP),
    ];
    assert_eq!(keys, wanted);
}

#[test]
fn a_health_check_counts_the_ready_endpoints_here() {
    let spec = |policy: &str| format!(", externalTrafficPolicy: {policy}, healthCheckNodePort: 31000");
    let endpoints = "{addresses: [10.244.1.5], nodeName: a}, {addresses: [10.244.1.6], nodeName: a},
        {addresses: [10.244.1.7], nodeName: a, conditions: {ready: false, serving: true, terminating: true}},
        {addresses: [10.244.2.7], nodeName: b}, {addresses: [10.244.1.9]}";
    let yaml = |policy: &str| {
        balanced("shop", "10.96.0.10", &spec(policy), "")
            + &slice("shop-1", "shop", endpoints, "{port: 8080}")
            + &slice(
                "shop-2",
                "shop",
                "{addresses: [10.244.1.6], nodeName: a}",
                "{port: 8080}",
            )
    };
    let check = |local_endpoints| HealthCheck {
        service: ObjectName::new("web", "shop"),
        local_endpoints,
    };
    assert_eq!(
        with_nodes(&yaml("Local")).health_checks,
        BTreeMap::from([(31000, check(2))])
    );
    assert_eq!(with_nodes(&yaml("Cluster")).health_checks, BTreeMap::new());
    let bare = balanced("shop", "10.96.0.10", &spec("Local"), "");
    assert_eq!(with_nodes(&bare).health_checks, BTreeMap::from([(31000, check(0))]));
}

#[test]
fn a_health_check_has_a_port_of_its_own() {
    let spec = |port: i32| format!(", externalTrafficPolicy: Local, healthCheckNodePort: {port}");
    let yaml = service(
        "a",
        "type: NodePort, clusterIP: 10.96.0.9, ports: [{port: 80, nodePort: 31000}]",
    ) + &balanced("b", "10.96.0.10", &spec(31000), "")
        + &balanced("c", "10.96.0.11", &spec(31001), "")
        + &balanced("d", "10.96.0.12", &spec(31001), "")
        + &balanced("e", "10.96.0.13", &spec(80), "")
        + &balanced("f", "10.96.0.14", &spec(-1), "");
    let plan = with_nodes(&yaml);
    assert_eq!(
        said(&plan.problems),
        [
            "Service web/b: spec.healthCheckNodePort: 31000 is service web/a's already",
            "Service web/d: spec.healthCheckNodePort: 31001 is service web/c's already",
            "Service web/e: spec.healthCheckNodePort: 80 is outside of the range 30000-32767",
            "Service web/f: spec.healthCheckNodePort: -1 is not a port number",
        ]
    );
    assert_eq!(plan.health_checks.into_keys().collect::<Vec<_>>(), [31001]);
    assert_eq!(
        plan.v4.services[&frontend("192.168.1.11", 31000, TCP)].flags,
        FLAG_NODE_PORT
    );
}

#[test]
fn a_node_that_is_about_to_go_is_leaving() {
    let leaving = |yaml: &str| plan(&cluster(yaml), &facts()).unwrap().leaving;
    assert!(!leaving(NODES));
    let tainted = NODES.replacen(
        "spec: {",
        "spec: {taints: [{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}], ",
        1,
    );
    assert!(leaving(&tainted));
    let deleted = NODES.replacen("{name: a}", "{name: a, deletionTimestamp: '2026-01-01T00:00:00Z'}", 1);
    assert!(leaving(&deleted));
}
