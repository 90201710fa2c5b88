//! Frontends and who answers for them.

use netpath_common::abi::service::FLAG_NODE_PORT;

use super::*;

#[test]
fn a_node_port_service_answers_on_its_address_and_on_the_nodes() {
    let yaml = service(
        "shop",
        "type: NodePort, clusterIP: 10.96.0.10, ports: [
          {name: http, port: 80, targetPort: web, nodePort: 30080},
          {name: dns, port: 53, protocol: UDP, nodePort: 30053},
          {name: dns-tcp, port: 53, protocol: TCP},
          {name: dns-sctp, port: 53, protocol: SCTP, nodePort: 30053}]",
    ) + &slice(
        "shop-1",
        "shop",
        "{addresses: [10.244.2.7], nodeName: b}, {addresses: [10.244.1.5], nodeName: a}",
        "{name: http, port: 8080}, {name: dns, port: 5353, protocol: UDP}, {name: dns-tcp, port: 5353},
         {name: dns-sctp, port: 5354, protocol: SCTP}",
    ) + &slice(
        "shop-2",
        "shop",
        "{addresses: [10.244.3.4], nodeName: c}",
        "{name: http, port: 9090}",
    ) + &slice("other-1", "other", "{addresses: [10.244.3.9]}", "{name: http, port: 1}");
    let plan = with_nodes(&yaml);
    let http = [("10.244.1.5", 8080), ("10.244.2.7", 8080), ("10.244.3.4", 9090)];
    let dns = [("10.244.1.5", 5353), ("10.244.2.7", 5353)];
    let signals = [("10.244.1.5", 5354), ("10.244.2.7", 5354)];
    assert_eq!(
        plan.v4.services,
        BTreeMap::from([
            (frontend("10.96.0.10", 80, TCP), served(0, &http)),
            (frontend("192.168.1.11", 30080, TCP), served(FLAG_NODE_PORT, &http)),
            (frontend("10.96.0.10", 53, UDP), datagrams(0, &dns)),
            (frontend("192.168.1.11", 30053, UDP), datagrams(FLAG_NODE_PORT, &dns)),
            (frontend("10.96.0.10", 53, TCP), served(0, &dns)),
            (frontend("10.96.0.10", 53, SCTP), served(0, &signals)),
            (frontend("192.168.1.11", 30053, SCTP), served(FLAG_NODE_PORT, &signals)),
        ])
    );
    assert_eq!(plan.problems, []);
    assert_eq!(
        with_nodes("").v4.services,
        BTreeMap::new(),
        "and is gone with its objects"
    );
}

#[test]
fn the_ready_answer_and_with_none_ready_those_on_their_way_out() {
    let leaving = "{addresses: [10.244.1.3], conditions: {ready: false, serving: true, terminating: true}}";
    let dead = "{addresses: [10.244.1.4], conditions: {ready: false, serving: false, terminating: true}}";
    let starting = "{addresses: [10.244.1.5], conditions: {ready: false, serving: false}}";
    let ready = "{addresses: [10.244.1.6], conditions: {ready: true}}";
    let silent = "{addresses: [10.244.1.7]}";
    let answers = |endpoints: &[&str]| {
        let yaml = service("shop", "clusterIP: 10.96.0.10, ports: [{port: 80}]")
            + &slice("shop-1", "shop", &endpoints.join(", "), "{port: 8080}");
        with_nodes(&yaml).v4.services
    };
    let only = |backends: &[(&str, u16)]| BTreeMap::from([(frontend("10.96.0.10", 80, TCP), served(0, backends))]);
    assert_eq!(
        answers(&[leaving, dead, starting, ready, silent]),
        only(&[("10.244.1.6", 8080), ("10.244.1.7", 8080)])
    );
    assert_eq!(answers(&[leaving, dead, starting]), only(&[("10.244.1.3", 8080)]));
    assert_eq!(answers(&[dead, starting]), only(&[]));
    assert_eq!(answers(&[]), only(&[]));
}

