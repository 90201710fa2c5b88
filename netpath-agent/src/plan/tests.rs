//! YAML in, exact map contents out. Expected values are written by hand: they are the layouts as a person reads them.

mod balancers;
mod contradictions;
mod dual;
mod external;
mod families;
mod model;
mod node_ports;
mod nodes;
mod policies;
mod properties;
mod scale;
mod services;
mod sources;
mod topology;
mod tunnels;

use std::{collections::BTreeMap, fs, net::Ipv4Addr};

use ipnet::Ipv4Net;
use netpath_common::abi::{
    route::v4::{Route, RouteKey},
    service::v4::{Backend, Frontend},
};

use super::*;
use crate::source::folder;

/// The cluster that a text says, by way of a folder.
fn cluster(yaml: &str) -> Cluster {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("objects.yaml"), yaml).unwrap();
    Cluster::clone(&folder::watch(folder.path()).unwrap().borrow())
}

/// Node `a` of the cluster below.
fn facts() -> NodeFacts {
    NodeFacts {
        name: "a".into(),
        uplink: Uplink {
            device: Device {
                ifindex: 2,
                mac: [2, 0, 0, 0, 0, 2],
            },
            addresses: vec!["192.168.1.11/24".parse().unwrap()],
            mtu: 1500,
        },
        overlay: Device {
            ifindex: 3,
            mac: [2, 0, 0, 0, 0, 3],
        },
        bridge: Device {
            ifindex: 4,
            mac: [2, 0, 0, 0, 0, 4],
        },
        vni: 78,
        vxlan_port: 8472,
        nat_ports: 49152..=65535,
        node_ports: NODE_PORTS,
        node_port_addresses: NodePortAddresses::All,
        node_ports_have_sources: false,
        maglev_seed: None,
        direct_return: false,
        hash_seed: 0x5eed,
        netns_cookie: 0xc00_c1e,
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        external_ip_cidrs: vec!["198.51.100.0/24".parse().unwrap(), "192.168.1.0/28".parse().unwrap()],
        local_routes: vec!["127.0.0.0/8".parse().unwrap(), "203.0.113.64/26".parse().unwrap()],
        next_hops: BTreeMap::from([("192.168.2.13".parse().unwrap(), "192.168.1.1".parse().unwrap())]),
    }
}

/// `a` and `b` share a segment, `c` is behind a router.
const NODES: &str = "
apiVersion: v1
kind: Node
metadata: {name: a}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: Hostname, address: a}, {type: InternalIP, address: 192.168.1.11}]}
---
apiVersion: v1
kind: Node
metadata: {name: b}
spec: {podCIDR: 10.244.2.0/24}
status: {addresses: [{type: InternalIP, address: 192.168.1.12}, {type: ExternalIP, address: 203.0.113.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: c}
spec: {podCIDRs: [10.244.3.0/24]}
status: {addresses: [{type: InternalIP, address: 192.168.2.13}]}
";

/// The three nodes and more.
fn with_nodes(yaml: &str) -> Plan {
    plan(&cluster(&format!("{NODES}---\n{yaml}")), &facts()).unwrap()
}

fn key(subnet: &str) -> RouteKey {
    let subnet: Ipv4Net = subnet.parse().unwrap();
    RouteKey {
        address: subnet.addr().octets(),
        prefix_len: subnet.prefix_len().into(),
    }
}

fn frontend(address: &str, port: u16, protocol: u8) -> Frontend {
    Frontend {
        address: address.parse::<Ipv4Addr>().unwrap().octets(),
        port,
        protocol,
        reserved: 0,
    }
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

fn served(flags: u16, backends: &[(&str, u16)]) -> ServicePlan<V4> {
    let backend = |(address, port): &(&str, u16)| Backend {
        address: address.parse::<Ipv4Addr>().unwrap().octets(),
        port: *port,
        reserved: [0; 2],
    };
    ServicePlan {
        serving: Arc::default(),
        ..ServicePlan::alike(flags, backends.iter().map(backend).collect::<Vec<_>>())
    }
}

/// As `served`, of UDP: flows to the same backends stay.
fn datagrams(flags: u16, backends: &[(&str, u16)]) -> ServicePlan<V4> {
    let plan = served(flags, backends);
    ServicePlan {
        serving: Arc::clone(&plan.backends),
        ..plan
    }
}

/// A service with its spec.
fn service(name: &str, spec: &str) -> String {
    format!("\n---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: web}}, spec: {{{spec}}}}}")
}

/// A slice of a service.
fn slice(name: &str, of: &str, endpoints: &str, ports: &str) -> String {
    format!(
        "\n---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice,
          metadata: {{name: {name}, namespace: web, labels: {{kubernetes.io/service-name: {of}}}}},
          addressType: IPv4, endpoints: [{endpoints}], ports: [{ports}]}}"
    )
}

/// Kind, name and what is wrong, without the remedy, which every problem must have.
fn said(problems: &[Problem]) -> Vec<String> {
    let say = |problem: &Problem| {
        assert!(!problem.remedy.is_empty(), "{problem:?}");
        let name = ObjectName::new(&problem.namespace, &problem.name);
        format!("{} {name}: {}", problem.kind, problem.what)
    };
    problems.iter().map(say).collect()
}
