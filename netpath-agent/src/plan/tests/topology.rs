//! Endpoints that are meant for some nodes or zones, and slices that are another proxy's.

use netpath_common::abi::service::{FLAG_NODE_PORT, FLAG_NONE_HERE};

use super::*;

/// The addresses' last bytes that answer on node `a`, in zone `z1` or in none, for inside and for outside.
fn answers(spec: &str, zone: &str, endpoints: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let nodes = match zone {
        "" => NODES.to_owned(),
        zone => NODES.replacen(
            "{name: a}",
            &format!("{{name: a, labels: {{topology.kubernetes.io/zone: {zone}}}}}"),
            1,
        ),
    };
    let yaml = service("shop", spec) + &slice("shop-1", "shop", &endpoints.join(", "), "{port: 8080}");
    let plan = plan(&cluster(&format!("{nodes}---\n{yaml}")), &facts()).unwrap();
    assert_eq!(plan.problems, []);
    let served = plan.v4.services.into_values().next().unwrap();
    let last = |list: &[Backend]| list.iter().map(|backend| backend.address[3]).collect();
    (last(&served.backends), last(&served.outside))
}

/// The same of a service without policies, where inside and outside are alike.
fn meant(zone: &str, endpoints: &[&str]) -> Vec<u8> {
    let (inside, outside) = answers("clusterIP: 10.96.0.10, ports: [{port: 80}]", zone, endpoints);
    assert_eq!(inside, outside);
    inside
}

const Z1: &str = "{addresses: [10.245.1.1], hints: {forZones: [{name: z1}]}}";
const Z2: &str = "{addresses: [10.245.1.2], hints: {forZones: [{name: z2}]}}";
const BOTH_ZONES: &str = "{addresses: [10.245.1.3], hints: {forZones: [{name: z2}, {name: z1}]}}";
const NO_HINT: &str = "{addresses: [10.245.1.4]}";
const EMPTY: &str = "{addresses: [10.245.1.5], hints: {forZones: [], forNodes: []}}";
const A: &str = "{addresses: [10.245.1.6], hints: {forZones: [{name: z2}], forNodes: [{name: a}]}}";
const B: &str = "{addresses: [10.245.1.7], nodeName: a, hints: {forZones: [{name: z1}], forNodes: [{name: b}]}}";

#[test]
fn endpoints_that_are_meant_for_the_zone_are_used_alone() {
    assert_eq!(meant("z1", &[Z1, Z2, BOTH_ZONES]), [1, 3]);
    assert_eq!(meant("z2", &[Z1, Z2, BOTH_ZONES]), [2, 3]);
    assert_eq!(meant("z3", &[Z1, Z2, BOTH_ZONES]), [1, 2, 3], "for nobody here");
    assert_eq!(meant("", &[Z1, Z2, BOTH_ZONES]), [1, 2, 3], "a node of no zone");
}

#[test]
fn one_ready_endpoint_without_a_hint_makes_all_of_them_count() {
    assert_eq!(meant("z1", &[Z1, Z2, NO_HINT]), [1, 2, 4]);
    assert_eq!(meant("z1", &[Z1, Z2, EMPTY]), [1, 2, 5]);
    let starting = "{addresses: [10.245.1.4], conditions: {ready: false, serving: false}}";
    assert_eq!(meant("z1", &[Z1, Z2, starting]), [1], "it is not asked for one before");
}

#[test]
fn a_hint_for_the_node_wins_over_one_for_the_zone_and_over_where_an_endpoint_is() {
    assert_eq!(meant("z1", &[A, B]), [6]);
    assert_eq!(meant("z1", &[B]), [7], "for another node, but for this zone");
    assert_eq!(meant("z2", &[B]), [7], "for nobody here");
    assert_eq!(meant("z1", &[A, B, Z2]), [7], "not every endpoint has a node's");
}

