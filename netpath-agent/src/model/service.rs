//! Services, from `v1.Service`: the addresses and ports they answer on.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;
use serde::{Deserialize, Serialize};

use super::{ObjectName, Problem, Reduce, Word, created, wishes::Wishes};

/// A transport protocol that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

    /// The number in an IP header.
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// Reads a `protocol` field, which stands for TCP where it is missing; `None` for one that is not served.
    pub(crate) fn read(written: Option<&str>) -> Option<Self> {
        match written {
            None | Some("" | "TCP") => Some(Protocol::Tcp),
            Some("UDP") => Some(Protocol::Udp),
            Some("SCTP") => Some(Protocol::Sctp),
            Some(_) => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        })
    }
}

/// A service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// When it was created, in seconds since 1970. Where two services claim the same, the elder keeps it.
    pub created: Option<i64>,
    /// Its addresses within the cluster, of either family.
    pub cluster_ips: Vec<IpAddr>,
    /// Addresses of load balancers that send to every node what comes for them, of either family.
    pub ingress_ips: Vec<IpAddr>,
    /// `spec.externalIPs`: further addresses that lead to every node, whoever sees to it, of either family.
    pub external_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`, with the bits beyond the prefix cleared: who may connect to its load balancer's and
    /// external addresses; `None` where everyone may.
    pub sources: Option<Vec<IpNet>>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// How long a client keeps its backend after its last new connection, in seconds; `None` without session affinity.
    pub affinity_timeout: Option<u32>,
    /// `internalTrafficPolicy: Local`: what comes to its cluster addresses stays on the node.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`: what comes from outside, to any other address, stays on the node that it reaches.
    pub external_local: bool,
    /// Where a load balancer asks each node whether it has endpoints.
    pub health_check_node_port: Option<u16>,
    /// What of it is refused, or not served yet. The rest is served.
    #[serde(skip)]
    pub problems: Vec<Problem>,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// The name, by which endpoint slices refer to it. May be empty.
    pub name: Word,
    /// Its protocol.
    pub protocol: Protocol,
    /// The port on the cluster addresses.
    pub port: u16,
    /// The port on every node, for types NodePort and LoadBalancer.
    pub node_port: Option<u16>,
}

impl Reduce for Service {
    type Object = core::Service;
    type Key = ObjectName;
    const KIND: &'static str = "Service";

    fn key(name: &ObjectName) -> ObjectName {
        name.clone()
    }

    /// `None` for a service that has no address of its own (headless, ExternalName, not allocated yet) or belongs to
    /// another proxy. A port that cannot be read or served is left out alone, see [`Service::problems`].
    fn convert(name: &ObjectName, object: &core::Service) -> Result<Option<Self>, Problem> {
        if super::is_not_ours(object.metadata.labels.as_ref()) {
            return Ok(None);
        }
        let Some(spec) = &object.spec else {
            return Ok(None);
        };
        let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
        let is_external = match kind {
            "ClusterIP" => false,
            "NodePort" | "LoadBalancer" => true,
            "ExternalName" => return Ok(None),
            other => {
                return Err(Problem::refused(
                    "Service",
                    name,
                    format!("spec.type: {other:?} is not known"),
                    "use ClusterIP, NodePort, LoadBalancer or ExternalName",
                ));
            }
        };
        let written = match spec.cluster_ips.as_deref().unwrap_or_default() {
            [] => spec.cluster_ip.as_slice(),
            list => list,
        };
        // The API server allocates addresses; in a folder of YAML they may be missing.
        if written.is_empty() || written.iter().any(|address| address == "None" || address.is_empty()) {
            return Ok(None);
        }
        let cluster_ips = written
            .iter()
            .map(|address| read_cluster_ip(name, address))
            .collect::<Result<Vec<_>, _>>()?;
        let mut wishes = Wishes {
            name,
            spec,
            problems: Vec::new(),
        };
        wishes.check_distribution();
        let external_ips = wishes.external_ips();
        let external_local = wishes.is_local("externalTrafficPolicy", spec.external_traffic_policy.as_deref());
        let is_balanced = kind == "LoadBalancer";
        let mut service = Self {
            created: created(&object.metadata),
            cluster_ips,
            ingress_ips: Vec::new(),
            // A service that nobody reaches from outside has no such policy.
            external_local: external_local && (is_external || !external_ips.is_empty()),
            external_ips,
            sources: wishes.sources(),
            ports: Vec::new(),
            affinity_timeout: wishes.affinity_timeout(),
            internal_local: wishes.is_local("internalTrafficPolicy", spec.internal_traffic_policy.as_deref()),
            health_check_node_port: None,
            problems: Vec::new(),
        };
        if is_balanced {
            service.ingress_ips = wishes.ingress_ips(object.status.as_ref());
        }
        if is_balanced && external_local {
            service.health_check_node_port = wishes.health_check_node_port();
        }
        service.problems = wishes.problems;
        for port in spec.ports.as_deref().unwrap_or_default() {
            let read = read_port(name, port, is_external).and_then(|port| unlike(name, port, &service.ports));
            match read {
                Ok(port) => service.ports.push(port),
                Err(problem) => service.problems.push(problem),
            }
        }
        service.trim();
        Ok(Some(service))
    }
}

