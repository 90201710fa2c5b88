//! `np_service4` and `np_service6`: each port of a service answers on its cluster addresses, on those of its load balancer,
//! on its external ones, and on the addresses of the node that are chosen for it if it has a NodePort.

use std::{net::IpAddr, sync::Arc};

use netpath_common::abi::service::{
    FLAG_ADDRESS, FLAG_EXTERNAL_IP, FLAG_LOAD_BALANCER, FLAG_NONE_HERE, FLAG_OUTSIDE, FLAG_RELAYED, Frontend,
};

use super::{
    NodeFacts, ServicePlan,
    addresses::{cluster_ips, external_ips, ingress_ips, is_of},
    backends::{Backends, Known, OfService, backends, ready_here},
    claims::{Asking, Claim},
    site::Site,
    sources::Lists,
    topology::Here,
};
use crate::{
    family::Family,
    model::{ObjectName, Problem, Protocol, Service, ServicePort},
};

/// A service, with what was found out about it for both families.
pub(super) struct Wanted<'a> {
    pub name: &'a ObjectName,
    pub service: &'a Service,
    pub slices: &'a OfService<'a>,
    /// Those of its external addresses that are allowed.
    pub external: &'a [IpAddr],
    /// Of each of its ports, the NodePort that it has.
    pub node_ports: &'a [Option<u16>],
    /// Of each of its ports, the number under which clients are remembered; 0 for none.
    pub affinities: &'a [u32],
    pub facts: &'a NodeFacts,
    pub here: Here<'a>,
}

/// What a service answers on in a family.
pub(super) struct Answer<F: Family> {
    /// Its entries of `np_service*`, each once.
    pub frontends: Vec<(F::Frontend, ServicePlan<F>)>,
    /// Its addresses, with what the map would hold of each if no other service had it.
    pub addresses: Vec<(F, u16)>,
    /// The list of those that may connect, which is to be given back; 0 for none.
    pub sources: u32,
    /// How many of its endpoints are ready on this node.
    pub ready_here: usize,
}

impl<F: Family> Default for Answer<F> {
    fn default() -> Self {
        Self {
            frontends: Vec::new(),
            addresses: Vec::new(),
            sources: 0,
            ready_here: 0,
        }
    }
}

/// Plans a service in a family that it and the node have; nothing where one of them has not.
pub(super) fn answer<F: Family>(
    wanted: &Wanted<'_>,
    site: Option<&Site<F>>,
    lists: &mut Lists<F>,
    asking: &mut Asking<'_>,
    problems: &mut Vec<Problem>,
) -> Answer<F> {
    let Wanted {
        name, service, facts, ..
    } = *wanted;
    let Some(site) = site.filter(|_| is_of::<F>(service)) else {
        return Answer::default();
    };
    let place = (site, facts);
    let cluster_ips = cluster_ips(name, service, place, asking, problems);
    let ingress_ips = ingress_ips(name, service, place, asking, problems);
    let mut external_ips = external_ips(name, wanted.external, place, asking, problems);
    external_ips.retain(|address| !ingress_ips.contains(address));
    let has_sources = facts.node_ports_have_sources || !ingress_ips.is_empty() || !external_ips.is_empty();
    let sources = match has_sources {
        true => lists.give(service.sources.as_deref()),
        false => 0,
    };
    if sources != 0 && !may_anyone::<F>(service) {
        problems.push(nobody_may::<F>(name));
    }
    let mut frontends = Opening {
        name,
        asking,
        problems,
        frontends: Vec::new(),
    };
    let mut known = Known::default();
    for (place, port) in service.ports.iter().enumerate() {
        let answers = Answers {
            backends: backends(
                port,
                wanted.slices,
                (site, wanted.here, facts),
                &mut known,
                frontends.problems,
            ),
            affinity: match service.affinity_timeout {
                Some(timeout) => (wanted.affinities[place], timeout),
                None => (0, 0),
            },
        };
        let inside = answers.plan(0, service.internal_local, service.internal_local);
        frontends.open(port, &cluster_ips, port.port, &inside);
        let outside = |flags, sources| ServicePlan {
            sources,
            // A backend here is chosen here alone.
            maglev: facts.maglev_seed.is_some() && !service.external_local,
            ..answers.plan(flags, false, service.external_local)
        };
        frontends.open(port, &ingress_ips, port.port, &outside(FLAG_LOAD_BALANCER, sources));
        frontends.open(port, &external_ips, port.port, &outside(FLAG_EXTERNAL_IP, sources));
        if let Some(node_port) = wanted.node_ports[place] {
            let sources = if facts.node_ports_have_sources { sources } else { 0 };
            let opened = outside(site.node_port_flag, sources);
            frontends.open(port, &site.node_port_addresses, node_port, &opened);
            if opened.maglev
                && let Some(anywhere) = site.relayed
            {
                let flags = opened.flags & !site.node_port_flag | FLAG_RELAYED;
                frontends.open(port, &[anywhere], node_port, &ServicePlan { flags, ..opened });
            }
        }
    }
    Answer {
        frontends: frontends.frontends,
        addresses: own_addresses::<F>(&cluster_ips, ingress_ips.iter().chain(&external_ips), facts),
        sources,
        ready_here: match service.health_check_node_port {
            Some(_) => ready_here(wanted.slices, facts, &site.judge),
            None => 0,
        },
    }
}