#[test]
fn endpoints_on_their_way_out_are_not_asked_for_hints() {
    let leaving = |last: u8, zone: &str| {
        format!(
            "{{addresses: [10.245.1.{last}], conditions: {{ready: false, serving: true, terminating: true}},
              hints: {{forZones: [{{name: {zone}}}]}}}}"
        )
    };
    assert_eq!(meant("z1", &[&leaving(8, "z1"), &leaving(9, "z2")]), [8, 9]);
    assert_eq!(
        meant("z1", &[&leaving(8, "z1"), Z2]),
        [2],
        "the ready ones are elsewhere"
    );
}

#[test]
fn a_local_policy_asks_where_endpoints_are_and_not_for_whom() {
    let here = "{addresses: [10.245.1.8], nodeName: a, hints: {forZones: [{name: z2}]}}";
    let there = "{addresses: [10.244.2.9], nodeName: b, hints: {forZones: [{name: z1}]}}";
    let inside = "clusterIP: 10.96.0.10, internalTrafficPolicy: Local, ports: [{port: 80}]";
    assert_eq!(answers(inside, "z1", &[here, there]), (vec![8], vec![8]));
    let outside = "type: LoadBalancer, externalTrafficPolicy: Local, ports: [{port: 80}],
        clusterIP: 10.96.0.10}, status: {loadBalancer: {ingress: [{ip: 9.9.9.9}]}";
    assert_eq!(answers(outside, "z1", &[here, there]), (vec![9], vec![8]));
}

/// The flags say that there is nobody here, and not that there is nobody.
#[test]
fn hints_leave_the_other_rules_alone() {
    let yaml = service(
        "dns",
        "type: NodePort, externalTrafficPolicy: Local, clusterIP: 10.96.0.10, trafficDistribution: PreferSameZone,
         ports: [{port: 53, protocol: UDP, nodePort: 30053}]",
    ) + &slice(
        "dns-1",
        "dns",
        &[A, B.replace("nodeName: a, ", "").as_str()].join(", "),
        "{port: 53, protocol: UDP}",
    );
    let plan = with_nodes(&yaml);
    assert_eq!(plan.problems, []);
    let all = datagrams(0, &[("10.245.1.6", 53), ("10.245.1.7", 53)]).backends;
    let meant = ServicePlan {
        serving: all,
        ..served(0, &[("10.245.1.6", 53)])
    };
    assert_eq!(
        plan.v4.services[&frontend("10.96.0.10", 53, UDP)],
        meant,
        "flows to all others stay"
    );
    assert_eq!(
        plan.v4.services[&frontend("192.168.1.11", 30053, UDP)],
        ServicePlan {
            flags: FLAG_NODE_PORT | FLAG_NONE_HERE,
            outside: Arc::default(),
            ..meant
        }
    );
}

/// Controllers copy a service's labels to its slices; a slice can also be labelled by itself.
#[test]
fn slices_of_another_proxy_are_left_alone_without_a_word() {
    for label in [
        "service.kubernetes.io/service-proxy-name",
        "service.kubernetes.io/headless",
    ] {
        let other = slice(
            "shop-2",
            "shop",
            "{addresses: [10.245.1.9]}, {addresses: [127.0.0.1]}",
            "{port: 8080}",
        )
        .replace(
            "kubernetes.io/service-name: shop",
            &format!("kubernetes.io/service-name: shop, {label}: x"),
        );
        let yaml = service("shop", "clusterIP: 10.96.0.10, ports: [{port: 80}]")
            + &slice("shop-1", "shop", "{addresses: [10.245.1.4]}", "{port: 8080}")
            + &other;
        let plan = with_nodes(&yaml);
        let only = BTreeMap::from([(frontend("10.96.0.10", 80, TCP), served(0, &[("10.245.1.4", 8080)]))]);
        assert_eq!((plan.v4.services, plan.problems), (only, vec![]), "{label}");
    }
}
