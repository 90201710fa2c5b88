//! Session affinity, traffic policies, and services that change while they are served.

use netpath_common::abi::service::{FLAG_NODE_PORT, FLAG_NONE_HERE};

use super::*;

/// The frontends of a service with a spec, and its slice's endpoints on port 8080.
fn answers(spec: &str, endpoints: &[&str]) -> BTreeMap<Frontend, ServicePlan<V4>> {
    let yaml = service("shop", spec) + &slice("shop-1", "shop", &endpoints.join(", "), "{port: 8080}");
    let plan = with_nodes(&yaml);
    assert_eq!(plan.problems, [], "{spec}");
    plan.v4.services
}

/// A frontend with a list for inside and one for outside.
fn split(flags: u16, inside: &[(&str, u16)], outside: &[(&str, u16)]) -> ServicePlan<V4> {
    ServicePlan {
        outside: served(0, outside).backends,
        ..served(flags, inside)
    }
}

const HERE: &str = "{addresses: [10.244.1.5], nodeName: a}";
const THERE: &str = "{addresses: [10.244.2.7], nodeName: b}";
const NOWHERE: &str = "{addresses: [10.244.1.9]}";

#[test]
fn affinity_is_the_service_port_s_and_comes_and_goes() {
    let spec = |affinity: &str| {
        format!(
            "type: NodePort, clusterIP: 10.96.0.10, {affinity}
             ports: [{{name: a, port: 80, nodePort: 30080}}, {{name: b, port: 81}}]"
        )
    };
    let numbers = |affinity: &str| {
        let frontends = [("10.96.0.10", 80), ("192.168.1.11", 30080), ("10.96.0.10", 81)];
        let plan = answers(&spec(affinity), &[]);
        assert_eq!(plan.len(), 3);
        frontends.map(|(address, port)| {
            let plan = &plan[&frontend(address, port, TCP)];
            (plan.affinity, plan.affinity_timeout)
        })
    };
    let [cluster_ip, node_port, other] = numbers("sessionAffinity: ClientIP,");
    assert_eq!(cluster_ip, node_port, "one client, one backend, wherever it asks");
    assert_ne!(cluster_ip.0, 0);
    assert_ne!(cluster_ip.0, other.0, "each port by itself");
    assert_eq!((cluster_ip.1, other.1), (10_800, 10_800), "the API's default");
    let timed = numbers("sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}},");
    assert_eq!(timed, [(cluster_ip.0, 5), (cluster_ip.0, 5), (other.0, 5)]);
    for none in ["", "sessionAffinity: None,"] {
        assert_eq!(numbers(none), [(0, 0); 3]);
    }
}

#[test]
fn internal_traffic_that_stays_here_has_no_other_backends() {
    let spec =
        "type: NodePort, clusterIP: 10.96.0.10, internalTrafficPolicy: Local, ports: [{port: 80, nodePort: 30080}]";
    let plan = |flags, here: &[(&str, u16)], all: &[(&str, u16)]| {
        BTreeMap::from([
            (frontend("10.96.0.10", 80, TCP), served(flags, here)),
            (frontend("192.168.1.11", 30080, TCP), served(FLAG_NODE_PORT, all)),
        ])
    };
    let (here, there, nowhere) = (("10.244.1.5", 8080), ("10.244.2.7", 8080), ("10.244.1.9", 8080));
    assert_eq!(answers(spec, &[HERE, THERE]), plan(0, &[here], &[here, there]));
    assert_eq!(answers(spec, &[THERE]), plan(FLAG_NONE_HERE, &[], &[there]));
    assert_eq!(answers(spec, &[NOWHERE]), plan(FLAG_NONE_HERE, &[], &[nowhere]));
    assert_eq!(answers(spec, &[]), plan(0, &[], &[]), "refused, not dropped");
}

