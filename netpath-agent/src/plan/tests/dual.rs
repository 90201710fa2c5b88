//! A cluster of both families, and how its plan is written in few words.

use std::net::{IpAddr, Ipv6Addr};

use netpath_common::abi::route;

use super::*;

/// A cluster's nodes: name, InternalIPs, pod subnets.
pub type Nodes<'a> = &'a [(&'a str, &'a str, &'a str)];

/// `a` and `b` share segments of both families, `c` is behind a router, `d` has IPv6 pods and no address of it.
pub const DUAL: Nodes<'_> = &[
    (
        "a",
        "192.168.1.11, '2001:db8:1::11'",
        "10.244.1.0/24, 'fd00:244:1::/64'",
    ),
    (
        "b",
        "'2001:db8:1::12', 192.168.1.12",
        "10.244.2.0/24, 'fd00:244:2::/64'",
    ),
    (
        "c",
        "192.168.2.13, '2001:db8:2::13'",
        "10.244.3.0/24, 'fd00:244:3::/64'",
    ),
    ("d", "192.168.1.14", "10.244.4.0/24, 'fd00:244:4::/64'"),
];

/// The nodes as text.
pub fn nodes(nodes: Nodes<'_>) -> String {
    let document = |(name, addresses, subnets): &(&str, &str, &str)| {
        let addresses = addresses
            .split(", ")
            .map(|address| format!("{{type: InternalIP, address: {address}}}"))
            .collect::<Vec<_>>();
        format!(
            "---\n{{apiVersion: v1, kind: Node, metadata: {{name: {name}}}, spec: {{podCIDRs: [{subnets}]}},
              status: {{addresses: [{}]}}}}\n",
            addresses.join(", ")
        )
    };
    nodes.iter().map(document).collect()
}

/// What node `a` of them is told of itself.
pub fn dual_facts() -> NodeFacts {
    let mut facts = facts();
    facts.uplink.addresses.push("2001:db8:1::11/64".parse().unwrap());
    facts.service_cidrs.push("fd00:96::/108".parse().unwrap());
    facts
        .next_hops
        .insert("2001:db8:2::13".parse().unwrap(), "fe80::1".parse().unwrap());
    facts
}

/// The plan of node `a`, with services as text.
pub fn planned(nodes_of: Nodes<'_>, services: &str) -> Plan {
    plan(&cluster(&(nodes(nodes_of) + services)), &dual_facts()).unwrap()
}

pub fn octets(address: &str) -> [u8; 16] {
    address.parse::<Ipv6Addr>().unwrap().octets()
}

pub fn key6(subnet: &str) -> route::v6::RouteKey {
    let (address, length) = subnet.split_once('/').unwrap();
    route::v6::RouteKey {
        address: octets(address),
        prefix_len: length.parse().unwrap(),
    }
}

pub fn route6(via: u8, node: &str, next_hop: &str) -> route::v6::Route {
    route::v6::Route {
        node: octets(node),
        next_hop: octets(next_hop),
        via,
        reserved: [0; 3],
    }
}

/// The stack's routes of IPv6.
pub fn kernel_routes(plan: &Plan) -> Vec<(String, Way)> {
    let routes = plan.kernel_routes.iter();
    routes
        .filter(|route| route.source == "fd00:244:1::1".parse::<IpAddr>().unwrap())
        .map(|route| (route.destination.to_string(), route.way))
        .collect()
}

pub fn gateway(gateway: &str) -> Way {
    Way::Gateway {
        device: 2,
        gateway: gateway.parse().unwrap(),
    }
}

pub fn tunnel(remote: &str) -> Way {
    let remote: IpAddr = remote.parse().unwrap();
    let local = if remote.is_ipv4() {
        "192.168.1.11"
    } else {
        "2001:db8:1::11"
    };
    Way::Tunnel {
        device: 3,
        vni: 78,
        local: local.parse().unwrap(),
        remote,
    }
}