#[test]
fn slices_are_merged_and_an_endpoint_in_two_of_them_counts_once() {
    let yaml = service("shop", "clusterIP: 10.96.0.10, ports: [{port: 80}]")
        + &slice(
            "shop-1",
            "shop",
            "{addresses: [10.244.1.3]}, {addresses: [10.244.1.2]}",
            "{port: 8080}",
        )
        + &slice(
            "shop-2",
            "shop",
            "{addresses: [10.244.1.3]}, {addresses: [10.244.1.4]}",
            "{port: 8080}",
        )
        + &slice(
            "shop-3",
            "shop",
            "{addresses: [10.244.1.9]}",
            "{port: 8080, name: other}",
        )
        + &slice(
            "shop-4",
            "shop",
            "{addresses: [10.244.1.9]}",
            "{port: 8080, protocol: UDP}",
        );
    let backends = [("10.244.1.2", 8080), ("10.244.1.3", 8080), ("10.244.1.4", 8080)];
    assert_eq!(
        with_nodes(&yaml).v4.services,
        BTreeMap::from([(frontend("10.96.0.10", 80, TCP), served(0, &backends))])
    );
}

#[test]
fn services_that_are_not_ours_are_left_alone_without_a_word() {
    let labelled = |label: &str| {
        format!(
            "\n---\n{{apiVersion: v1, kind: Service, metadata: {{name: x, labels: {{{label}: x}}}},
              spec: {{clusterIP: 10.96.0.10, ports: [{{port: 80}}]}}}}"
        )
    };
    for yaml in [
        service("shop", "clusterIP: None, ports: [{port: 80}]"),
        service("shop", "type: ExternalName, externalName: example.org"),
        service("shop", "ports: [{port: 80}]"),
        labelled("service.kubernetes.io/service-proxy-name"),
        labelled("service.kubernetes.io/headless"),
    ] {
        let plan = with_nodes(&yaml);
        assert_eq!((plan.v4.services, plan.problems), (BTreeMap::new(), vec![]), "{yaml}");
    }
}

#[test]
fn an_address_or_node_port_that_two_claim_is_the_elders() {
    let yaml = service(
        "elder",
        "type: NodePort, clusterIP: 10.96.0.10, ports: [{port: 80, nodePort: 30080}]",
    ) + &service(
        "newer",
        "type: NodePort, clusterIP: 10.96.0.10, ports: [{port: 81, nodePort: 30081}]",
    ) + &service(
        "other",
        "type: NodePort, clusterIP: 10.96.0.11, ports: [{port: 80, nodePort: 30080}]",
    ) + &service(
        "twice",
        "clusterIP: 10.96.0.12, ports: [{name: a, port: 80}, {name: b, port: 80}]",
    );
    let plan = with_nodes(&yaml);
    assert_eq!(
        said(&plan.problems),
        [
            "Service web/newer: spec.clusterIPs: 10.96.0.10 is service web/elder's already",
            "Service web/other: spec.ports: TCP nodePort 30080 is service web/elder's already",
            "Service web/twice: spec.ports: TCP port 80 is there twice",
        ]
    );
    assert_eq!(
        plan.v4.services,
        BTreeMap::from([
            (frontend("10.96.0.10", 80, TCP), served(0, &[])),
            (frontend("192.168.1.11", 30080, TCP), served(FLAG_NODE_PORT, &[])),
            (frontend("192.168.1.11", 30081, TCP), served(FLAG_NODE_PORT, &[])),
            (frontend("10.96.0.11", 80, TCP), served(0, &[])),
            (frontend("10.96.0.12", 80, TCP), served(0, &[])),
        ])
    );
}

#[test]
fn addresses_that_are_not_for_services_are_refused() {
    for (address, why) in [
        ("192.168.1.12", "192.168.1.12 is node b's own"),
        ("192.168.1.11", "192.168.1.11 is node a's own"),
        (
            "10.244.3.200",
            "10.244.3.200 is in the pod subnet of node c, 10.244.3.0 to 10.244.3.255",
        ),
        ("127.0.0.1", "\"127.0.0.1\" is a loopback address"),
        ("169.254.169.254", "\"169.254.169.254\" is a link-local address"),
        ("224.0.0.1", "\"224.0.0.1\" is a multicast address"),
        ("0.0.0.0", "\"0.0.0.0\" is the unspecified address"),
        (
            "255.255.255.255",
            "\"255.255.255.255\" is a reserved or broadcast address",
        ),
        ("10.96.0.300", "\"10.96.0.300\" is not an IP address"),
    ] {
        let plan = with_nodes(&service(
            "shop",
            &format!("clusterIP: {address}, ports: [{{port: 80}}]"),
        ));
        assert_eq!(
            said(&plan.problems),
            [format!("Service web/shop: spec.clusterIPs: {why}")]
        );
        assert_eq!(plan.v4.services, BTreeMap::new());
    }
}

