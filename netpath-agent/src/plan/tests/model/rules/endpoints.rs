//! Who answers for a service, of one family: its slices' endpoints, and which of them a connection goes to.

use std::{collections::BTreeSet, net::IpAddr};

use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};

use super::{
    super::world::{Family, SERVICE_RANGES, World},
    Goes, Nodes, Socket, addresses,
};
use crate::model::ObjectName;

/// An endpoint with the number of one of its slice's ports.
pub struct Candidate<'a> {
    pub socket: Socket,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub is_here: bool,
    pub hints: Option<&'a discovery::EndpointHints>,
}

/// The slices of a service: by their label, of its namespace, of the family, and of no other proxy.
pub fn slices<'a>(world: &'a World, service: &ObjectName, family: Family) -> Vec<&'a discovery::EndpointSlice> {
    let belongs = |(name, slice): &(&ObjectName, &discovery::EndpointSlice)| {
        let labels = slice.metadata.labels.as_ref();
        let label = |label: &str| labels.and_then(|labels| labels.get(label));
        name.namespace() == service.namespace()
            && label("kubernetes.io/service-name").map(String::as_str) == Some(service.name())
            && label("service.kubernetes.io/service-proxy-name").is_none()
            && label("service.kubernetes.io/headless").is_none()
            && slice.address_type == family.address_type()
    };
    world.slices.iter().filter(belongs).map(|(_, slice)| slice).collect()
}

/// An endpoint that may answer: the place of its slice, its first address, and whether it is on this node.
pub type Placed<'a> = (usize, IpAddr, &'a discovery::Endpoint, bool);

/// The endpoints of slices that may answer. Where slices have one on different nodes, the first slice counts (netpath's own
/// rule).
pub fn endpoints<'a>(nodes: &Nodes, slices: &[&'a discovery::EndpointSlice], family: Family) -> Vec<Placed<'a>> {
    let all = slices.iter().enumerate().flat_map(|(number, slice)| {
        let endpoints = slice.endpoints.iter().flatten();
        endpoints.map(move |endpoint| (number, endpoint))
    });
    let usable: Vec<(usize, IpAddr, &discovery::Endpoint)> = all
        .filter_map(|(number, endpoint)| {
            let first = endpoint.addresses.first().map(std::slice::from_ref);
            Some((number, addresses(first, family).pop_first()?, endpoint))
        })
        .collect();
    let in_range = |address: &IpAddr| SERVICE_RANGES.iter().any(|range| range.contains(address));
    let may_answer = |address: &IpAddr| !in_range(address) && !nodes.have_gateway(*address);
    let place = |&(number, address, endpoint): &(usize, IpAddr, &'a discovery::Endpoint)| {
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
pub fn candidates<'a>(
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
pub fn goes(candidates: &[Candidate<'_>], world: &World, local: bool) -> Goes {
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
pub fn ready_here(endpoints: &[Placed<'_>]) -> usize {
    let is_ready = |endpoint: &discovery::Endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.and_then(|conditions| conditions.ready) != Some(false)
    };
    let ready = endpoints
        .iter()
        .filter(|(_, _, endpoint, is_here)| *is_here && is_ready(endpoint));
    ready.map(|(_, address, ..)| *address).collect::<BTreeSet<_>>().len()
}
