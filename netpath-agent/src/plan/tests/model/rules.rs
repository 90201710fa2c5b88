//! What the API promises of services, as one node has to keep it: written down from the API's own text (`core/v1`
//! ServiceSpec, `discovery/v1` EndpointSlice, the pages on virtual IPs and on topology), in the plainest code that says it.
//! Nothing here knows the planner or its reduced objects.
//!
//! What the API leaves to whoever implements it is netpath's own rule and marked as such.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::{IpNet, Ipv4Net};
use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};

use super::world::{ALLOWED_EXTERNAL, LOCAL, OWN, SECOND, SERVICE_RANGE, Settings, VXLAN_PORT, World};
use crate::model::ObjectName;

/// An address and a port.
pub type Socket = (Ipv4Addr, u16);
/// Address, port and protocol number of a frontend.
pub type At = (Ipv4Addr, u16, u8);

/// Where a frontend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    ClusterIp,
    Balancer,
    External,
    /// On every address of the node.
    NodePort,
    /// On this one.
    NodePortHere,
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
    /// Of UDP, the backends whose flows stay.
    pub keep: Option<BTreeSet<Socket>>,
    /// For how long clients keep their backend, which they share on all frontends of this port of this service.
    pub affinity: Option<(ObjectName, String, u32)>,
    /// The ranges of those that may connect; `None` for everyone.
    pub clients: Option<Vec<Ipv4Net>>,
}

/// All that a node promises.
#[derive(Debug, Default)]
pub struct Promises {
    pub frontends: BTreeMap<At, Promise>,
    /// The addresses on which all that is not served is refused, and whether also to who is inside.
    pub addresses: BTreeMap<Ipv4Addr, bool>,
    pub health_checks: BTreeMap<u16, (ObjectName, usize)>,
}

/// An endpoint with the number of one of its slice's ports.
struct Candidate<'a> {
    socket: Socket,
    ready: bool,
    serving: bool,
    terminating: bool,
    is_here: bool,
    hints: Option<&'a discovery::EndpointHints>,
}

