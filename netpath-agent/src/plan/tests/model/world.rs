//! A small cluster as the API has it, and what happens to it: objects come, change and go, in any order. All values are from
//! small pools, so that they collide, and some are bad.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use k8s_openapi::{
    api::{core::v1 as core, discovery::v1 as discovery},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};

use crate::model::ObjectName;

/// The addresses of node `a`, whose promises are asked for: the first of each family is its InternalIP.
pub const OWN: [IpAddr; 4] = [
    v4([192, 168, 1, 11]),
    v4([203, 0, 113, 77]),
    v6([0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x11]),
    v6([0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 0x77]),
];
pub const SERVICE_RANGES: [IpNet; 2] = [net4([10, 96, 0, 0], 16), net6([0xfd00, 0x96, 0, 0, 0, 0, 0, 0], 108)];
pub const ALLOWED_EXTERNAL: [IpNet; 2] = [
    net4([198, 51, 100, 0], 24),
    net6([0x2001, 0xdb8, 0x5100, 0, 0, 0, 0, 0], 64),
];
/// What the node's stack has beyond its own addresses.
pub const LOCAL: [IpNet; 2] = [
    net4([203, 0, 113, 8], 32),
    net6([0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 8], 128),
];
pub const VXLAN_PORT: u16 = 30_001;

const fn v4([a, b, c, d]: [u8; 4]) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h))
}

const fn net4([a, b, c, d]: [u8; 4], length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length))
}

const fn net6([a, b, c, d, e, f, g, h]: [u16; 8], length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), length))
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// An EndpointSlice's `addressType`.
    pub fn address_type(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// What the operator set.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The families that nodes and their pods have.
    pub families: &'static [Family],
    pub node_port_addresses: &'static str,
    pub node_ports_have_sources: bool,
    /// Whether nodes choose alike for what comes from outside, and whether they relay it to each other.
    pub alike: bool,
    pub relays: bool,
}

/// The objects, as the API has them.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub nodes: BTreeMap<String, core::Node>,
    pub services: BTreeMap<ObjectName, core::Service>,
    pub slices: BTreeMap<ObjectName, discovery::EndpointSlice>,
}

impl World {
    /// The zone of node `a`.
    pub fn zone(&self) -> Option<&str> {
        let labels = self.nodes["a"].metadata.labels.as_ref()?;
        labels.get("topology.kubernetes.io/zone").map(String::as_str)
    }

    /// Whether a node or its pods have an address.
    pub fn has(&self, address: IpAddr) -> bool {
        let of_node = |name: &String| place(name, Family::of(address)).0 == address;
        OWN.contains(&address) || self.nodes.keys().any(of_node) || self.has_pod(address)
    }

    /// Whether an address is in the subnet of a node's pods.
    pub fn has_pod(&self, address: IpAddr) -> bool {
        let of_pods = |name: &String| place(name, Family::of(address)).1.contains(&address);
        self.nodes.keys().any(of_pods)
    }

    /// Whether an address is a node's own toward its pods: the first of their subnet.
    pub fn is_gateway(&self, address: IpAddr) -> bool {
        let is_first = match address {
            IpAddr::V4(address) => address.octets()[3] == 1,
            IpAddr::V6(address) => address.segments()[4..] == [0, 0, 0, 1],
        };
        self.has_pod(address) && is_first
    }
}

/// A node's address and its pods' subnet, in a family.
fn place(name: &str, family: Family) -> (IpAddr, IpNet) {
    let number = match name {
        "a" => 1,
        "b" => 2,
        _ => 3,
    };
    let wide = u16::from(number);
    match family {
        Family::V4 => (v4([192, 168, 1, 10 + number]), net4([10, 244, number, 0], 24)),
        Family::V6 => (
            v6([0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10 + wide]),
            net6([0xfd00, 0x244, wide, 0, 0, 0, 0, 0], 64),
        ),
    }
}

