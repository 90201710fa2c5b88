//! Who answers for a service's port: its slices merged, and of the ready endpoints those that are meant for this node.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use netpath_common::abi::service::Backend;

use super::{NodeFacts, judge::Judge, site::Site, topology::Here};
use crate::{
    family::Family,
    model::{Endpoint, Hints, ObjectName, Problem, Protocol, ServicePort, Slice},
};

/// All slices, by their service.
#[derive(Default)]
pub(super) struct Slices {
    /// By the service's name and their own.
    by_service: BTreeMap<(ObjectName, ObjectName), Arc<Slice>>,
}

impl Slices {
    /// Adds a slice.
    pub fn add(&mut self, name: &ObjectName, slice: &Arc<Slice>) {
        let key = (slice.service.clone(), name.clone());
        self.by_service.insert(key, Arc::clone(slice));
    }

    /// Takes a slice away.
    pub fn remove(&mut self, name: &ObjectName, slice: &Slice) {
        self.by_service.remove(&(slice.service.clone(), name.clone()));
    }

    /// The slices of one service, by name. What they say is held against each other, and contradictions are told.
    pub fn of_service(&self, service: &ObjectName, problems: &mut Vec<Problem>) -> OfService<'_> {
        // No name is less than the default's.
        let first = (service.clone(), ObjectName::default());
        let slices = self.by_service.range(first..);
        let slices = slices.take_while(|((of, _), _)| of == service);
        let slices: Vec<_> = slices.map(|((_, name), slice)| (name, slice.as_ref())).collect();
        let nodes = nodes(&slices, problems);
        OfService { slices, nodes }
    }
}

/// The slices of a service.
pub(super) struct OfService<'a> {
    slices: Vec<(&'a ObjectName, &'a Slice)>,
    /// The nodes of addresses that are in several slices on different nodes.
    nodes: HashMap<IpAddr, &'a str>,
}

impl OfService<'_> {
    /// What was wrong with each.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.slices.iter().flat_map(|(_, slice)| &slice.problems)
    }

    /// Whether an endpoint is on this node. One that does not say is nowhere.
    fn is_here(&self, endpoint: &Endpoint, facts: &NodeFacts) -> bool {
        let node = match self.nodes.get(&endpoint.address) {
            Some(node) => Some(*node),
            None => endpoint.node.as_deref(),
        };
        node == Some(&facts.name)
    }
}

/// Where endpoints are of which slices say different things: where the first says. Of two nodes that both take an endpoint
/// for theirs, one would break its service's traffic policy.
fn nodes<'a>(slices: &[(&'a ObjectName, &'a Slice)], problems: &mut Vec<Problem>) -> HashMap<IpAddr, &'a str> {
    let mut contradicted = HashMap::new();
    if slices.len() < 2 {
        return contradicted;
    }
    let mut seen: HashMap<IpAddr, (&str, &ObjectName)> = HashMap::new();
    for (name, slice) in slices.iter().copied() {
        for endpoint in &slice.endpoints {
            let Some(node) = endpoint.node.as_deref() else { continue };
            let (first, by) = *seen.entry(endpoint.address).or_insert((node, name));
            if first != node && by != name {
                contradicted.insert(endpoint.address, first);
                problems.push(Problem::refused(
                    "EndpointSlice",
                    name,
                    format!(
                        "endpoints: \"{}\" is on node {node} here, and on node {first} in {by}, which counts",
                        endpoint.address
                    ),
                    "correct the nodeName, or remove the slice that is stale",
                ));
            }
        }
    }
    contradicted
}

/// Lists of backends, each in order and each backend once: an endpoint that moves from one slice to another is in both for
/// a while.
#[derive(Debug, Default)]
pub(super) struct Backends<F: Family> {
    /// Those of the whole cluster that take new connections, as far as hints mean them for this node.
    pub cluster: Arc<[F::Backend]>,
    /// Those of this node that do. They are chosen by themselves: with none ready here, those here that still answer on their
    /// way out do, though others are ready elsewhere.
    pub local: Arc<[F::Backend]>,
    /// Of UDP, all that answer, whether or not they take new connections.
    pub serving: Arc<[F::Backend]>,
}

