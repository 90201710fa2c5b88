//! Services of every kind, with addresses that others want too.

use k8s_openapi::api::core::v1 as core;

use super::{meta, port_name, protocol};
use crate::{model::ObjectName, plan::tests::model::chance::Chance};

/// Addresses that others may want too, of services and of load balancers.
const SHARED: [&str; 13] = [
    "203.0.113.8",
    "203.0.113.9",
    "198.51.100.7",
    "192.168.1.11",
    "10.244.2.9",
    "10.96.0.10",
    "127.0.0.1",
    "2001:db8:113::8",
    "2001:db8:113::9",
    "2001:db8:5100::7",
    "2001:db8:1::11",
    "fd00:244:2::9",
    "fd00:96::10",
];

/// A service's cluster addresses: of either family, or of one each.
fn cluster_ips(chance: &mut Chance) -> Vec<&'static str> {
    let v4 = ["10.96.0.10", "10.96.0.11", "10.96.0.12"];
    let v6 = ["fd00:96::10", "fd00:96::11", "fd00:96::12"];
    let odd = [
        "10.96.0.10",
        "10.97.0.5",
        "10.244.2.9",
        "192.168.1.12",
        "192.168.2.12",
        "fd00:96::10",
        "fd00:97::5",
        "fd00:244:2::9",
        "2001:db8:1::12",
        "2001:db8:2::12",
    ];
    match chance.below(10) {
        0 => vec!["None"],
        1 => chance.some(&odd, 2),
        2..=4 => vec![chance.of(&v4)],
        5..=6 => vec![chance.of(&v6)],
        7..=8 => vec![chance.of(&v4), chance.of(&v6)],
        _ => vec![chance.of(&v6), chance.of(&v4)],
    }
}

/// A service of this name.
pub fn service(chance: &mut Chance, name: &ObjectName) -> core::Service {
    let kind = chance.of(&["ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer"]);
    let kind = if chance.one_in(10) { "ExternalName" } else { kind };
    let cluster_ips = cluster_ips(chance);
    let seconds = chance.of(&[None, Some(60), Some(0), Some(90_000)]);
    let affinity = core::SessionAffinityConfig {
        client_ip: Some(core::ClientIPConfig {
            timeout_seconds: seconds,
        }),
    };
    let ranges = [
        "203.0.113.0/24",
        " 10.244.0.0/16 ",
        "10.244.1.7/24",
        "0.0.0.0/0",
        "banana",
        "fd00::/8",
        " 2001:db8::/32",
        "::/0",
    ];
    let ingress = chance
        .some(&SHARED, 3)
        .into_iter()
        .map(|address| core::LoadBalancerIngress {
            ip: Some(address.to_owned()),
            ip_mode: chance.of(&[None, Some("VIP"), Some("Proxy")]).map(str::to_owned),
            ..core::LoadBalancerIngress::default()
        });
    let ingress = ingress.collect();
    let status = core::ServiceStatus {
        load_balancer: Some(core::LoadBalancerStatus { ingress: Some(ingress) }),
        ..core::ServiceStatus::default()
    };
    let policy = |chance: &mut Chance| chance.of(&[None, Some("Cluster"), Some("Local")]).map(str::to_owned);
    let ports = (0..=chance.below(3)).map(|_| service_port(chance)).collect();
    let spec = core::ServiceSpec {
        type_: Some(kind.to_owned()),
        cluster_ip: cluster_ips.first().map(|first| (*first).to_owned()),
        cluster_ips: Some(cluster_ips.into_iter().map(str::to_owned).collect()),
        external_ips: Some(if chance.one_in(2) {
            chance.texts(&SHARED, 3)
        } else {
            Vec::new()
        }),
        internal_traffic_policy: policy(chance),
        external_traffic_policy: policy(chance),
        load_balancer_source_ranges: Some(if chance.one_in(2) {
            chance.texts(&ranges, 4)
        } else {
            Vec::new()
        }),
        session_affinity: chance.of(&[None, Some("None"), Some("ClientIP")]).map(str::to_owned),
        session_affinity_config: chance.one_in(2).then_some(affinity),
        health_check_node_port: chance.of(&[None, Some(0), Some(30_000), Some(30_002)]),
        publish_not_ready_addresses: Some(chance.one_in(2)),
        traffic_distribution: chance.of(&[None, Some("PreferSameZone")]).map(str::to_owned),
        ports: Some(ports),
        ..core::ServiceSpec::default()
    };
    core::Service {
        metadata: meta(chance, name, None),
        spec: Some(spec),
        status: Some(status),
    }
}

fn service_port(chance: &mut Chance) -> core::ServicePort {
    core::ServicePort {
        name: port_name(chance),
        protocol: protocol(chance),
        port: chance.of(&[80, 81, 53, 80, 0, 30_000]),
        node_port: chance.of(&[None, Some(0), Some(30_000), Some(30_001), Some(30_002), Some(29_999)]),
        ..core::ServicePort::default()
    }
}
