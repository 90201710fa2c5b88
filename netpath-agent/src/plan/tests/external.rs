//! `externalIPs`: off unless a range is allowed, and what they take from nobody.

use netpath_common::abi::service::{FLAG_EXTERNAL_IP, FLAG_LOAD_BALANCER, FLAG_NODE_PORT, FLAG_NONE_HERE};

use super::*;

fn addressed(name: &str, address: &str, external: &str, more: &str) -> String {
    service(
        name,
        &format!("clusterIP: {address}, externalIPs: [{external}], ports: [{{port: 80}}] {more}"),
    )
}

#[test]
fn without_an_allowed_range_nothing_answers_and_it_is_said() {
    let yaml =
        addressed("shop", "10.96.0.10", "198.51.100.7, 198.51.100.8", "") + &addressed("cafe", "10.96.0.11", "", "");
    let facts = NodeFacts {
        external_ip_cidrs: vec![],
        ..facts()
    };
    let plan = plan(&cluster(&format!("{NODES}---\n{yaml}")), &facts).unwrap();
    let keys: Vec<_> = plan.v4.services.into_keys().collect();
    assert_eq!(keys, [frontend("10.96.0.10", 80, TCP), frontend("10.96.0.11", 80, TCP)]);
    assert_eq!(
        said(&plan.problems),
        [
            "Service web/shop: spec.externalIPs is not served: no range is allowed, since who writes a service could take any \
          address with it (CVE-2020-8554)"
        ]
    );
    assert_eq!(plan.problems[0].severity, Severity::NotServed);
    assert!(plan.problems[0].remedy.contains("--external-ip-cidr"));
}

/// Of any type of service, under the external policy, and also on a node's own address.
#[test]
fn an_allowed_address_answers_as_external_traffic_asks() {
    let there = slice(
        "shop-1",
        "shop",
        "{addresses: [10.244.2.7], nodeName: b}",
        "{port: 8080}",
    );
    let answers = |external: &str, more: &str| {
        let plan = with_nodes(&(addressed("shop", "10.96.0.10", external, more) + &there));
        assert_eq!(plan.problems, []);
        plan.v4.services
    };
    let all = [("10.244.2.7", 8080)];
    assert_eq!(
        answers("198.51.100.7, 192.168.1.11, 198.51.100.7", ""),
        BTreeMap::from([
            (frontend("10.96.0.10", 80, TCP), served(0, &all)),
            (frontend("198.51.100.7", 80, TCP), served(FLAG_EXTERNAL_IP, &all)),
            (frontend("192.168.1.11", 80, TCP), served(FLAG_EXTERNAL_IP, &all)),
        ])
    );
    let local = ServicePlan {
        outside: Arc::default(),
        ..served(FLAG_EXTERNAL_IP | FLAG_NONE_HERE, &all)
    };
    let plan = answers(
        "198.51.100.7",
        ", externalTrafficPolicy: Local, internalTrafficPolicy: Local",
    );
    assert_eq!(plan[&frontend("198.51.100.7", 80, TCP)], local);
    assert_eq!(plan[&frontend("10.96.0.10", 80, TCP)], served(FLAG_NONE_HERE, &[]));
}

#[test]
fn what_is_not_to_be_had_is_refused_alone() {
    let yaml = addressed(
        "shop",
        "10.96.0.10",
        "203.0.113.9, 198.51.100.7, 127.0.0.1, pear, 169.254.169.254, 'fd00::8'",
        "",
    ) + &addressed("taken", "10.96.0.11", "198.51.100.7", "")
        + &addressed("other", "10.96.0.12", "192.168.1.11", ", type: NodePort")
        + &service(
            "both",
            "type: LoadBalancer, clusterIP: 10.96.0.13, externalIPs: [198.51.100.9], ports: [{port: 80, nodePort: 30080}]},
             status: {loadBalancer: {ingress: [{ip: 198.51.100.9}]}",
        );
    let plan = with_nodes(&yaml);
    assert_eq!(
        said(&plan.problems),
        [
            "Service web/shop: spec.externalIPs: \"127.0.0.1\" is a loopback address",
            "Service web/shop: spec.externalIPs: \"169.254.169.254\" is a link-local address",
            "Service web/shop: spec.externalIPs: \"pear\" is not an IP address",
            "Service web/shop: spec.externalIPs: 203.0.113.9 is in no range that is allowed",
            "Service web/shop: spec.externalIPs: fd00::8 is in no range that is allowed",
            "Service web/taken: spec.ports: TCP port 80 on 198.51.100.7 is service web/shop's already",
        ]
    );
    let flags = |address: &str, port| {
        plan.v4
            .services
            .get(&frontend(address, port, TCP))
            .map(|plan| plan.flags)
    };
    assert_eq!(flags("198.51.100.7", 80), Some(FLAG_EXTERNAL_IP));
    assert_eq!(flags("192.168.1.11", 80), Some(FLAG_EXTERNAL_IP));
    assert_eq!(flags("198.51.100.9", 80), Some(FLAG_LOAD_BALANCER), "once");
    assert_eq!(flags("192.168.1.11", 30080), Some(FLAG_NODE_PORT));
    assert_eq!(flags("203.0.113.9", 80), None);
}

#[test]
fn no_pod_and_no_cluster_address_is_taken_even_where_its_range_is_allowed() {
    let facts = NodeFacts {
        external_ip_cidrs: vec!["0.0.0.0/0".parse().unwrap()],
        ..facts()
    };
    let yaml = service("elder", "clusterIP: 10.96.0.10, ports: [{port: 80}]")
        + &addressed("shop", "10.96.0.11", "10.96.0.10, 10.96.0.99, 10.244.2.9, 9.9.9.9", "");
    let plan = plan(&cluster(&format!("{NODES}---\n{yaml}")), &facts).unwrap();
    assert_eq!(
        said(&plan.problems),
        [
            "Service web/shop: spec.externalIPs: 10.244.2.9 is in the pod subnet of node b, 10.244.2.0 to 10.244.2.255",
            "Service web/shop: spec.externalIPs: 10.96.0.10 is the cluster address of service web/elder",
            "Service web/shop: spec.externalIPs: 10.96.0.99 is in the services' range 10.96.0.0/16",
        ]
    );
    assert_eq!(plan.v4.services.len(), 3);
}
