//! What the API promises of services, as one node has to keep it: written down from the API's own text (`core/v1`
//! ServiceSpec, `discovery/v1` EndpointSlice, the pages on virtual IPs and on topology), in the plainest code that says it.
//! Nothing here knows the planner or its reduced objects.
//!
//! What the API leaves to whoever implements it is netpath's own rule and marked as such.

mod endpoints;
mod nodes;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;

use self::endpoints::{candidates, endpoints, goes, ready_here, slices};
pub use self::nodes::{Nodes, Way};
use super::world::{ALLOWED_EXTERNAL, Family, LOCAL, SERVICE_RANGES, Settings, VXLAN_PORT, World};
use crate::model::ObjectName;

/// An address and a port.
pub type Socket = (IpAddr, u16);
/// Address, port and protocol number of a frontend.
pub type At = (IpAddr, u16, u8);

/// Where a frontend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    ClusterIp,
    Balancer,
    External,
    /// On every address of the node, in the family.
    NodePort,
    /// On this one.
    NodePortHere,
    /// Netpath's own: of another node, which relays it.
    Relayed,
}

/// Whom a connection goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goes {
    /// To one of these.
    To(BTreeSet<Socket>),
    /// Nowhere, and its sender is told.
    Refused,
    /// Nowhere.
    Dropped,
}

/// What a frontend promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    pub kind: Kind,
    /// Connections of this node's pods and of the node itself.
    pub inside: Goes,
    /// Connections from elsewhere.
    pub outside: Goes,
    /// Netpath's own: every node chooses the same backend for a connection from elsewhere.
    pub alike: bool,
    /// Of UDP, the backends whose flows stay.
    pub keep: Option<BTreeSet<Socket>>,
    /// For how long clients keep their backend, which they share on all frontends of this port of this service.
    pub affinity: Option<(ObjectName, String, u32)>,
    /// The ranges of those that may connect; `None` for everyone.
    pub clients: Option<Vec<IpNet>>,
}

/// All that a node promises.
#[derive(Debug, Default)]
pub struct Promises {
    pub frontends: BTreeMap<At, Promise>,
    /// The addresses on which all that is not served is refused, and whether also to who is inside.
    pub addresses: BTreeMap<IpAddr, bool>,
    pub health_checks: BTreeMap<u16, (ObjectName, usize)>,
}

/// What node `a` promises, as it knows the nodes.
pub fn promises(world: &World, nodes: &Nodes, settings: &Settings) -> Promises {
    let mut promises = Promises::default();
    let mut node_ports = BTreeSet::new();
    let mut cluster_ips = BTreeSet::new();
    // Netpath's own rule: of two services that claim the same, the elder has it.
    let mut services: Vec<_> = world.services.iter().collect();
    services.sort_by_key(|(name, service)| (service.metadata.creation_timestamp.clone(), *name));
    for (name, service) in services {
        let Some(spec) = served(service) else { continue };
        let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
        // A NodePort is the service's on every node, whatever the family.
        let node_port = |port: &&core::ServicePort| {
            let asked = port.node_port.filter(|asked| *asked != 0 && kind != "ClusterIP")?;
            let claimed = may_open(asked, protocol(port)) && node_ports.insert((asked, protocol(port)));
            claimed.then_some(asked as u16)
        };
        let opened: Vec<Option<u16>> = ports(spec).iter().map(node_port).collect();
        let mut ready = 0;
        for family in settings.families {
            // ipFamilies: a service is of the families that it has a cluster address of.
            if !addresses(spec.cluster_ips.as_deref(), *family).is_empty() {
                let own = Owned {
                    name,
                    service,
                    spec,
                    family: *family,
                    opened: &opened,
                };
                ready = ready.max(own.promise((world, nodes), settings, &mut cluster_ips, &mut promises));
            }
        }
        if kind == "LoadBalancer" && spec.external_traffic_policy.as_deref() == Some("Local") {
            let asked = spec.health_check_node_port.filter(|port| *port != 0);
            if let Some(port) = asked
                && may_open(port, 6)
                && node_ports.insert((port, 6))
            {
                // Netpath's own rule: a pod of both families is counted once.
                promises.health_checks.insert(port as u16, (name.clone(), ready));
            }
        }
    }
    promises
}

/// A service in one of its families.
struct Owned<'a> {
    name: &'a ObjectName,
    service: &'a core::Service,
    spec: &'a core::ServiceSpec,
    family: Family,
    /// The NodePort of each of its ports.
    opened: &'a [Option<u16>],
}