#[test]
fn a_part_that_cannot_be_served_leaves_the_rest() {
    let yaml = service(
        "shop",
        "type: NodePort, clusterIP: 10.96.0.10, ports: [
          {name: low, port: 80, nodePort: 80}, {name: high, port: 81, nodePort: 40000},
          {name: s, port: 82, protocol: DCCP}, {name: zero, port: 0}, {name: big, port: 70000},
          {name: good, port: 83, nodePort: 30083}]",
    ) + &slice(
        "shop-1",
        "shop",
        "{addresses: [127.0.0.1]}, {addresses: [169.254.1.1]}, {addresses: [0.0.0.0]}, {addresses: [224.0.0.1]},
         {addresses: [banana]}, {addresses: []}, {addresses: [10.96.0.20]}, {addresses: ['fd00::1']},
         {addresses: [10.244.1.2]}",
        "{name: good, port: 8083}, {name: low, port: -1}, {name: high, protocol: DCCP, port: 1}, {name: x}",
    );
    let plan = with_nodes(&yaml);
    assert_eq!(
        said(&plan.problems),
        [
            "EndpointSlice web/shop-1: endpoints: \"0.0.0.0\" is the unspecified address",
            "EndpointSlice web/shop-1: endpoints: \"10.96.0.20\" is in the services' range 10.96.0.0/16",
            "EndpointSlice web/shop-1: endpoints: \"127.0.0.1\" is a loopback address",
            "EndpointSlice web/shop-1: endpoints: \"169.254.1.1\" is a link-local address",
            "EndpointSlice web/shop-1: endpoints: \"224.0.0.1\" is a multicast address",
            "EndpointSlice web/shop-1: endpoints: \"banana\" is not an IP address",
            "EndpointSlice web/shop-1: endpoints: \"fd00::1\" is not of the slice's addressType",
            "EndpointSlice web/shop-1: endpoints: an endpoint has no address",
            "EndpointSlice web/shop-1: ports: -1 of port \"low\" is not a port number",
            "EndpointSlice web/shop-1: ports: port \"high\" asks for protocol DCCP, which is not served",
            "EndpointSlice web/shop-1: ports: port \"x\" has no number",
            "Service web/shop: spec.ports: 0 of port \"zero\" is not a port number",
            "Service web/shop: spec.ports: 70000 of port \"big\" is not a port number",
            "Service web/shop: spec.ports: TCP nodePort 40000 is outside of the range 30000-32767",
            "Service web/shop: spec.ports: TCP nodePort 80 is outside of the range 30000-32767",
            "Service web/shop: spec.ports: port 82 \"s\" asks for protocol DCCP, which is not served",
        ]
    );
    let good = [("10.244.1.2", 8083)];
    assert_eq!(
        plan.v4.services,
        BTreeMap::from([
            (frontend("10.96.0.10", 80, TCP), served(0, &[])),
            (frontend("10.96.0.10", 81, TCP), served(0, &[])),
            (frontend("10.96.0.10", 83, TCP), served(0, &good)),
            (frontend("192.168.1.11", 30083, TCP), served(FLAG_NODE_PORT, &good)),
        ])
    );
}

#[test]
fn an_address_outside_of_the_range_is_served_to_pods_and_said() {
    let plan = with_nodes(&service("shop", "clusterIP: 10.97.0.10, ports: [{port: 80}]"));
    assert_eq!(
        said(&plan.problems),
        [
            "Service web/shop: spec.clusterIPs: 10.97.0.10 is outside of the services' range 10.96.0.0/16: \
          the nodes' own processes do not reach it"
        ]
    );
    assert_eq!(plan.v4.services.len(), 1);
}
