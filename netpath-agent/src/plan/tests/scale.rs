//! Plans of many objects.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use super::*;
use crate::model::{self, Node, ObjectName, Protocol, Service, ServicePort, Slice, SlicePort};

/// Four addresses further with each number, from a start.
fn spread(start: [u8; 4], number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from_be_bytes(start) + number)
}

fn endpoint(address: Ipv4Addr) -> model::Endpoint {
    model::Endpoint {
        address: IpAddr::V4(address),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        hints: None,
    }
}

/// Nodes, and ten times as many services with a NodePort in four and two endpoints each.
fn large(nodes: u32) -> Cluster {
    let mut cluster = cluster(NODES);
    for number in 3..nodes {
        let node = Node {
            created: Some(number.into()),
            internal_ips: vec![IpAddr::V4(spread([172, 16, 0, 0], number + 1))],
            pod_cidrs: vec![Ipv4Net::new(spread([11, 0, 0, 0], number << 8), 24).unwrap().into()],
            zone: None,
            leaving: false,
        };
        cluster.nodes.insert(format!("node-{number}"), Arc::new(node));
    }
    for number in 0..nodes * 10 {
        let name = ObjectName::new(format!("ns-{}", number % 100), format!("service-{number}"));
        let node_port = (number % 4 == 0).then(|| 30_000 + (number / 4) as u16);
        let port = ServicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port,
        };
        let cluster_ips = vec![IpAddr::V4(spread([10, 96, 0, 1], number))];
        let service = Service {
            created: Some(1),
            cluster_ips,
            ports: vec![port],
            ..Service::default()
        };
        let slice = Slice {
            service: name.clone(),
            endpoints: (0..2)
                .map(|slot| endpoint(spread([10, 245, 2, 0], number * 2 + slot)))
                .collect(),
            ports: vec![SlicePort {
                name: "http".into(),
                protocol: Protocol::Tcp,
                port: 8080,
            }],
            problems: vec![],
        };
        cluster.slices.insert(
            ObjectName::new(name.namespace(), format!("{}-x", name.name())),
            Arc::new(slice),
        );
        cluster.services.insert(name, Arc::new(service));
    }
    cluster
}

/// The least of the times that planning takes.
fn least(nodes: u32) -> Duration {
    let cluster = large(nodes);
    let once = || {
        let began = Instant::now();
        let plan = plan(&cluster, &facts()).unwrap();
        let took = began.elapsed();
        let nodes = nodes as usize;
        let sizes = (
            plan.v4.services.len(),
            plan.v4.routes.len(),
            plan.kernel_routes.len(),
            plan.problems.len(),
        );
        assert_eq!(sizes, (nodes * 25 / 2, nodes * 2, nodes, 0));
        assert!(plan.v4.services.values().all(|service| service.backends.len() == 2));
        took
    };
    (0..5).map(|_| once()).min().unwrap()
}

#[test]
fn ten_times_the_objects_cost_no_squares() {
    let (small, large) = (least(100), least(1000));
    eprintln!("1,000 services in {small:?}, 10,000 in {large:?}");
    assert!(large < small * 40, "1,000 services in {small:?}, 10,000 in {large:?}");
}
