//! All services, the elder first: what is one for both families is given here, and each family answers on its own part.

use std::collections::BTreeMap;

use super::{
    HealthCheck, NodeFacts,
    addresses::{allowed, tell_unserved},
    backends::Slices,
    frontends::{Asked, Frontends},
    node_ports::NodePorts,
};
use crate::{
    family::{V4, V6},
    model::{Cluster, ObjectName, Problem, Protocol, ServicePort},
};

/// Plans all services in the families that the node has. Returns where load balancers ask for them.
pub(super) fn services<'a>(
    cluster: &'a Cluster,
    facts: &'a NodeFacts,
    (mut v4, mut v6): (Option<&mut Frontends<'a, V4>>, Option<&mut Frontends<'a, V6>>),
    problems: &mut Vec<Problem>,
) -> BTreeMap<u16, HealthCheck> {
    let slices = Slices::of(cluster);
    let mut by_age: Vec<_> = cluster.services.iter().collect();
    by_age.sort_by_key(|(name, service)| (service.created, *name));
    let mut claims = NodePorts::new(facts);
    let mut health_checks = BTreeMap::new();
    for (name, service) in by_age {
        let slices = slices.of_service(name, problems);
        problems.extend_from_slice(&service.problems);
        problems.extend(slices.problems().cloned());
        let external = allowed(name, service, facts, problems);
        let node_ports: Vec<Option<u16>> = service
            .ports
            .iter()
            .map(|port| node_port(name, port, &mut claims, problems))
            .collect();
        let asked = Asked {
            name,
            service,
            slices: &slices,
            external: &external,
            node_ports: &node_ports,
        };
        let ready = [
            v4.as_mut().map_or(0, |v4| v4.add(&asked, problems)),
            v6.as_mut().map_or(0, |v6| v6.add(&asked, problems)),
        ];
        let is_served = |address: std::net::IpAddr| match address.is_ipv4() {
            true => v4.is_some(),
            false => v6.is_some(),
        };
        tell_unserved(name, service, &external, is_served, problems);
        let Some(port) = service.health_check_node_port else {
            continue;
        };
        let field = format!("spec.healthCheckNodePort: {port}");
        match claims.claim(name, &field, port, Protocol::Tcp) {
            Ok(()) => {
                // A pod of both families is one endpoint, which is in slices of each.
                let [v4, v6] = ready;
                let check = HealthCheck {
                    service: name.clone(),
                    local_endpoints: v4.max(v6),
                };
                health_checks.insert(port, check);
            }
            Err(problem) => problems.push(problem),
        }
    }
    health_checks
}

/// The NodePort that a service's port has.
fn node_port<'a>(
    name: &'a ObjectName,
    port: &ServicePort,
    claims: &mut NodePorts<'a>,
    problems: &mut Vec<Problem>,
) -> Option<u16> {
    let node_port = port.node_port?;
    let field = format!("spec.ports: {} nodePort {node_port}", port.protocol);
    match claims.claim(name, &field, node_port, port.protocol) {
        Ok(()) => Some(node_port),
        Err(problem) => {
            problems.push(problem);
            None
        }
    }
}
