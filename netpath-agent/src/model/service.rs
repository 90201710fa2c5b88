//! Services, from `v1.Service`: the addresses and ports they answer on.

use std::{fmt, net::IpAddr};

use k8s_openapi::api::core::v1 as core;
use serde::{Deserialize, Serialize};

use super::{ObjectName, Problem, Reduce, created};

/// Services with one of these labels belong to another proxy, or want none.
const NOT_OURS_LABELS: [&str; 2] = [
    "service.kubernetes.io/service-proxy-name",
    "service.kubernetes.io/headless",
];

/// A transport protocol that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The number in an IP header.
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }

    /// Reads a `protocol` field, which stands for TCP where it is missing; `None` for one that is not served.
    pub(crate) fn read(written: Option<&str>) -> Option<Self> {
        match written {
            None | Some("" | "TCP") => Some(Protocol::Tcp),
            Some("UDP") => Some(Protocol::Udp),
            Some(_) => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
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
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// What of it is refused, or not served yet. The rest is served.
    #[serde(skip)]
    pub problems: Vec<Problem>,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// The name, by which endpoint slices refer to it. May be empty.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// The port on the cluster addresses.
    pub port: u16,
    /// The port on every node, for types NodePort and LoadBalancer.
    pub node_port: Option<u16>,
}

impl Reduce for Service {
    type Object = core::Service;
    const KIND: &'static str = "Service";

    /// `None` for a service that has no address of its own (headless, ExternalName, not allocated yet) or belongs to
    /// another proxy. A port that cannot be read or served is left out alone, see [`Service::problems`].
    fn convert(name: &ObjectName, object: &core::Service) -> Result<Option<Self>, Problem> {
        let labels = object.metadata.labels.as_ref();
        if NOT_OURS_LABELS
            .iter()
            .any(|label| labels.is_some_and(|labels| labels.contains_key(*label)))
        {
            return Ok(None);
        }
        let Some(spec) = &object.spec else {
            return Ok(None);
        };
        let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
        let has_node_ports = match kind {
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
        let mut problems = not_served_yet(name, spec, object.status.as_ref());
        let mut ports = Vec::new();
        for port in spec.ports.as_deref().unwrap_or_default() {
            match read_port(name, port, has_node_ports) {
                Ok(port) => ports.push(port),
                Err(problem) => problems.push(problem),
            }
        }
        Ok(Some(Self {
            created: created(&object.metadata),
            cluster_ips,
            ports,
            problems,
        }))
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

fn read_port(name: &ObjectName, port: &core::ServicePort, has_node_ports: bool) -> Result<ServicePort, Problem> {
    let label = port.name.as_deref().unwrap_or_default();
    let Some(protocol) = Protocol::read(port.protocol.as_deref()) else {
        let written = port.protocol.as_deref().unwrap_or_default();
        return Err(Problem::refused(
            "Service",
            name,
            format!(
                "spec.ports: port {} {label:?} asks for protocol {written}, which is not served yet",
                port.port
            ),
            "use TCP or UDP",
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
        name: label.to_owned(),
        protocol,
        port: number,
        node_port,
    })
}

/// The wishes of a service that are read, but served as if they were not there.
fn not_served_yet(name: &ObjectName, spec: &core::ServiceSpec, status: Option<&core::ServiceStatus>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut notice = |asked: bool, what: &str, instead: &str| {
        if asked {
            let what = format!("{what} is not served yet");
            problems.push(Problem::not_served("Service", name, what, instead));
        }
    };
    notice(
        spec.session_affinity.as_deref() == Some("ClientIP"),
        "spec.sessionAffinity: ClientIP",
        "each connection goes to any endpoint until then; do not rely on affinity",
    );
    let all = "all endpoints are used and the client's address is not kept until then; set the field to Cluster";
    notice(
        spec.internal_traffic_policy.as_deref() == Some("Local"),
        "spec.internalTrafficPolicy: Local",
        all,
    );
    notice(
        spec.external_traffic_policy.as_deref() == Some("Local"),
        "spec.externalTrafficPolicy: Local",
        all,
    );
    notice(
        spec.traffic_distribution.is_some(),
        "spec.trafficDistribution",
        "all endpoints are used alike until then; leave the field out",
    );
    notice(
        spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty()),
        "spec.externalIPs",
        "only clusterIPs and nodePorts answer until then; leave the field out",
    );
    let ingress = status
        .and_then(|status| status.load_balancer.as_ref())
        .and_then(|lb| lb.ingress.as_ref());
    notice(
        spec.type_.as_deref() == Some("LoadBalancer")
            && ingress.is_some_and(|list| list.iter().any(|entry| entry.ip.is_some())),
        "status.loadBalancer.ingress",
        "only clusterIPs and nodePorts answer until then; let the load balancer send to the nodePorts",
    );
    notice(
        spec.load_balancer_source_ranges
            .as_ref()
            .is_some_and(|ranges| !ranges.is_empty()),
        "spec.loadBalancerSourceRanges",
        "every source may connect until then; restrict sources outside of the cluster",
    );
    notice(
        spec.health_check_node_port.is_some_and(|port| port != 0),
        "spec.healthCheckNodePort",
        "nobody answers on it until then; let the load balancer check the nodePorts",
    );
    problems
}