#[test]
fn external_traffic_that_stays_here_leaves_the_cluster_its_backends() {
    let spec =
        "type: NodePort, clusterIP: 10.96.0.10, externalTrafficPolicy: Local, ports: [{port: 80, nodePort: 30080}]";
    let plan = |flags, here: &[(&str, u16)], all: &[(&str, u16)]| {
        BTreeMap::from([
            (frontend("10.96.0.10", 80, TCP), served(0, all)),
            (
                frontend("192.168.1.11", 30080, TCP),
                split(FLAG_NODE_PORT | flags, all, here),
            ),
        ])
    };
    let (here, there) = (("10.244.1.5", 8080), ("10.244.2.7", 8080));
    assert_eq!(answers(spec, &[HERE, THERE]), plan(0, &[here], &[here, there]));
    assert_eq!(answers(spec, &[THERE]), plan(FLAG_NONE_HERE, &[], &[there]));
    assert_eq!(answers(spec, &[]), plan(0, &[], &[]));
    // A service that nobody reaches from outside has no such policy.
    let inner = "clusterIP: 10.96.0.10, externalTrafficPolicy: Local, ports: [{port: 80}]";
    assert_eq!(
        answers(inner, &[THERE]),
        BTreeMap::from([(frontend("10.96.0.10", 80, TCP), served(0, &[there]))])
    );
}

/// Ready ones elsewhere do not keep traffic from those here that are on their way out: here there is nobody better.
#[test]
fn the_local_and_the_cluster_s_endpoints_are_chosen_apart() {
    let leaving =
        "{addresses: [10.244.1.5], nodeName: a, conditions: {ready: false, serving: true, terminating: true}}";
    let spec =
        "type: NodePort, clusterIP: 10.96.0.10, externalTrafficPolicy: Local, ports: [{port: 80, nodePort: 30080}]";
    let (here, there) = (("10.244.1.5", 8080), ("10.244.2.7", 8080));
    assert_eq!(
        answers(spec, &[leaving, THERE])[&frontend("192.168.1.11", 30080, TCP)],
        split(FLAG_NODE_PORT, &[there], &[here])
    );
    let ready = "{addresses: [10.244.1.6], nodeName: a}";
    let other = ("10.244.1.6", 8080);
    assert_eq!(
        answers(spec, &[leaving, ready, THERE])[&frontend("192.168.1.11", 30080, TCP)],
        split(FLAG_NODE_PORT, &[other, there], &[other])
    );
    assert_eq!(
        answers(spec, &[leaving])[&frontend("192.168.1.11", 30080, TCP)],
        split(FLAG_NODE_PORT, &[here], &[here])
    );
}

/// Every condition as the API writes it, also where it is null; `publishNotReadyAddresses` makes endpoints ready.
#[test]
fn an_endpoint_without_conditions_is_ready_and_one_in_two_slices_counts_once() {
    let spec = "clusterIP: 10.96.0.10, publishNotReadyAddresses: true, ports: [{port: 80}]";
    let unknown = "{addresses: [10.244.1.5], conditions: {ready: null, serving: null, terminating: null}}";
    let twice = "{addresses: [10.244.1.5], nodeName: a}";
    let stale = "{addresses: [10.244.1.5], nodeName: a, conditions: {ready: false, serving: true, terminating: true}}";
    let one = BTreeMap::from([(frontend("10.96.0.10", 80, TCP), served(0, &[("10.244.1.5", 8080)]))]);
    for endpoints in [vec![unknown], vec![unknown, twice], vec![stale, twice]] {
        assert_eq!(answers(spec, &endpoints), one, "{endpoints:?}");
    }
}

/// Slices that no controller made of a selector: written by hand, or mirrored from Endpoints.
#[test]
fn slices_of_any_maker_are_merged_each_with_its_own_ports() {
    let mirrored = |labels: &str, address: &str, port: u16| {
        format!(
            "\n---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice,
              metadata: {{name: \"x{port}\", namespace: web, labels: {{kubernetes.io/service-name: shop{labels}}}}},
              addressType: IPv4, endpoints: [{{addresses: [{address}]}}], ports: [{{name: http, port: {port}}}]}}"
        )
    };
    let yaml = service("shop", "clusterIP: 10.96.0.10, ports: [{name: http, port: 80}]")
        + &mirrored(
            ", endpointslice.kubernetes.io/managed-by: endpointslicemirroring-controller.k8s.io",
            "192.168.9.1",
            9001,
        )
        + &mirrored(", endpointslice.kubernetes.io/managed-by: staff", "192.168.9.2", 9002)
        + &mirrored("", "192.168.9.2", 9003);
    let backends = [("192.168.9.1", 9001), ("192.168.9.2", 9002), ("192.168.9.2", 9003)];
    let plan = with_nodes(&yaml);
    assert_eq!(plan.problems, []);
    assert_eq!(
        plan.v4.services,
        BTreeMap::from([(frontend("10.96.0.10", 80, TCP), served(0, &backends))])
    );
}

