//! Who answers for a service's port: its slices merged, and of the ready endpoints those that are meant for this node.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use netpath_common::abi::service::v4::Backend;

use super::{NodeFacts, topology::Here};
use crate::model::{Cluster, Endpoint, Hints, ObjectName, Problem, Protocol, ServicePort, Slice};

/// All slices, by their service.
pub(super) struct Slices<'a> {
    by_service: HashMap<&'a ObjectName, Vec<(&'a ObjectName, &'a Slice)>>,
}

impl<'a> Slices<'a> {
    /// Sorts the slices by their services.
    pub fn of(cluster: &'a Cluster) -> Self {
        let mut by_service: HashMap<_, Vec<_>> = HashMap::with_capacity(cluster.slices.len());
        for (name, slice) in &cluster.slices {
            by_service.entry(&slice.service).or_default().push((name, slice));
        }
        Self { by_service }
    }

    /// The slices of one service, by name.
    pub fn of_service(&self, service: &ObjectName) -> &[(&'a ObjectName, &'a Slice)] {
        self.by_service.get(service).map(Vec::as_slice).unwrap_or_default()
    }
}

/// Lists of backends, each in order and each backend once: an endpoint that moves from one slice to another is in both for
/// a while.
#[derive(Debug, Default)]
pub(super) struct Backends {
    /// Those of the whole cluster that take new connections, as far as hints mean them for this node.
    pub cluster: Arc<[Backend]>,
    /// Those of this node that do. They are chosen by themselves: with none ready here, those here that still answer on their
    /// way out do, though others are ready elsewhere.
    pub local: Arc<[Backend]>,
    /// Of UDP, all that answer, whether or not they take new connections.
    pub serving: Arc<[Backend]>,
}

/// The ready endpoints of a port; with none ready, those that still answer on their way out. A slice's ports hold for its
/// own endpoints alone.
pub(super) fn backends(
    port: &ServicePort,
    slices: &[(&ObjectName, &Slice)],
    facts: &NodeFacts,
    here: &Here<'_>,
    problems: &mut Vec<Problem>,
) -> Backends {
    let (mut cluster, mut local, mut serving) = (Candidates::default(), Candidates::default(), Vec::new());
    for (name, slice) in slices.iter().copied() {
        for target in slice
            .ports
            .iter()
            .filter(|target| target.name == port.name && target.protocol == port.protocol)
        {
            for endpoint in &slice.endpoints {
                let IpAddr::V4(address) = endpoint.address else {
                    continue;
                };
                if let Some(range) = service_range(endpoint.address, facts) {
                    problems.push(Problem::refused(
                        "EndpointSlice",
                        name,
                        format!("endpoints: \"{address}\" is in the services' range {range}"),
                        "give the address of a pod or of a host: a service cannot answer for another",
                    ));
                    continue;
                }
                let backend = Backend {
                    address: address.octets(),
                    port: target.port,
                    reserved: [0; 2],
                };
                cluster.add(endpoint, backend);
                if is_here(endpoint, facts) {
                    local.add(endpoint, backend);
                }
                if port.protocol == Protocol::Udp && (endpoint.ready || endpoint.serving) {
                    serving.push(backend);
                }
            }
        }
    }
    Backends {
        cluster: cluster.chosen(here),
        local: local.chosen(&Here::default()),
        serving: in_order(serving),
    }
}

/// How many endpoints of a service are ready on this node, on whichever of its ports.
pub(super) fn ready_here(slices: &[(&ObjectName, &Slice)], facts: &NodeFacts) -> usize {
    let endpoints = slices.iter().flat_map(|(_, slice)| &slice.endpoints);
    let ready = endpoints.filter(|endpoint| endpoint.ready && is_here(endpoint, facts));
    let addresses = ready.map(|endpoint| endpoint.address);
    let usable = addresses.filter(|address| address.is_ipv4() && service_range(*address, facts).is_none());
    usable.collect::<BTreeSet<_>>().len()
}

/// Whether an endpoint is on this node. One that does not say is nowhere.
fn is_here(endpoint: &Endpoint, facts: &NodeFacts) -> bool {
    endpoint.node.as_deref() == Some(&facts.name)
}

/// Endpoints to choose the best of.
#[derive(Default)]
struct Candidates<'a> {
    ready: Vec<(Backend, Option<&'a Hints>)>,
    leaving: Vec<Backend>,
}

impl<'a> Candidates<'a> {
    fn add(&mut self, endpoint: &'a Endpoint, backend: Backend) {
        if endpoint.ready {
            self.ready.push((backend, endpoint.hints.as_deref()));
        } else if endpoint.serving && endpoint.terminating {
            self.leaving.push(backend);
        }
    }

    fn chosen(self, here: &Here<'_>) -> Arc<[Backend]> {
        in_order(if self.ready.is_empty() {
            self.leaving
        } else {
            here.meant(self.ready)
        })
    }
}

fn in_order(mut backends: Vec<Backend>) -> Arc<[Backend]> {
    backends.sort_unstable();
    backends.dedup();
    backends.into()
}

/// The service range that an address lies in.
pub(super) fn service_range(address: IpAddr, facts: &NodeFacts) -> Option<IpNet> {
    facts
        .service_cidrs
        .iter()
        .copied()
        .find(|range| range.contains(&address))
}
