//! `np_service4` and `np_service6`: each port of a service answers on its cluster addresses, on those of its load balancer,
//! on its external ones, and on the addresses of the node that are chosen for it if it has a NodePort.

use std::{
    collections::{BTreeMap, btree_map},
    net::IpAddr,
    sync::Arc,
};

use netpath_common::abi::service::{
    FLAG_ADDRESS, FLAG_EXTERNAL_IP, FLAG_LOAD_BALANCER, FLAG_NONE_HERE, FLAG_OUTSIDE, Frontend,
};

use super::{
    FamilyPlan, NodeFacts, ServicePlan,
    addresses::{Claims, is_of},
    affinity::Numbers,
    backends::{Backends, OfService, backends, ready_here},
    endpoints,
    judge::Judge,
    occupied::Occupied,
    part::Part,
    sources::Lists,
    topology::Here,
};
use crate::{
    family::Family,
    model::{ObjectName, Problem, Protocol, Service, ServicePort},
};

/// A service, with what was found out about it for both families.
pub(super) struct Asked<'a, 's> {
    pub name: &'a ObjectName,
    pub service: &'a Service,
    pub slices: &'s OfService<'a, 's>,
    /// Those of its external addresses that are allowed.
    pub external: &'s [IpAddr],
    /// Of each of its ports, the NodePort that it has.
    pub node_ports: &'s [Option<u16>],
}

/// What the services answer on in a family.
pub(super) struct Frontends<'a, F: Family> {
    facts: &'a NodeFacts,
    here: Here<'a>,
    judge: Judge<'a, F>,
    claims: Claims<'a, F>,
    affinities: Numbers,
    sources: Lists<F>,
    node_port_addresses: Vec<F::Address>,
    node_port_flag: u16,
    addresses: BTreeMap<F, u16>,
    frontends: BTreeMap<F::Frontend, (&'a ObjectName, ServicePlan<F>)>,
}

impl<'a, F: Family> Frontends<'a, F> {
    /// No service answers yet.
    pub fn new(part: &Part<'a, F>, here: Here<'a>, facts: &'a NodeFacts, problems: &mut Vec<Problem>) -> Self {
        let Part { own, others, node, .. } = part;
        let own_addresses = endpoints::own_addresses(own, facts);
        let taken = Occupied::of(&own_addresses, own, others);
        let (node_port_addresses, node_port_flag) = facts.node_port_addresses.of::<F>(&own_addresses, *node);
        if node_port_addresses.is_empty() && !own_addresses.is_empty() {
            problems.push(Problem::not_served(
                "Node",
                &ObjectName::new("", &facts.name),
                format!(
                    "no {} address of the node is in the ranges that are set for NodePorts, {}: they answer nowhere on it",
                    F::NAME,
                    facts.node_port_addresses
                ),
                "correct the agent's --node-port-addresses",
            ));
        }
        Self {
            facts,
            here,
            judge: Judge::of(facts, others.iter().chain([own])),
            claims: Claims::new(facts, taken),
            affinities: Numbers::default(),
            sources: Lists::default(),
            node_port_addresses,
            node_port_flag,
            addresses: BTreeMap::new(),
            frontends: BTreeMap::new(),
        }
    }

    /// Adds a service, if it is one of the family, and says how many of its endpoints are ready on this node.
    pub fn add(&mut self, asked: &Asked<'a, '_>, problems: &mut Vec<Problem>) -> usize {
        let Asked { name, service, .. } = *asked;
        if !is_of::<F>(service) {
            return 0;
        }
        let cluster_ips = self.claims.cluster_ips(name, service, problems);
        let ingress_ips = self.claims.ingress_ips(name, service, problems);
        let mut external_ips = self.claims.external_ips(name, asked.external, problems);
        external_ips.retain(|address| !ingress_ips.contains(address));
        self.add_own(&cluster_ips, ingress_ips.iter().chain(&external_ips));
        let node_ports_have_sources = self.facts.node_ports_have_sources;
        let sources = match ingress_ips.is_empty() && external_ips.is_empty() && !node_ports_have_sources {
            true => 0,
            false => self.sources.give(service.sources.as_deref()),
        };
        if sources != 0 && !may_anyone::<F>(service) {
            problems.push(nobody_may::<F>(name));
        }
        for (port, node_port) in service.ports.iter().zip(asked.node_ports) {
            let judges = (&self.judge, &self.here);
            let answers = Answers {
                backends: backends(port, asked.slices, self.facts, judges, problems),
                affinity: match service.affinity_timeout {
                    Some(timeout) => (self.affinities.give(name, port), timeout),
                    None => (0, 0),
                },
            };
            let inside = answers.plan(0, service.internal_local, service.internal_local);
            self.add_addresses(name, port, &cluster_ips, &inside, problems);
            let balanced = ServicePlan {
                sources,
                ..answers.plan(FLAG_LOAD_BALANCER, false, service.external_local)
            };
            self.add_addresses(name, port, &ingress_ips, &balanced, problems);
            let external = ServicePlan {
                sources,
                ..answers.plan(FLAG_EXTERNAL_IP, false, service.external_local)
            };
            self.add_addresses(name, port, &external_ips, &external, problems);
            if let Some(node_port) = node_port {
                let opened = ServicePlan {
                    sources: if node_ports_have_sources { sources } else { 0 },
                    ..answers.plan(self.node_port_flag, false, service.external_local)
                };
                for place in 0..self.node_port_addresses.len() {
                    let at = (self.node_port_addresses[place], *node_port, port.protocol);
                    self.add_frontend(name, at, opened.clone(), problems);
                }
            }
        }
        match service.health_check_node_port {
            Some(_) => ready_here(asked.slices, self.facts, &self.judge),
            None => 0,
        }
    }