impl Service {
    /// Gives back the room that lists have for more: there are many services, and none of them changes.
    fn trim(&mut self) {
        self.cluster_ips.shrink_to_fit();
        self.ingress_ips.shrink_to_fit();
        self.external_ips.shrink_to_fit();
        self.sources.iter_mut().for_each(Vec::shrink_to_fit);
        self.ports.shrink_to_fit();
        self.problems.shrink_to_fit();
    }
}

/// An address that packets can be sent to, and that is no one's else.
fn read_cluster_ip(name: &ObjectName, written: &str) -> Result<IpAddr, Problem> {
    let refused = |what: &str| {
        Problem::refused(
            "Service",
            name,
            format!("spec.clusterIPs: {written:?} {what}"),
            "use an address of the cluster's service range, or leave the field out and let the API server choose",
        )
    };
    let address: IpAddr = written.parse().map_err(|_| refused("is not an IP address"))?;
    match super::unusable(address) {
        Some(why) => Err(refused(why)),
        None => Ok(address),
    }
}

/// A port of a name of its own, as the API asks: slices' ports belong to it by its name.
fn unlike(name: &ObjectName, port: ServicePort, others: &[ServicePort]) -> Result<ServicePort, Problem> {
    if others.iter().any(|other| other.name == port.name) {
        return Err(Problem::refused(
            "Service",
            name,
            format!("spec.ports: {} has the name {:?} of another port", port.port, port.name),
            "give each port of a service a name of its own",
        ));
    }
    Ok(port)
}

fn read_port(name: &ObjectName, port: &core::ServicePort, has_node_ports: bool) -> Result<ServicePort, Problem> {
    let label = port.name.as_deref().unwrap_or_default();
    let Some(protocol) = Protocol::read(port.protocol.as_deref()) else {
        let written = port.protocol.as_deref().unwrap_or_default();
        return Err(Problem::refused(
            "Service",
            name,
            format!(
                "spec.ports: port {} {label:?} asks for protocol {written}, which is not served",
                port.port
            ),
            "use TCP, UDP or SCTP",
        ));
    };
    let number = super::port_number(port.port).ok_or_else(|| {
        Problem::refused(
            "Service",
            name,
            format!("spec.ports: {} of port {label:?} is not a port number", port.port),
            "use a number from 1 to 65535",
        )
    })?;
    let node_port = match port.node_port {
        Some(written) if has_node_ports && written != 0 => Some(super::port_number(written).ok_or_else(|| {
            Problem::refused(
                "Service",
                name,
                format!("spec.ports: nodePort {written} of port {label:?} is not a port number"),
                "use a number of the cluster's NodePort range",
            )
        })?),
        _ => None,
    };
    Ok(ServicePort {
        name: label.into(),
        protocol,
        port: number,
        node_port,
    })
}