/// Numbers that follow from a seed: splitmix64 (Steele, Lea and Flood, 2014).
pub struct Chance(pub u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below another.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, cases: usize) -> bool {
        self.below(cases) == 0
    }

    /// One of a few, of which the first is as likely as the other ones together.
    fn mostly<T: Copy>(&mut self, values: &[T]) -> T {
        match self.one_in(2) {
            true => values[0],
            false => self.of(values),
        }
    }

    /// One of a few.
    pub fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    fn some<T: Copy>(&mut self, values: &[T], most: usize) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| self.of(values)).collect()
    }

    fn texts(&mut self, values: &[&str], most: usize) -> Vec<String> {
        self.some(values, most).into_iter().map(str::to_owned).collect()
    }
}

/// What changed: an object under its name, `None` for one that went.
pub enum Event {
    Node(String, Option<Box<core::Node>>),
    Service(ObjectName, Option<Box<core::Service>>),
    Slice(ObjectName, Option<Box<discovery::EndpointSlice>>),
}

/// Any event.
pub fn event(chance: &mut Chance, families: &[Family]) -> Event {
    let goes = chance.one_in(5);
    match chance.below(10) {
        0 => {
            let name = chance.of(&["a", "b", "c"]);
            let stays = name == "a" || !goes;
            Event::Node(name.to_owned(), stays.then(|| Box::new(node(chance, name, families))))
        }
        1..=4 => {
            let name = ObjectName::new(chance.mostly(&["web", "shop"]), chance.of(&["x", "y", "z"]));
            let service = (!goes).then(|| Box::new(service(chance, &name)));
            Event::Service(name, service)
        }
        _ => {
            let name = ObjectName::new(chance.mostly(&["web", "shop"]), chance.of(&["1", "2", "3", "4"]));
            let slice = (!goes).then(|| Box::new(slice(chance, &name)));
            Event::Slice(name, slice)
        }
    }
}

/// A node in its place.
pub fn node(chance: &mut Chance, name: &str, families: &[Family]) -> core::Node {
    let places = families.iter().map(|family| place(name, *family));
    let zone = chance.of(&[Some("z1"), Some("z2"), None]);
    let labels = zone.map(|zone| [("topology.kubernetes.io/zone".to_owned(), zone.to_owned())].into());
    let addresses = places.clone().map(|(address, _)| core::NodeAddress {
        address: address.to_string(),
        type_: "InternalIP".to_owned(),
    });
    core::Node {
        metadata: ObjectMeta {
            labels,
            ..ObjectMeta::default()
        },
        spec: Some(core::NodeSpec {
            pod_cidrs: Some(places.clone().map(|(_, subnet)| subnet.to_string()).collect()),
            ..core::NodeSpec::default()
        }),
        status: Some(core::NodeStatus {
            addresses: Some(addresses.collect()),
            ..core::NodeStatus::default()
        }),
    }
}

fn meta(chance: &mut Chance, name: &ObjectName, label: Option<(&str, &str)>) -> ObjectMeta {
    let mut labels = BTreeMap::new();
    labels.extend(label.map(|(key, value)| (key.to_owned(), value.to_owned())));
    if chance.one_in(15) {
        let other = chance.of(&[
            "service.kubernetes.io/service-proxy-name",
            "service.kubernetes.io/headless",
        ]);
        labels.insert(other.to_owned(), "x".to_owned());
    }
    let created = chance.of(&[None, Some(1), Some(2), Some(3)]);
    let created = created.map(|second| Time(Timestamp::from_second(second).unwrap()));
    ObjectMeta {
        name: Some(name.name().to_owned()),
        namespace: Some(name.namespace().to_owned()),
        creation_timestamp: created,
        labels: Some(labels),
        ..ObjectMeta::default()
    }
}

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
        "fd00:96::10",
        "fd00:97::5",
        "fd00:244:2::9",
        "2001:db8:1::12",
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