    /// Writes what was planned into the family's tables.
    pub fn finish(self, plan: &mut FamilyPlan<F>) {
        let frontends = self.frontends.into_iter();
        plan.services = frontends.map(|(frontend, (_, service))| (frontend, service)).collect();
        plan.sources = self.sources.entries;
        plan.addresses = self.addresses;
    }

    /// The addresses that are a service's alone, and those that lead to the nodes from outside. Of the latter, what nobody
    /// serves would be routed back to where it came from; unless the node's stack has the address, and may answer.
    fn add_own<'b>(&mut self, cluster_ips: &[F::Address], shared: impl Iterator<Item = &'b F::Address>)
    where
        F: 'b,
    {
        let local = &self.facts.local_routes;
        let is_local = |address: IpAddr| local.iter().any(|range| range.contains(&address));
        let is_own = |address: IpAddr| self.facts.uplink.has(address) || is_local(address);
        for address in shared.copied().filter(|address| !is_own((*address).into())) {
            let flags = FLAG_ADDRESS | FLAG_OUTSIDE;
            self.addresses.entry(F::octets(address)).or_insert(flags);
        }
        let own = cluster_ips.iter().map(|address| (F::octets(*address), FLAG_ADDRESS));
        self.addresses.extend(own);
    }

    /// A port on addresses that are the service's own.
    fn add_addresses(
        &mut self,
        name: &'a ObjectName,
        port: &ServicePort,
        addresses: &[F::Address],
        plan: &ServicePlan<F>,
        problems: &mut Vec<Problem>,
    ) {
        for address in addresses {
            self.add_frontend(name, (*address, port.port, port.protocol), plan.clone(), problems);
        }
    }

    fn add_frontend(
        &mut self,
        name: &'a ObjectName,
        (address, port, protocol): (F::Address, u16, Protocol),
        plan: ServicePlan<F>,
        problems: &mut Vec<Problem>,
    ) {
        let frontend = Frontend {
            address: F::octets(address),
            port,
            protocol: protocol.number(),
            reserved: 0,
        };
        let (what, remedy) = match self.frontends.entry(frontend.into()) {
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
        problems.push(Problem::refused("Service", name, what, remedy));
    }
}

/// Whether some clients of a family may connect.
fn may_anyone<F: Family>(service: &Service) -> bool {
    let mut ranges = service.sources.iter().flatten();
    ranges.any(|range| F::net(*range).is_some())
}

fn nobody_may<F: Family>(name: &ObjectName) -> Problem {
    let family = F::NAME;
    Problem::not_served(
        "Service",
        name,
        format!("spec.loadBalancerSourceRanges: there is no range of {family}, so that nobody may connect by {family}"),
        format!("add the clients' ranges of {family}, or {} for all of them", F::ALL),
    )
}

/// What is behind all frontends of a service's port.
struct Answers<F: Family> {
    backends: Backends<F>,
    /// Number and timeout.
    affinity: (u32, u32),
}

impl<F: Family> Answers<F> {
    fn plan(&self, flags: u16, inside_local: bool, outside_local: bool) -> ServicePlan<F> {
        let list = |local: bool| {
            let Backends {
                cluster, local: here, ..
            } = &self.backends;
            Arc::clone(if local { here } else { cluster })
        };
        let backends: Arc<[F::Backend]> = list(inside_local);
        let outside: Arc<[F::Backend]> = list(outside_local);
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