impl Owned<'_> {
    /// Adds what is promised, and says how many of the endpoints are ready on the node.
    fn promise(
        &self,
        (world, nodes): (&World, &Nodes),
        settings: &Settings,
        cluster_ips: &mut BTreeSet<IpAddr>,
        promises: &mut Promises,
    ) -> usize {
        let Self { name, spec, family, .. } = *self;
        let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
        let mut own = BTreeSet::new();
        for address in addresses(spec.cluster_ips.as_deref(), family) {
            if !nodes.have(address) && cluster_ips.insert(address) {
                own.insert(address);
            }
        }
        let may_share = |address: &IpAddr| {
            let in_range = SERVICE_RANGES.iter().any(|range| range.contains(address));
            !cluster_ips.contains(address) && !nodes.have_pod(*address) && !in_range
        };
        let mut balancers = self.balancers();
        balancers.retain(may_share);
        let allowed = |address: &IpAddr| ALLOWED_EXTERNAL.iter().any(|range| range.contains(address));
        let mut external = addresses(spec.external_ips.as_deref(), family);
        external.retain(|address| allowed(address) && may_share(address) && !balancers.contains(address));

        // What leads to the nodes from outside must not go back there, unless the node itself has it.
        let is_local = |address: &IpAddr| {
            settings.addresses().any(|own| own == *address) || LOCAL.iter().any(|range| range.contains(address))
        };
        let shared = balancers.iter().chain(&external).filter(|address| !is_local(address));
        promises.addresses.extend(shared.map(|address| (*address, false)));
        promises.addresses.extend(own.iter().map(|address| (*address, true)));

        let is_external = kind != "ClusterIP" || spec.external_ips.as_ref().is_some_and(|all| !all.is_empty());
        let inside_local = spec.internal_traffic_policy.as_deref() == Some("Local");
        let outside_local = spec.external_traffic_policy.as_deref() == Some("Local") && is_external;
        let clients = clients(spec, family);
        let slices = slices(world, name, family);
        let endpoints = endpoints(nodes, &slices, family);
        for (port, node_port) in ports(spec).into_iter().zip(self.opened) {
            let candidates = candidates(&slices, &endpoints, port);
            let number = port.port as u16;
            let protocol = protocol(port);
            let promise = |kind, inside_local, outside_local| Promise {
                kind,
                inside: goes(&candidates, world, inside_local),
                outside: goes(&candidates, world, outside_local),
                alike: settings.alike && kind != Kind::ClusterIp && !outside_local,
                keep: (protocol == 17).then(|| {
                    let answering = candidates.iter().filter(|one| one.ready || one.serving);
                    answering.map(|one| one.socket).collect()
                }),
                affinity: affinity(spec).map(|seconds| {
                    let port = format!("{}/{number}/{protocol}", port.name.clone().unwrap_or_default());
                    (name.clone(), port, seconds)
                }),
                clients: match kind {
                    Kind::ClusterIp => None,
                    Kind::NodePort | Kind::NodePortHere | Kind::Relayed if !settings.node_ports_have_sources => None,
                    _ => clients.clone(),
                },
            };
            let frontends = &mut promises.frontends;
            let mut open = |addresses: &BTreeSet<IpAddr>, number, promise: Promise| {
                for address in addresses {
                    frontends
                        .entry((*address, number, protocol))
                        .or_insert_with(|| promise.clone());
                }
            };
            // A policy for internal traffic holds for cluster addresses, one for external traffic for all others; traffic
            // from inside to those is short-circuited to every endpoint.
            open(&own, number, promise(Kind::ClusterIp, inside_local, inside_local));
            open(&balancers, number, promise(Kind::Balancer, false, outside_local));
            open(&external, number, promise(Kind::External, false, outside_local));
            if let Some(node_port) = node_port {
                let (addresses, kind) = opened(settings, family);
                open(&addresses, *node_port, promise(kind, false, outside_local));
                if settings.alike && settings.relays && !outside_local {
                    let nowhere = match family {
                        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                    };
                    open(&[nowhere].into(), *node_port, promise(Kind::Relayed, false, false));
                }
            }
        }
        ready_here(&endpoints)
    }

    /// The addresses of its load balancer.
    fn balancers(&self) -> BTreeSet<IpAddr> {
        let mut balancers = BTreeSet::new();
        let balancer = self
            .service
            .status
            .as_ref()
            .and_then(|status| status.load_balancer.as_ref());
        let ingress = balancer
            .and_then(|balancer| balancer.ingress.as_ref())
            .into_iter()
            .flatten();
        for ingress in ingress.filter(|_| self.spec.type_.as_deref() == Some("LoadBalancer")) {
            // ipMode: VIP unless it says Proxy, which is to come in by NodePorts.
            if ingress.ip_mode.as_deref() != Some("Proxy") {
                balancers.extend(addresses(ingress.ip.as_ref().map(std::slice::from_ref), self.family));
            }
        }
        balancers
    }
}