#[test]
fn frontends_come_and_go_with_the_type_of_a_service() {
    let (cluster_ip, node_port) = (frontend("10.96.0.10", 80, TCP), frontend("192.168.1.11", 30080, TCP));
    let balanced = frontend("203.0.113.8", 80, TCP);
    let ports = "ports: [{port: 80, nodePort: 30080}]";
    for (spec, frontends) in [
        ("clusterIP: 10.96.0.10", vec![cluster_ip]),
        ("type: ClusterIP, clusterIP: 10.96.0.10", vec![cluster_ip]),
        ("type: NodePort, clusterIP: 10.96.0.10", vec![cluster_ip, node_port]),
        (
            "type: LoadBalancer, clusterIP: 10.96.0.10",
            vec![cluster_ip, node_port, balanced],
        ),
        ("type: ExternalName, externalName: example.org", vec![]),
        ("clusterIP: None", vec![]),
    ] {
        let yaml = service(
            "shop",
            &format!("{spec}, {ports}}}, status: {{loadBalancer: {{ingress: [{{ip: 203.0.113.8}}]}}"),
        );
        let plan = with_nodes(&yaml);
        assert_eq!(plan.problems, [], "{spec}");
        let keys: BTreeSet<Frontend> = plan.v4.services.into_keys().collect();
        assert_eq!(keys, frontends.into_iter().collect(), "{spec}");
    }
}

/// Datagrams stay with whoever answers, also with those that nothing new is sent to.
#[test]
fn datagrams_stay_with_all_that_serve() {
    let leaving =
        "{addresses: [10.244.1.3], nodeName: a, conditions: {ready: false, serving: true, terminating: true}}";
    let dead = "{addresses: [10.244.1.4], nodeName: a, conditions: {ready: false, serving: false, terminating: true}}";
    let yaml = service(
        "dns",
        "type: NodePort, externalTrafficPolicy: Local, clusterIP: 10.96.0.10, ports: [{port: 53, protocol: UDP, nodePort: 30053}]",
    ) + &slice(
        "dns-1",
        "dns",
        &[leaving, dead, HERE, THERE].join(", "),
        "{port: 53, protocol: UDP}",
    );
    let plan = with_nodes(&yaml);
    let serving = datagrams(0, &[("10.244.1.3", 53), ("10.244.1.5", 53), ("10.244.2.7", 53)]).backends;
    for frontend in [frontend("10.96.0.10", 53, UDP), frontend("192.168.1.11", 30053, UDP)] {
        assert_eq!(plan.v4.services[&frontend].serving, serving);
    }
}

#[test]
fn what_a_service_asks_for_in_vain_is_said_and_the_rest_is_served() {
    let yaml = service(
        "shop",
        "type: NodePort, clusterIP: 10.96.0.10, ports: [{port: 80, nodePort: 30080}], sessionAffinity: ClientIP,
         sessionAffinityConfig: {clientIP: {timeoutSeconds: 86401}}, internalTrafficPolicy: Near,
         externalTrafficPolicy: Far, trafficDistribution: PreferFar",
    ) + &service(
        "cafe",
        "clusterIP: 10.96.0.11, ports: [{port: 80}], sessionAffinity: Cookie",
    );
    let plan = with_nodes(&yaml);
    assert_eq!(
        said(&plan.problems),
        [
            "Service web/cafe: spec.sessionAffinity: \"Cookie\" is not known",
            "Service web/shop: spec.externalTrafficPolicy: \"Far\" is not known",
            "Service web/shop: spec.internalTrafficPolicy: \"Near\" is not known",
            "Service web/shop: spec.sessionAffinityConfig.clientIP.timeoutSeconds: 86401 is not from 1 to 86400",
            "Service web/shop: spec.trafficDistribution: \"PreferFar\" is not known",
        ]
    );
    let timeout = plan.v4.services[&frontend("10.96.0.10", 80, TCP)].affinity_timeout;
    assert_eq!(timeout, 10_800);
    assert_eq!(plan.v4.services[&frontend("10.96.0.11", 80, TCP)], served(0, &[]));
}
