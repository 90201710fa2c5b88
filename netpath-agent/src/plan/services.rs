//! `np_service4`: each port of each service answers on its cluster addresses, on those of its load balancer, on its external
//! ones, and on the addresses of the node that are chosen for it if it has a NodePort.

use std::{
    collections::{BTreeMap, HashMap, btree_map},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use ipnet::IpNet;
use netpath_common::abi::{
    service::{
        FLAG_ADDRESS, FLAG_EXTERNAL_IP, FLAG_LOAD_BALANCER, FLAG_NONE_HERE, FLAG_OUTSIDE,
        v4::{Backend, Frontend},
    },
    source::v4::SourceKey,
};

use super::{
    HealthCheck, NodeFacts, ServicePlan, addresses,
    affinity::Numbers,
    backends::{Backends, Slices, backends, ready_here},
    endpoints,
    judge::Judge,
    nodes::Placed,
    occupied::Occupied,
    sources::Lists,
    topology::Here,
};
use crate::model::{Cluster, ObjectName, Problem, Protocol, Service, ServicePort};

/// What the kernel and load balancers are told of services.
pub(super) struct Services {
    /// The frontends with their backends.
    pub frontends: BTreeMap<Frontend, ServicePlan>,
    /// The lists of clients that frontends name.
    pub sources: BTreeMap<SourceKey, u32>,
    /// The services' addresses, with their flags.
    pub addresses: BTreeMap<[u8; 4], u16>,
    /// The ports of health checks.
    pub health_checks: BTreeMap<u16, HealthCheck>,
}

/// Plans all services.
pub(super) fn services(
    cluster: &Cluster,
    facts: &NodeFacts,
    node: Ipv4Addr,
    (own, others): (&Placed<'_>, &[Placed<'_>]),
    problems: &mut Vec<Problem>,
) -> Services {
    let slices = Slices::of(cluster);
    let here = Here::of(cluster, &facts.name);
    let judge = Judge::of(facts, others.iter().chain([own]));
    let mut by_age: Vec<_> = cluster.services.iter().collect();
    by_age.sort_by_key(|(name, service)| (service.created, *name));

    let own_addresses = endpoints::own_addresses(own, facts);
    let taken = Occupied::of(&own_addresses, own, others);
    let (node_port_addresses, node_port_flag) = facts.node_port_addresses.of(&own_addresses, node);
    if node_port_addresses.is_empty() {
        problems.push(Problem::not_served(
            "Node",
            &ObjectName::new("", &facts.name),
            format!(
                "no address of the node is in the ranges that are set for NodePorts, {}: they answer nowhere on it",
                facts.node_port_addresses
            ),
            "correct the agent's --node-port-addresses",
        ));
    }
    let mut addresses = addresses::Claims::new(facts, taken);
    let mut affinities = Numbers::default();
    let mut lists = Lists::default();
    let mut table = Table {
        facts,
        node_port_addresses,
        node_port_flag,
        addresses: BTreeMap::new(),
        frontends: BTreeMap::new(),
        node_ports: HashMap::new(),
        health_checks: BTreeMap::new(),
        problems,
    };
    for (name, service) in by_age {
        let slices = slices.of_service(name, table.problems);
        table.problems.extend_from_slice(&service.problems);
        table.problems.extend(slices.problems().cloned());
        let cluster_ips = addresses.cluster_ips(name, service, table.problems);
        let ingress_ips = addresses.ingress_ips(name, service, table.problems);
        let mut external_ips = addresses.external_ips(name, service, table.problems);
        external_ips.retain(|address| !ingress_ips.contains(address));
        table.add_own(&cluster_ips, ingress_ips.iter().chain(&external_ips));
        let sources = match ingress_ips.is_empty() && external_ips.is_empty() && !facts.node_ports_have_sources {
            true => 0,
            false => lists.give(service.sources.as_deref()),
        };
        if sources != 0 && !has_ipv4(service) {
            table.problems.push(Problem::not_served(
                "Service",
                name,
                "spec.loadBalancerSourceRanges: there is no range of IPv4, so that nobody may connect by IPv4",
                "add the clients' ranges of IPv4, or 0.0.0.0/0 for all of them",
            ));
        }
        for port in &service.ports {
            let answers = Answers {
                backends: backends(port, &slices, facts, (&judge, &here), table.problems),
                affinity: match service.affinity_timeout {
                    Some(timeout) => (affinities.give(name, port), timeout),
                    None => (0, 0),
                },
            };
            let inside = answers.plan(0, service.internal_local, service.internal_local);
            table.add_addresses(name, port, &cluster_ips, &inside);
            let balanced = ServicePlan {
                sources,
                ..answers.plan(FLAG_LOAD_BALANCER, false, service.external_local)
            };
            table.add_addresses(name, port, &ingress_ips, &balanced);
            let external = ServicePlan {
                sources,
                ..answers.plan(FLAG_EXTERNAL_IP, false, service.external_local)
            };
            table.add_addresses(name, port, &external_ips, &external);
            let opened = ServicePlan {
                sources: if facts.node_ports_have_sources { sources } else { 0 },
                ..answers.plan(table.node_port_flag, false, service.external_local)
            };
            table.add_node_port(name, port, &opened);
        }
        if let Some(port) = service.health_check_node_port {
            table.add_health_check(name, port, ready_here(&slices, facts, &judge));
        }
    }
    let frontends = table.frontends.into_iter();
    Services {
        frontends: frontends.map(|(frontend, (_, plan))| (frontend, plan)).collect(),
        sources: lists.entries,
        addresses: table.addresses,
        health_checks: table.health_checks,
    }
}