/// What node `a` promises.
pub fn promises(world: &World, settings: &Settings) -> Promises {
    let mut promises = Promises::default();
    let mut node_ports = BTreeSet::new();
    let mut cluster_ips = BTreeSet::new();
    // Netpath's own rule: of two services that claim the same, the elder has it.
    let mut services: Vec<_> = world.services.iter().collect();
    services.sort_by_key(|(name, service)| (service.metadata.creation_timestamp.clone(), *name));
    for (name, service) in services {
        let Some(spec) = served(service) else { continue };
        let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
        let mut own = BTreeSet::new();
        for address in addresses(spec.cluster_ips.as_deref()) {
            if !world.has(address) && (own.contains(&address) || cluster_ips.insert(address)) {
                own.insert(address);
            }
        }
        let may_share = |address: &Ipv4Addr| {
            !cluster_ips.contains(address) && !world.has_pod(*address) && !SERVICE_RANGE.contains(address)
        };
        let mut balancers = BTreeSet::new();
        if kind == "LoadBalancer" {
            let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
            for ingress in balancer
                .and_then(|balancer| balancer.ingress.as_ref())
                .into_iter()
                .flatten()
            {
                // ipMode: VIP unless it says Proxy, which is to come in by NodePorts.
                if ingress.ip_mode.as_deref() != Some("Proxy") {
                    balancers.extend(addresses(ingress.ip.as_ref().map(std::slice::from_ref)));
                }
            }
        }
        balancers.retain(may_share);
        let mut external = addresses(spec.external_ips.as_deref());
        external
            .retain(|address| ALLOWED_EXTERNAL.contains(address) && may_share(address) && !balancers.contains(address));

        // What leads to the nodes from outside must not go back there, unless the node itself has it.
        let shared = balancers.iter().chain(&external).copied();
        let shared = shared.filter(|address| ![OWN, SECOND].contains(address) && !LOCAL.contains(address));
        promises.addresses.extend(shared.map(|address| (address, false)));
        promises.addresses.extend(own.iter().map(|address| (*address, true)));

        let is_external = kind != "ClusterIP" || spec.external_ips.as_ref().is_some_and(|all| !all.is_empty());
        let inside_local = spec.internal_traffic_policy.as_deref() == Some("Local");
        let outside_local = spec.external_traffic_policy.as_deref() == Some("Local") && is_external;
        let clients = clients(spec);
        let slices = slices(world, name);
        let endpoints = endpoints(world, &slices);
        for port in ports(spec) {
            let candidates = candidates(&slices, &endpoints, port);
            let number = port.port as u16;
            let protocol = protocol(port);
            let promise = |kind, inside_local, outside_local| Promise {
                kind,
                inside: goes(&candidates, world, inside_local),
                outside: goes(&candidates, world, outside_local),
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
                    Kind::NodePort | Kind::NodePortHere if !settings.node_ports_have_sources => None,
                    _ => clients.clone(),
                },
            };
            let frontends = &mut promises.frontends;
            let mut open = |addresses: &BTreeSet<Ipv4Addr>, number, promise: Promise| {
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
            let node_port = port
                .node_port
                .filter(|node_port| *node_port != 0 && kind != "ClusterIP");
            if let Some(node_port) = node_port
                && may_open(node_port, protocol)
                && node_ports.insert((node_port, protocol))
            {
                let (addresses, kind) = opened(settings);
                open(&addresses, node_port as u16, promise(kind, false, outside_local));
            }
        }
        if kind == "LoadBalancer" && spec.external_traffic_policy.as_deref() == Some("Local") {
            let asked = spec.health_check_node_port.filter(|port| *port != 0);
            if let Some(port) = asked
                && may_open(port, 6)
                && node_ports.insert((port, 6))
            {
                promises
                    .health_checks
                    .insert(port as u16, (name.clone(), ready_here(&endpoints)));
            }
        }
    }
    promises
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

/// The addresses of IPv4 that may be used at all.
fn addresses(written: Option<&[String]>) -> BTreeSet<Ipv4Addr> {
    let read = written
        .unwrap_or_default()
        .iter()
        .filter_map(|text| text.parse::<Ipv4Addr>().ok());
    read.filter(|address| !address.is_loopback() && !address.is_link_local() && !address.is_multicast())
        .collect()
}

fn protocol(port: &core::ServicePort) -> u8 {
    match port.protocol.as_deref() {
        Some("UDP") => 17,
        _ => 6,
    }
}

/// The ports that are served: each of a name of its own, TCP or UDP.
fn ports(spec: &core::ServiceSpec) -> Vec<&core::ServicePort> {
    let mut all: Vec<&core::ServicePort> = Vec::new();
    for port in spec.ports.iter().flatten() {
        let name = port.name.as_deref().unwrap_or_default();
        let is_new = all
            .iter()
            .all(|other| other.name.as_deref().unwrap_or_default() != name);
        if port.protocol.as_deref() != Some("SCTP") && (1..=65535).contains(&port.port) && is_new {
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
fn clients(spec: &core::ServiceSpec) -> Option<Vec<Ipv4Net>> {
    let written = spec
        .load_balancer_source_ranges
        .as_ref()
        .filter(|all| !all.is_empty())?;
    let ranges = written.iter().filter_map(|text| text.trim().parse::<IpNet>().ok());
    let of_family = ranges.filter_map(|range| match range {
        IpNet::V4(range) => Some(range),
        IpNet::V6(_) => None,
    });
    Some(of_family.collect())
}

/// Ports of nodes: the API server's range, and not the tunnel's.
fn may_open(port: i32, protocol: u8) -> bool {
    (30000..=32767).contains(&port) && !(protocol == 17 && port == i32::from(VXLAN_PORT))
}

/// kube-proxy's `--nodeport-addresses`: addresses of the node in one of the ranges, or its primary one.
fn opened(settings: &Settings) -> (BTreeSet<Ipv4Addr>, Kind) {
    match settings.node_port_addresses {
        "all" | "0.0.0.0/0" => ([OWN, SECOND].into(), Kind::NodePort),
        "primary" => ([OWN].into(), Kind::NodePortHere),
        ranges => {
            let ranges: Vec<Ipv4Net> = ranges.split(',').map(|range| range.parse().unwrap()).collect();
            let all = [OWN, SECOND, Ipv4Addr::LOCALHOST].into_iter();
            let chosen = all.filter(|address| ranges.iter().any(|range| range.contains(address)));
            (chosen.collect(), Kind::NodePortHere)
        }
    }
}

/// The slices of a service: by their label, of its namespace, of IPv4, and of no other proxy.
fn slices<'a>(world: &'a World, service: &ObjectName) -> Vec<&'a discovery::EndpointSlice> {
    let belongs = |(name, slice): &(&ObjectName, &discovery::EndpointSlice)| {
        let labels = slice.metadata.labels.as_ref();
        let label = |label: &str| labels.and_then(|labels| labels.get(label));
        name.namespace == service.namespace
            && label("kubernetes.io/service-name") == Some(&service.name)
            && label("service.kubernetes.io/service-proxy-name").is_none()
            && label("service.kubernetes.io/headless").is_none()
            && slice.address_type == "IPv4"
    };
    world.slices.iter().filter(belongs).map(|(_, slice)| slice).collect()
}

/// An endpoint that may answer: the place of its slice, its first address, and whether it is on this node.
type Placed<'a> = (usize, Ipv4Addr, &'a discovery::Endpoint, bool);

/// The endpoints of slices that may answer. Where slices have one on different nodes, the first slice counts (netpath's own
/// rule).
fn endpoints<'a>(world: &World, slices: &[&'a discovery::EndpointSlice]) -> Vec<Placed<'a>> {
    let all = slices.iter().enumerate().flat_map(|(number, slice)| {
        let endpoints = slice.endpoints.iter().flatten();
        endpoints.map(move |endpoint| (number, endpoint))
    });
    let usable: Vec<(usize, Ipv4Addr, &discovery::Endpoint)> = all
        .filter_map(|(number, endpoint)| {
            let first = endpoint.addresses.first().map(std::slice::from_ref);
            Some((number, addresses(first).pop_first()?, endpoint))
        })
        .collect();
    let may_answer = |address: &Ipv4Addr| !SERVICE_RANGE.contains(address) && !world.is_gateway(*address);
    let place = |&(number, address, endpoint): &(usize, Ipv4Addr, &'a discovery::Endpoint)| {
        let same = usable.iter().filter(|(_, other, _)| *other == address);
        let mut said = same.filter_map(|(slice, _, one)| Some((*slice, one.node_name.as_deref()?)));
        let node = match said.next() {
            Some((first, node)) if said.any(|(slice, other)| slice != first && other != node) => Some(node),
            _ => endpoint.node_name.as_deref(),
        };
        (number, address, endpoint, node == Some("a"))
    };
    usable
        .iter()
        .filter(|(_, address, _)| may_answer(address))
        .map(place)
        .collect()
}

