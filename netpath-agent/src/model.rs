//! The desired state, reduced to what the datapath needs of it: nodes, services, their ranges and endpoint
//! slices.
//!
//! Sources ([`crate::source`]) fill a [`Cluster`] through the pure conversions of the submodules; [`crate::plan`] makes
//! map contents of it. An object that cannot be understood is refused alone, as a [`Problem`].

mod node;
mod problem;
mod service;
mod service_cidr;
mod slice;
mod wishes;
mod word;

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc};

use imbl::OrdMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

pub use node::{Node, POD_CIDRS};
pub use problem::{Problem, Severity};
pub use service::{Protocol, Service, ServicePort};
pub use service_cidr::ServiceCidr;
pub use slice::{Endpoint, Hints, Slice, SlicePort};
pub use word::Word;

/// All objects that matter, each under its name. Clusters that follow one another share what stays as it is, so that a copy and
/// the difference of two cost no more than what has changed.
/// Written down without its problems, see [`crate::source::remembered`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Nodes, by name.
    pub nodes: OrdMap<String, Arc<Node>>,
    /// Services that are ours to serve.
    pub services: OrdMap<ObjectName, Arc<Service>>,
    /// Endpoint slices, each of which names its service.
    pub slices: OrdMap<ObjectName, Arc<Slice>>,
    /// The ranges of services, by name. None where the API server does not tell (before Kubernetes 1.33).
    pub service_cidrs: OrdMap<String, Arc<ServiceCidr>>,
    /// What the source refused, or kept an earlier version of.
    #[serde(skip)]
    pub problems: Vec<Problem>,
    /// What the source has not been able to read even once, so that objects may be missing above; also among `problems`.
    #[serde(skip)]
    pub unread: Vec<Problem>,
}

/// A kind of object that the datapath needs, reduced to what it needs of it.
pub(crate) trait Reduce: PartialEq + Sized {
    /// The API's type.
    type Object;
    /// What tells its objects apart: their names, within all namespaces or without any.
    type Key: Ord + Clone;
    /// Its kind.
    const KIND: &'static str;

    /// The key of an object.
    fn key(name: &ObjectName) -> Self::Key;

    /// Reduces one object, without regard to any other; `None` for one that is not ours to serve.
    ///
    /// # Errors
    /// The object cannot be understood: it is refused, and no other with it.
    fn convert(name: &ObjectName, object: &Self::Object) -> Result<Option<Self>, Problem>;
}

/// The name of an object; `namespace/name` where it is written down. Copies share it: it is what objects are found by in many
/// places.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub struct ObjectName(
    /// Namespace, slash and name in one piece: there are many of them, and each more would cost as much as the text.
    Arc<str>,
);

impl ObjectName {
    /// Both parts. No namespace has a slash in it.
    pub fn new(namespace: impl AsRef<str>, name: impl AsRef<str>) -> Self {
        let (namespace, name) = (namespace.as_ref(), name.as_ref());
        Self([namespace, "/", name].concat().into())
    }

    /// The namespace; empty for a node.
    pub fn namespace(&self) -> &str {
        self.parts().0
    }

    /// The name within the namespace.
    pub fn name(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or_default()
    }
}

impl Default for ObjectName {
    fn default() -> Self {
        Self::new("", "")
    }
}

impl From<ObjectName> for String {
    fn from(name: ObjectName) -> Self {
        name.to_string()
    }
}

impl From<String> for ObjectName {
    fn from(written: String) -> Self {
        match written.split_once('/') {
            Some((namespace, name)) => Self::new(namespace, name),
            None => Self::new("", written),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.strip_prefix('/').unwrap_or(&self.0))
    }
}

/// Services and slices with one of these labels belong to another proxy, or want none.
const NOT_OURS_LABELS: [&str; 2] = [
    "service.kubernetes.io/service-proxy-name",
    "service.kubernetes.io/headless",
];

/// Whether an object's labels say that it is not ours to serve.
fn is_not_ours(labels: Option<&BTreeMap<String, String>>) -> bool {
    labels.is_some_and(|labels| NOT_OURS_LABELS.iter().any(|label| labels.contains_key(*label)))
}

/// When an object was created, in seconds since 1970.
fn created(meta: &ObjectMeta) -> Option<i64> {
    meta.creation_timestamp.as_ref().map(|time| time.0.as_second())
}

/// Why no service may answer on an address, and no service may send to it; `None` for an address that may be used.
///
/// Loopback and link-local addresses would let whoever writes a slice reach what listens for the node alone
/// (CVE-2021-25737); the others belong to no single host.
pub(crate) fn unusable(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_unspecified() => Some("is the unspecified address"),
        _ if address.is_loopback() => Some("is a loopback address"),
        _ if address.is_multicast() => Some("is a multicast address"),
        IpAddr::V4(v4) if v4.is_link_local() => Some("is a link-local address"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("is an address of \"this network\" (RFC 1122)"),
        IpAddr::V4(v4) if v4.octets()[0] >= 240 => Some("is a reserved or broadcast address"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("is a link-local address"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("is an IPv4 address written as IPv6"),
        _ => None,
    }
}

/// A port as the API writes it; `None` outside of 1 to 65535.
fn port_number(written: i32) -> Option<u16> {
    u16::try_from(written).ok().filter(|port| *port != 0)
}