/// Whether some clients of IPv4 may connect.
fn has_ipv4(service: &Service) -> bool {
    let mut ranges = service.sources.iter().flatten();
    ranges.any(|range| matches!(range, IpNet::V4(_)))
}

/// What is behind all frontends of a service's port.
struct Answers {
    backends: Backends,
    /// Number and timeout.
    affinity: (u32, u32),
}

impl Answers {
    fn plan(&self, flags: u16, inside_local: bool, outside_local: bool) -> ServicePlan {
        let list = |local: bool| {
            let Backends {
                cluster, local: here, ..
            } = &self.backends;
            Arc::clone(if local { here } else { cluster })
        };
        let (backends, outside): (Arc<[Backend]>, Arc<[Backend]>) = (list(inside_local), list(outside_local));
        let none_here = !self.backends.cluster.is_empty() && (backends.is_empty() || outside.is_empty());
        ServicePlan {
            flags: flags | if none_here { FLAG_NONE_HERE } else { 0 },
            backends,
            outside,
            serving: Arc::clone(&self.backends.serving),
            sources: 0,
            affinity: self.affinity.0,
            affinity_timeout: self.affinity.1,
        }
    }
}

/// What the services that came before have.
struct Table<'a> {
    facts: &'a NodeFacts,
    node_port_addresses: Vec<Ipv4Addr>,
    node_port_flag: u16,
    addresses: BTreeMap<[u8; 4], u16>,
    frontends: BTreeMap<Frontend, (&'a ObjectName, ServicePlan)>,
    node_ports: HashMap<(u16, Protocol), &'a ObjectName>,
    health_checks: BTreeMap<u16, HealthCheck>,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Table<'a> {
    /// The addresses that are a service's alone, and those that lead to the nodes from outside. Of the latter, what nobody
    /// serves would be routed back to where it came from; unless the node's stack has the address, and may answer.
    fn add_own<'b>(&mut self, cluster_ips: &[Ipv4Addr], shared: impl Iterator<Item = &'b Ipv4Addr>) {
        let local = &self.facts.local_routes;
        let is_local = |address: Ipv4Addr| local.iter().any(|range| range.contains(&IpAddr::V4(address)));
        let is_own = |address: Ipv4Addr| self.facts.uplink.has(address.into()) || is_local(address);
        for address in shared.copied().filter(|address| !is_own(*address)) {
            let flags = FLAG_ADDRESS | FLAG_OUTSIDE;
            self.addresses.entry(address.octets()).or_insert(flags);
        }
        self.addresses
            .extend(cluster_ips.iter().map(|address| (address.octets(), FLAG_ADDRESS)));
    }

    /// A port on addresses that are the service's own.
    fn add_addresses(&mut self, name: &'a ObjectName, port: &ServicePort, addresses: &[Ipv4Addr], plan: &ServicePlan) {
        for address in addresses {
            self.add_frontend(name, (*address, port.port, port.protocol), plan.clone());
        }
    }

    fn add_node_port(&mut self, name: &'a ObjectName, port: &ServicePort, plan: &ServicePlan) {
        let Some(node_port) = port.node_port else { return };
        let field = format!("spec.ports: {} nodePort {node_port}", port.protocol);
        if let Err(problem) = self.claim_node_port(name, &field, node_port, port.protocol) {
            self.problems.push(problem);
            return;
        }
        for place in 0..self.node_port_addresses.len() {
            let address = self.node_port_addresses[place];
            self.add_frontend(name, (address, node_port, port.protocol), plan.clone());
        }
    }

    fn add_health_check(&mut self, name: &'a ObjectName, port: u16, local_endpoints: usize) {
        let field = format!("spec.healthCheckNodePort: {port}");
        if let Err(problem) = self.claim_node_port(name, &field, port, Protocol::Tcp) {
            self.problems.push(problem);
            return;
        }
        let service = name.clone();
        let check = HealthCheck {
            service,
            local_endpoints,
        };
        self.health_checks.insert(port, check);
    }

    fn add_frontend(
        &mut self,
        name: &'a ObjectName,
        (address, port, protocol): (Ipv4Addr, u16, Protocol),
        plan: ServicePlan,
    ) {
        let frontend = Frontend {
            address: address.octets(),
            port,
            protocol: protocol.number(),
            reserved: 0,
        };
        let (what, remedy) = match self.frontends.entry(frontend) {
            btree_map::Entry::Vacant(free) => {
                free.insert((name, plan));
                return;
            }
            btree_map::Entry::Occupied(taken) if taken.get().0 == name => (
                format!("spec.ports: {protocol} port {port} is there twice"),
                "give each port of a service a number of its own",
            ),
            btree_map::Entry::Occupied(taken) => (
                format!(
                    "spec.ports: {protocol} port {port} on {address} is service {}'s already",
                    taken.get().0
                ),
                "use another port, or another address",
            ),
        };
        self.problems.push(Problem::refused("Service", name, what, remedy));
    }

    /// Claims a port of every node; `field` says for what.
    fn claim_node_port(
        &mut self,
        name: &'a ObjectName,
        field: &str,
        port: u16,
        protocol: Protocol,
    ) -> Result<(), Problem> {
        let refused =
            |what: String, remedy: &str| Err(Problem::refused("Service", name, format!("{field} {what}"), remedy));
        let range = &self.facts.node_ports;
        if !range.contains(&port) {
            return refused(
                format!("is outside of the range {}-{}", range.start(), range.end()),
                "use a port of the range, or leave the field out and let the API server choose",
            );
        }
        if protocol == Protocol::Udp && port == self.facts.vxlan_port {
            return refused("is the tunnel's port".into(), "use another");
        }
        match self.node_ports.get(&(port, protocol)) {
            Some(other) => refused(
                format!("is service {other}'s already"),
                "use another, or leave the field out and let the API server choose",
            ),
            None => {
                self.node_ports.insert((port, protocol), name);
                Ok(())
            }
        }
    }
}