fn service(chance: &mut Chance, name: &ObjectName) -> core::Service {
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
        name: chance
            .of(&[None, Some(""), Some("http"), Some("dns")])
            .map(str::to_owned),
        protocol: chance
            .mostly(&[None, Some("TCP"), Some("UDP"), Some("UDP"), Some("SCTP")])
            .map(str::to_owned),
        port: chance.of(&[80, 81, 53, 80, 0, 30_000]),
        node_port: chance.of(&[None, Some(0), Some(30_000), Some(30_001), Some(30_002), Some(29_999)]),
        ..core::ServicePort::default()
    }
}

fn slice(chance: &mut Chance, name: &ObjectName) -> discovery::EndpointSlice {
    let of = chance.of(&["x", "x", "y", "z", "nobody"]);
    let label = (!chance.one_in(15)).then_some(("kubernetes.io/service-name", of));
    let family = chance.of(&[Family::V4, Family::V6]);
    // Some have another type than their addresses.
    let address_type = match chance.one_in(15) {
        true => chance.of(&["IPv4", "IPv6", "FQDN"]),
        false => family.address_type(),
    };
    let plain = chance.one_in(2);
    let endpoints = (0..chance.below(5)).map(|_| endpoint(chance, family, plain)).collect();
    let ports = (0..chance.below(4)).map(|_| discovery::EndpointPort {
        name: chance
            .of(&[None, Some(""), Some("http"), Some("dns")])
            .map(str::to_owned),
        protocol: chance
            .mostly(&[None, Some("TCP"), Some("UDP"), Some("UDP"), Some("SCTP")])
            .map(str::to_owned),
        port: chance.of(&[Some(8080), Some(8080), Some(8081), Some(53), None]),
        ..discovery::EndpointPort::default()
    });
    let ports = ports.collect();
    discovery::EndpointSlice {
        metadata: meta(chance, name, label),
        address_type: address_type.to_owned(),
        endpoints: Some(endpoints),
        ports: Some(ports),
    }
}

/// An endpoint; where it is to be a plain one, ready, with hints and in a usual place.
fn endpoint(chance: &mut Chance, family: Family, plain: bool) -> discovery::Endpoint {
    let (usual, odd) = match family {
        Family::V4 => (
            ["10.244.1.5", "10.244.1.6", "10.244.2.5", "10.244.3.5", "192.168.1.11"],
            [
                "10.244.1.1",
                "10.244.2.1",
                "10.96.0.11",
                "127.0.0.1",
                "169.254.1.1",
                "8.8.8.8",
            ],
        ),
        Family::V6 => (
            [
                "fd00:244:1::5",
                "fd00:244:1::6",
                "fd00:244:2::5",
                "fd00:244:3::5",
                "2001:db8:1::11",
            ],
            [
                "fd00:244:1::1",
                "fd00:244:2::1",
                "fd00:96::11",
                "::1",
                "fe80::1",
                "2001:4860::8888",
            ],
        ),
    };
    let addresses = match chance.below(if plain { 1 } else { 6 }) {
        0..=3 => vec![chance.of(&usual)],
        4 => vec![chance.of(&odd)],
        _ => chance.some(&usual, 2),
    };
    let condition = |chance: &mut Chance| match plain {
        true => None,
        false => chance.of(&[None, Some(true), Some(false), Some(false)]),
    };
    let conditions = discovery::EndpointConditions {
        ready: condition(chance),
        serving: condition(chance),
        terminating: condition(chance),
    };
    let zones = chance
        .some(&["z1", "z2"], 2)
        .into_iter()
        .map(|name| discovery::ForZone { name: name.to_owned() });
    let zones = zones.collect();
    let nodes = chance
        .some(&["a", "b"], 1)
        .into_iter()
        .map(|name| discovery::ForNode { name: name.to_owned() });
    let hints = discovery::EndpointHints {
        for_nodes: Some(nodes.collect()),
        for_zones: Some(zones),
    };
    discovery::Endpoint {
        addresses: addresses.into_iter().map(str::to_owned).collect(),
        conditions: Some(conditions),
        hints: (plain || chance.one_in(2)).then_some(hints),
        node_name: chance.of(&[None, Some("a"), Some("b")]).map(str::to_owned),
        ..discovery::Endpoint::default()
    }
}