/// The endpoints with the numbers that their slices have for a port of the service.
fn candidates<'a>(
    slices: &[&discovery::EndpointSlice],
    endpoints: &[Placed<'a>],
    port: &core::ServicePort,
) -> Vec<Candidate<'a>> {
    let mut candidates = Vec::new();
    for &(number, address, endpoint, is_here) in endpoints {
        let mut names = BTreeSet::new();
        for target in slices[number].ports.iter().flatten() {
            let name = target.name.as_deref().unwrap_or_default();
            let Some(target_port) = target.port.filter(|_| names.insert(name)) else {
                continue;
            };
            let same_protocol =
                target.protocol.as_deref().unwrap_or("TCP") == port.protocol.as_deref().unwrap_or("TCP");
            if name != port.name.as_deref().unwrap_or_default() || !same_protocol {
                continue;
            }
            // Every condition may be missing: ready and serving are true then, terminating is false.
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            candidates.push(Candidate {
                socket: (address, target_port as u16),
                ready: conditions.ready != Some(false),
                serving: conditions.serving != Some(false),
                terminating: conditions.terminating == Some(true),
                is_here,
                hints: endpoint.hints.as_ref(),
            });
        }
    }
    candidates
}

/// Where connections go under a traffic policy.
fn goes(candidates: &[Candidate<'_>], world: &World, local: bool) -> Goes {
    let ready: Vec<_> = candidates
        .iter()
        .filter(|one| one.ready && (one.is_here || !local))
        .collect();
    let leaving = |one: &&Candidate<'_>| !one.ready && one.serving && one.terminating;
    let chosen: BTreeSet<Socket> = if ready.is_empty() {
        let leaving = candidates.iter().filter(leaving).filter(|one| one.is_here || !local);
        leaving.map(|one| one.socket).collect()
    } else if local {
        ready.iter().map(|one| one.socket).collect()
    } else {
        near(&ready, world)
    };
    let any = candidates.iter().any(|one| one.ready || leaving(&one));
    match (chosen.is_empty(), any) {
        (false, _) => Goes::To(chosen),
        (true, true) => Goes::Dropped,
        (true, false) => Goes::Refused,
    }
}

/// Hints: those for this node if every endpoint has some for nodes and one is for this; else the same of zones; else all.
fn near(ready: &[&Candidate<'_>], world: &World) -> BTreeSet<Socket> {
    let nodes = |one: &Candidate<'_>| {
        let hinted = one
            .hints
            .and_then(|hints| hints.for_nodes.as_ref())
            .into_iter()
            .flatten();
        hinted.map(|node| node.name.clone()).collect::<Vec<_>>()
    };
    let zones = |one: &Candidate<'_>| {
        let hinted = one
            .hints
            .and_then(|hints| hints.for_zones.as_ref())
            .into_iter()
            .flatten();
        hinted.map(|zone| zone.name.clone()).collect::<Vec<_>>()
    };
    let met = |hints: &dyn Fn(&Candidate<'_>) -> Vec<String>, own: &str| -> BTreeSet<Socket> {
        if ready.iter().any(|one| hints(one).is_empty()) {
            return BTreeSet::new();
        }
        let meant = ready.iter().filter(|one| hints(one).iter().any(|name| name == own));
        meant.map(|one| one.socket).collect()
    };
    let by_node = met(&nodes, "a");
    if !by_node.is_empty() {
        return by_node;
    }
    let by_zone = match world.zone() {
        Some(zone) => met(&zones, zone),
        None => BTreeSet::new(),
    };
    if !by_zone.is_empty() {
        return by_zone;
    }
    ready.iter().map(|one| one.socket).collect()
}

/// How many endpoints of a service are ready on this node.
fn ready_here(endpoints: &[Placed<'_>]) -> usize {
    let is_ready = |endpoint: &discovery::Endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.and_then(|conditions| conditions.ready) != Some(false)
    };
    let ready = endpoints
        .iter()
        .filter(|(_, _, endpoint, is_here)| *is_here && is_ready(endpoint));
    ready.map(|(_, address, ..)| *address).collect::<BTreeSet<_>>().len()
}
