//! A small cluster as the API has it, and what happens to it: objects come, change and go, in any order. All values are from
//! small pools, so that they collide, and some are bad.

mod nodes;
mod services;
mod slices;

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

pub use self::nodes::node;
use self::{services::service, slices::slice};
use super::chance::Chance;
use crate::model::ObjectName;

/// The addresses of node `a`, whose promises are asked for, as far as its uplink has the family: the first of each may be its
/// InternalIP.
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

/// The routers by which the kernel reaches nodes. Of one it knows none.
pub const ROUTERS: [(IpAddr, IpAddr); 3] = [
    (v4([192, 168, 2, 12]), v4([192, 168, 1, 1])),
    (v4([192, 168, 2, 13]), v4([192, 168, 1, 1])),
    (
        v6([0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x12]),
        v6([0xfe80, 0, 0, 0, 0, 0, 0, 1]),
    ),
];

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

/// An address with the prefix of its segment.
pub fn segment(address: IpAddr) -> IpNet {
    let length = match address {
        IpAddr::V4(_) => 28,
        IpAddr::V6(_) => 64,
    };
    IpNet::new(address, length).unwrap()
}

/// What the operator set.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The families that pods have.
    pub families: &'static [Family],
    /// Those of node `a`'s InternalIPs: IPv4 at least where its pods have that.
    pub own: &'static [Family],
    /// Those that its uplink has addresses of: more, perhaps.
    pub uplink: &'static [Family],
    /// What the uplink takes.
    pub mtu: u16,
    pub node_port_addresses: &'static str,
    pub node_ports_have_sources: bool,
    /// Whether nodes choose alike for what comes from outside, and whether they relay it to each other.
    pub alike: bool,
    pub relays: bool,
}

impl Settings {
    /// The addresses of node `a`, those of its uplink.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        OWN.into_iter().filter(|own| self.uplink.contains(&Family::of(*own)))
    }
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
}

/// What changed: an object under its name, `None` for one that went.
pub enum Event {
    Node(String, Option<Box<core::Node>>),
    Service(ObjectName, Option<Box<core::Service>>),
    Slice(ObjectName, Option<Box<discovery::EndpointSlice>>),
}

/// Any event.
pub fn event(chance: &mut Chance, settings: &Settings) -> Event {
    let goes = chance.one_in(5);
    match chance.below(10) {
        0 => {
            let name = chance.of(&["a", "b", "c"]);
            let stays = name == "a" || !goes;
            Event::Node(name.to_owned(), stays.then(|| Box::new(node(chance, name, settings))))
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

/// What a port is called, in a service and in a slice.
fn port_name(chance: &mut Chance) -> Option<String> {
    chance
        .of(&[None, Some(""), Some("http"), Some("dns")])
        .map(str::to_owned)
}

fn protocol(chance: &mut Chance) -> Option<String> {
    chance
        .mostly(&[None, Some("TCP"), Some("UDP"), Some("UDP"), Some("SCTP")])
        .map(str::to_owned)
}
