//! Who answers for a service's port: its slices merged.

use std::{collections::HashMap, net::IpAddr};

use ipnet::IpNet;
use netpath_common::abi::service::v4::Backend;

use super::NodeFacts;
use crate::model::{Cluster, ObjectName, Problem, ServicePort, Slice};

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

/// The ready endpoints of a port; with none ready, those that still answer on their way out. A slice's ports hold for its
/// own endpoints alone. In order, each once: an endpoint that moves from one slice to another is in both for a while.
pub(super) fn backends(
    port: &ServicePort,
    slices: &[(&ObjectName, &Slice)],
    facts: &NodeFacts,
    problems: &mut Vec<Problem>,
) -> Vec<Backend> {
    let mut ready = Vec::new();
    let mut leaving = Vec::new();
    for (name, slice) in slices {
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
                if endpoint.ready {
                    ready.push(backend);
                } else if endpoint.serving && endpoint.terminating {
                    leaving.push(backend);
                }
            }
        }
    }
    let mut chosen = if ready.is_empty() { leaving } else { ready };
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

/// The service range that an address lies in.
pub(super) fn service_range(address: IpAddr, facts: &NodeFacts) -> Option<IpNet> {
    facts
        .service_cidrs
        .iter()
        .copied()
        .find(|range| range.contains(&address))
}