/// The addresses that are a service's alone, and those that lead to the nodes from outside. Of the latter, what nobody
/// serves would be routed back to where it came from; unless the node's stack has the address, and may answer.
fn own_addresses<'a, F: Family + 'a>(
    cluster_ips: &[F::Address],
    shared: impl Iterator<Item = &'a F::Address>,
    facts: &NodeFacts,
) -> Vec<(F, u16)> {
    let is_local = |address: IpAddr| facts.local_routes.iter().any(|range| range.contains(&address));
    let is_nodes = |address: IpAddr| facts.uplink.has(address) || is_local(address);
    let shared = shared.filter(|address| !is_nodes((**address).into()));
    let own = cluster_ips.iter().map(|address| (F::octets(*address), FLAG_ADDRESS));
    own.chain(shared.map(|address| (F::octets(*address), FLAG_ADDRESS | FLAG_OUTSIDE)))
        .collect()
}

/// A service's frontends, as they are asked for one after the other.
struct Opening<'o, 'c, F: Family> {
    name: &'o ObjectName,
    asking: &'o mut Asking<'c>,
    problems: &'o mut Vec<Problem>,
    frontends: Vec<(F::Frontend, ServicePlan<F>)>,
}

impl<F: Family> Opening<'_, '_, F> {
    /// A port of the service, under a number, on addresses.
    fn open(&mut self, port: &ServicePort, addresses: &[F::Address], number: u16, plan: &ServicePlan<F>) {
        let protocol = port.protocol;
        for address in addresses.iter().copied() {
            let taken = self.asking.take(Claim::Frontend(address.into(), number, protocol));
            if let Err(other) = taken {
                self.refuse(address, number, protocol, other);
                continue;
            }
            let frontend = Frontend {
                address: F::octets(address),
                port: number,
                protocol: protocol.number(),
                reserved: 0,
            };
            self.frontends.push((frontend.into(), plan.clone()));
        }
    }

    fn refuse(&mut self, address: F::Address, port: u16, protocol: Protocol, other: &ObjectName) {
        let (what, remedy) = match other == self.name {
            true => (
                format!("spec.ports: {protocol} port {port} is there twice"),
                "give each port of a service a number of its own",
            ),
            false => (
                format!("spec.ports: {protocol} port {port} on {address} is service {other}'s already"),
                "use another port, or another address",
            ),
        };
        self.problems.push(Problem::refused("Service", self.name, what, remedy));
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
            maglev: false,
            sources: 0,
            affinity: self.affinity.0,
            affinity_timeout: self.affinity.1,
        }
    }
}