/// The ready endpoints of a port in a family; with none ready, those that still answer on their way out. A slice's ports hold for its
/// own endpoints alone.
pub(super) fn backends<F: Family>(
    port: &ServicePort,
    slices: &OfService<'_>,
    (site, here, facts): (&Site<F>, Here<'_>, &NodeFacts),
    known: &mut Known<F::Backend>,
    problems: &mut Vec<Problem>,
) -> Backends<F> {
    let (mut cluster, mut local, mut serving) = (Candidates::default(), Candidates::default(), Vec::new());
    for (name, slice) in slices.slices.iter().copied() {
        for target in slice
            .ports
            .iter()
            .filter(|target| target.name == port.name && target.protocol == port.protocol)
        {
            for endpoint in &slice.endpoints {
                let Some(address) = F::address(endpoint.address) else {
                    continue;
                };
                if let Some(why) = site.judge.why_not(address, facts) {
                    problems.push(Problem::refused(
                        "EndpointSlice",
                        name,
                        format!("endpoints: \"{address}\" {why}"),
                        "give the address of a pod or of a host",
                    ));
                    continue;
                }
                let backend = Backend {
                    address: F::octets(address),
                    port: target.port,
                    reserved: [0; 2],
                };
                let backend = F::Backend::from(backend);
                cluster.add(endpoint, backend);
                if slices.is_here(endpoint, facts) {
                    local.add(endpoint, backend);
                }
                if port.protocol == Protocol::Udp && (endpoint.ready || endpoint.serving) {
                    serving.push(backend);
                }
            }
        }
    }
    Backends {
        cluster: known.share(cluster.chosen(&here)),
        local: known.share(local.chosen(&Here::default())),
        serving: known.share(serving),
    }
}

/// How many endpoints of a service are ready on this node in a family, on whichever of its ports.
pub(super) fn ready_here<F: Family>(slices: &OfService<'_>, facts: &NodeFacts, judge: &Judge<F>) -> usize {
    let endpoints = slices.slices.iter().flat_map(|(_, slice)| &slice.endpoints);
    let ready = endpoints.filter(|endpoint| endpoint.ready && slices.is_here(endpoint, facts));
    let addresses = ready.filter_map(|endpoint| F::address(endpoint.address));
    let usable = addresses.filter(|address| judge.why_not(*address, facts).is_none());
    usable.collect::<BTreeSet<_>>().len()
}

/// Endpoints to choose the best of.
struct Candidates<'a, B> {
    ready: Vec<(B, Option<&'a Hints>)>,
    leaving: Vec<B>,
}

impl<B> Default for Candidates<'_, B> {
    fn default() -> Self {
        Self {
            ready: Vec::new(),
            leaving: Vec::new(),
        }
    }
}

impl<'a, B: Copy + Ord> Candidates<'a, B> {
    fn add(&mut self, endpoint: &'a Endpoint, backend: B) {
        if endpoint.ready {
            self.ready.push((backend, endpoint.hints.as_deref()));
        } else if endpoint.serving && endpoint.terminating {
            self.leaving.push(backend);
        }
    }

    fn chosen(self, here: &Here<'_>) -> Vec<B> {
        if self.ready.is_empty() {
            self.leaving
        } else {
            here.meant(self.ready)
        }
    }
}

/// The lists of a service. Its ports often lead to the same backends, and most of those answer that are chosen: what is the
/// same is one list.
pub(super) struct Known<B>(Vec<Arc<[B]>>);

impl<B> Default for Known<B> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<B: Copy + Ord> Known<B> {
    /// Backends as a list: in order, and each once.
    fn share(&mut self, mut backends: Vec<B>) -> Arc<[B]> {
        if backends.is_empty() {
            return Arc::default();
        }
        backends.sort_unstable();
        backends.dedup();
        if let Some(known) = self.0.iter().find(|known| ***known == *backends) {
            return Arc::clone(known);
        }
        let list: Arc<[B]> = backends.into();
        self.0.push(Arc::clone(&list));
        list
    }
}