/// A service that has an address of its own and no other proxy.
fn served(service: &core::Service) -> Option<&core::ServiceSpec> {
    let labels = service.metadata.labels.as_ref();
    let is = |label: &str| labels.is_some_and(|labels| labels.contains_key(label));
    if is("service.kubernetes.io/service-proxy-name") || is("service.kubernetes.io/headless") {
        return None;
    }
    let spec = service.spec.as_ref()?;
    let has_address = spec
        .cluster_ips
        .as_ref()
        .is_some_and(|all| !all.is_empty() && !all.iter().any(|one| one == "None"));
    (spec.type_.as_deref() != Some("ExternalName") && has_address).then_some(spec)
}

/// The addresses of a family that may be used at all.
fn addresses(written: Option<&[String]>, family: Family) -> BTreeSet<IpAddr> {
    let read = written.unwrap_or_default().iter().filter_map(|text| text.parse().ok());
    let is_link_local = |address: &IpAddr| match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    read.filter(|address| Family::of(*address) == family)
        .filter(|address| !address.is_loopback() && !is_link_local(address) && !address.is_multicast())
        .collect()
}

fn protocol(port: &core::ServicePort) -> u8 {
    match port.protocol.as_deref() {
        Some("UDP") => 17,
        Some("SCTP") => 132,
        _ => 6,
    }
}

/// The ports that are served: each of a name of its own.
fn ports(spec: &core::ServiceSpec) -> Vec<&core::ServicePort> {
    let mut all: Vec<&core::ServicePort> = Vec::new();
    for port in spec.ports.iter().flatten() {
        let name = port.name.as_deref().unwrap_or_default();
        let is_new = all
            .iter()
            .all(|other| other.name.as_deref().unwrap_or_default() != name);
        if (1..=65535).contains(&port.port) && is_new {
            all.push(port);
        }
    }
    all
}

/// `sessionAffinityConfig.clientIP.timeoutSeconds`: from 1 to 86400, 10800 by default.
fn affinity(spec: &core::ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let client_ip = spec
        .session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref());
    let seconds = client_ip.and_then(|config| config.timeout_seconds);
    Some(seconds.filter(|seconds| (1..=86400).contains(seconds)).unwrap_or(10800) as u32)
}

/// `loadBalancerSourceRanges`: clients in any of them. Netpath's own rule: what is no range admits nobody.
fn clients(spec: &core::ServiceSpec, family: Family) -> Option<Vec<IpNet>> {
    let written = spec
        .load_balancer_source_ranges
        .as_ref()
        .filter(|all| !all.is_empty())?;
    let ranges = written.iter().filter_map(|text| text.trim().parse::<IpNet>().ok());
    Some(ranges.filter(|range| Family::of(range.addr()) == family).collect())
}

/// Ports of nodes: the API server's range, and not the tunnel's.
fn may_open(port: i32, protocol: u8) -> bool {
    (30000..=32767).contains(&port) && !(protocol == 17 && port == i32::from(VXLAN_PORT))
}

/// kube-proxy's `--nodeport-addresses`: addresses of the node in one of the ranges, or its primary one of each family.
fn opened(settings: &Settings, family: Family) -> (BTreeSet<IpAddr>, Kind) {
    let local = LOCAL.iter().map(|range| range.addr());
    let all = settings.addresses().chain(local);
    let own: Vec<IpAddr> = all.filter(|own| Family::of(*own) == family).collect();
    let loopback = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Family::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    match settings.node_port_addresses {
        "all" => (own.into_iter().collect(), Kind::NodePort),
        "primary" => {
            let internal = own.into_iter().take(usize::from(settings.own.contains(&family)));
            (internal.collect(), Kind::NodePortHere)
        }
        ranges => {
            let ranges: Vec<IpNet> = ranges.split(',').map(|range| range.parse().unwrap()).collect();
            let is_in = |address: &IpAddr| ranges.iter().any(|range| range.contains(address));
            // kube-proxy adds the range of all addresses to a family without one (`pkg/proxy/util`, `NewNodePortAddresses`).
            let is_unsaid = !ranges.iter().any(|range| Family::of(range.addr()) == family);
            match is_unsaid || is_in(&loopback) && own.iter().all(is_in) {
                true => (own.into_iter().collect(), Kind::NodePort),
                false => {
                    let all = own.into_iter().chain([loopback]);
                    (all.filter(is_in).collect(), Kind::NodePortHere)
                }
            }
        }
    }
}
