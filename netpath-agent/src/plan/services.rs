//! `np_service4`: each port of each service answers on its cluster addresses, and on every address of the node if it has a
//! NodePort.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;
use netpath_common::abi::service::{
    FLAG_NODE_PORT,
    v4::{Backend, Frontend},
};

use super::{
    NodeFacts, ServicePlan,
    backends::{Slices, backends, service_range},
    endpoints,
    nodes::Placed,
    occupied::Occupied,
};
use crate::model::{Cluster, ObjectName, Problem, Protocol, Service, ServicePort};

/// The frontends, with their backends.
pub(super) fn services(
    cluster: &Cluster,
    facts: &NodeFacts,
    own: &Placed<'_>,
    others: &[Placed<'_>],
    problems: &mut Vec<Problem>,
) -> BTreeMap<Frontend, ServicePlan> {
    let slices = Slices::of(cluster);
    let mut by_age: Vec<_> = cluster.services.iter().collect();
    by_age.sort_by_key(|(name, service)| (service.created, *name));

    let own_addresses = endpoints::own_addresses(own, facts);
    let mut table = Table {
        facts,
        taken: Occupied::of(&own_addresses, own, others),
        own_addresses,
        frontends: BTreeMap::new(),
        cluster_ips: HashMap::with_capacity(by_age.len()),
        node_ports: HashMap::new(),
        problems,
    };
    for (name, service) in by_age {
        let slices = slices.of_service(name);
        table.problems.extend_from_slice(&service.problems);
        for (_, slice) in slices {
            table.problems.extend_from_slice(&slice.problems);
        }
        let addresses = table.claim_addresses(name, service);
        for port in &service.ports {
            let backends = backends(port, slices, facts, table.problems);
            table.add_port(name, port, &addresses, backends);
        }
    }
    table.frontends
}

/// What the services that came before have.
struct Table<'a> {
    facts: &'a NodeFacts,
    taken: Occupied<'a>,
    own_addresses: BTreeSet<Ipv4Addr>,
    frontends: BTreeMap<Frontend, ServicePlan>,
    cluster_ips: HashMap<Ipv4Addr, &'a ObjectName>,
    node_ports: HashMap<(u16, Protocol), &'a ObjectName>,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Table<'a> {
    /// Those of a service's addresses that it may have.
    fn claim_addresses(&mut self, name: &'a ObjectName, service: &Service) -> Vec<Ipv4Addr> {
        let mut addresses = Vec::with_capacity(1);
        for address in &service.cluster_ips {
            let IpAddr::V4(v4) = *address else {
                self.problems.push(Problem::not_served(
                    "Service",
                    name,
                    format!("spec.clusterIPs: {address} is IPv6, which is not served yet"),
                    "use an IPv4 address until then (spec.ipFamilies)",
                ));
                continue;
            };
            let conflict = match self.cluster_ips.get(&v4) {
                Some(other) if *other == name => continue,
                Some(other) => Some(format!("service {other}'s already")),
                None => self.taken.by(v4),
            };
            if let Some(conflict) = conflict {
                self.problems.push(Problem::refused(
                    "Service",
                    name,
                    format!("spec.clusterIPs: {v4} is {conflict}"),
                    "give the service an address of its own, or leave the field out and let the API server choose",
                ));
                continue;
            }
            let ranges = &self.facts.service_cidrs;
            if ranges.iter().any(|range| matches!(range, IpNet::V4(_))) && service_range(*address, self.facts).is_none()
            {
                let ranges = ranges.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", ");
                self.problems.push(Problem::not_served(
                    "Service",
                    name,
                    format!("spec.clusterIPs: {v4} is outside of the services' range {ranges}: the nodes' own processes do not reach it"),
                    "add its range to the agent's --service-cidr",
                ));
            }
            self.cluster_ips.insert(v4, name);
            addresses.push(v4);
        }
        addresses
    }

    fn add_port(&mut self, name: &'a ObjectName, port: &ServicePort, addresses: &[Ipv4Addr], backends: Vec<Backend>) {
        for address in addresses {
            let plan = ServicePlan {
                flags: 0,
                backends: backends.clone(),
            };
            self.add_frontend(name, *address, port.port, port.protocol, plan);
        }
        let Some(node_port) = port.node_port else { return };
        if let Err(problem) = self.claim_node_port(name, node_port, port.protocol) {
            self.problems.push(problem);
            return;
        }
        for address in &self.own_addresses.clone() {
            let plan = ServicePlan {
                flags: FLAG_NODE_PORT,
                backends: backends.clone(),
            };
            self.add_frontend(name, *address, node_port, port.protocol, plan);
        }
    }

    fn add_frontend(&mut self, name: &ObjectName, address: Ipv4Addr, port: u16, protocol: Protocol, plan: ServicePlan) {
        let frontend = Frontend {
            address: address.octets(),
            port,
            protocol: protocol.number(),
            reserved: 0,
        };
        match self.frontends.entry(frontend) {
            btree_map::Entry::Vacant(free) => {
                free.insert(plan);
            }
            btree_map::Entry::Occupied(_) => self.problems.push(Problem::refused(
                "Service",
                name,
                format!("spec.ports: {protocol} port {port} is there twice"),
                "give each port of a service a number of its own",
            )),
        }
    }

    fn claim_node_port(&mut self, name: &'a ObjectName, port: u16, protocol: Protocol) -> Result<(), Problem> {
        let refused = |what: String, remedy: String| {
            Err(Problem::refused(
                "Service",
                name,
                format!("spec.ports: {protocol} nodePort {port} {what}"),
                remedy,
            ))
        };
        let range = &self.facts.node_ports;
        if !range.contains(&port) {
            return refused(
                format!("is outside of the range {}-{}", range.start(), range.end()),
                "use a port of the range, or leave the field out and let the API server choose".into(),
            );
        }
        if protocol == Protocol::Udp && port == self.facts.vxlan_port {
            return refused("is the tunnel's port".into(), "use another".into());
        }
        match self.node_ports.get(&(port, protocol)) {
            Some(other) => {
                let remedy = "use another, or leave the field out and let the API server choose";
                refused(format!("is service {other}'s already"), remedy.into())
            }
            None => {
                self.node_ports.insert((port, protocol), name);
                Ok(())
            }
        }
    }
}
