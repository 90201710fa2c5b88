//! All services, as they were planned: each again when it changes, when its slices do, or when an elder one lets go of what it
//! asks for, or takes it. What is one for both families is given here; each family answers on its own site.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    net::IpAddr,
    sync::Arc,
};

use imbl::OrdMap;

use super::{
    Changes, FamilyChanges, FamilyPlan, HealthCheck, Plan, ServicePlan,
    addresses::{Addresses, allowed, tell_unserved},
    affinity::Numbers,
    backends::Slices,
    claims::{Asked, Asking, Claims, Rank},
    frontends::{Answer, Wanted, answer},
    ground::Ground,
    node_ports,
    sources::Lists,
};
use crate::{
    family::{Family, V4, V6},
    model::{ObjectName, Problem, Protocol, Service, ServicePort},
    packed::pack,
};

/// What services have, and what they share.
#[derive(Default)]
pub(super) struct Services {
    /// The slices that they are planned from.
    pub slices: Slices,
    claims: Claims,
    affinities: Numbers,
    v4: Shared<V4>,
    v6: Shared<V6>,
    planned: HashMap<ObjectName, Box<Planned>>,
    /// How many services have each.
    problems: BTreeMap<Problem, usize>,
}

/// What the services of a family share.
#[derive(Default)]
struct Shared<F: Family> {
    lists: Lists<F>,
    addresses: Addresses<F>,
    /// What frontends were before the event that is being planned; `None` for new ones.
    before: BTreeMap<F::Frontend, Option<ServicePlan<F>>>,
    /// The addresses that were touched meanwhile.
    touched: BTreeSet<F>,
}

/// What a service has.
struct Planned {
    rank: Arc<Rank>,
    asked: Asked,
    affinities: Box<[u32]>,
    health_check: Option<u16>,
    problems: Box<[Problem]>,
    v4: Holding<V4>,
    v6: Holding<V6>,
}

/// What a service has in a family.
struct Holding<F: Family> {
    frontends: Box<[F::Frontend]>,
    addresses: Box<[(F, u16)]>,
    sources: u32,
}

/// What a service newly gets.
struct New {
    planned: Box<Planned>,
    health_check: Option<(u16, HealthCheck)>,
    v4: Answer<V4>,
    v6: Answer<V6>,
}

impl Services {
    /// Plans those that are named, and whoever that concerns. The plan follows; returns where it is another then.
    pub fn plan(
        &mut self,
        named: impl IntoIterator<Item = ObjectName>,
        services: &OrdMap<ObjectName, Arc<Service>>,
        ground: &Ground,
        plan: &mut Plan,
    ) -> Changes {
        let mut queue = BTreeSet::new();
        let mut old = Vec::new();
        for name in named {
            let rank = services.get(&name).map(|service| Rank::of(&name, service));
            // One that was created anew has another place among all.
            let planned = self.planned.get(&name);
            let has_left = planned.is_some_and(|planned| rank.as_ref() != Some(&*planned.rank));
            if has_left && let Some(planned) = self.planned.remove(&name) {
                queue.extend(self.claims.replace(&planned.rank, &planned.asked, &[]));
                self.free(&planned);
                old.push(planned);
            }
            queue.extend(rank.map(Arc::new));
        }
        let mut new = Vec::new();
        // A service concerns none but younger ones, so that each comes once.
        while let Some(rank) = queue.pop_first() {
            let Some(service) = services.get(&rank.name) else {
                continue;
            };
            let before = self.planned.remove(&rank.name);
            before.iter().for_each(|before| self.free(before));
            let now = self.plan_one(&rank, service, ground);
            let asked_before = before.as_ref().map(|before| &*before.asked).unwrap_or_default();
            queue.extend(self.claims.replace(&rank, asked_before, &now.planned.asked));
            old.extend(before);
            new.push(now);
        }
        // All that goes before all that comes: a frontend may go from one service to another.
        for planned in &old {
            self.forget(planned, plan);
        }
        for new in new {
            self.remember(new, plan);
        }
        Changes {
            ground: false,
            v4: self.v4.settle(&mut plan.v4),
            v6: self.v6.settle(&mut plan.v6),
        }
    }

    /// What is wrong with services and their slices; in order, each once.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.keys()
    }

    fn plan_one(&mut self, rank: &Arc<Rank>, service: &Service, ground: &Ground) -> New {
        let name = &rank.name;
        let facts = &ground.facts;
        let mut problems = Vec::new();
        let slices = self.slices.of_service(name, &mut problems);
        let mut asking = Asking::new(&self.claims, rank);
        problems.extend_from_slice(&service.problems);
        problems.extend(slices.problems().cloned());
        let external = allowed(name, service, facts, &mut problems);
        let node_ports: Vec<Option<u16>> = service
            .ports
            .iter()
            .map(|port| node_port(name, port, ground, &mut asking, &mut problems))
            .collect();
        let affinities: Vec<u32> = match service.affinity_timeout {
            Some(_) => service
                .ports
                .iter()
                .map(|port| self.affinities.give(name, port))
                .collect(),
            None => Vec::new(),
        };
        let wanted = Wanted {
            name,
            service,
            slices: &slices,
            external: &external,
            node_ports: &node_ports,
            affinities: &affinities,
            facts,
            here: ground.here(),
        };
        let v4 = answer(
            &wanted,
            ground.v4.as_ref(),
            &mut self.v4.lists,
            &mut asking,
            &mut problems,
        );
        let v6 = answer(
            &wanted,
            ground.v6.as_ref(),
            &mut self.v6.lists,
            &mut asking,
            &mut problems,
        );
        let is_served = |address: IpAddr| match address.is_ipv4() {
            true => ground.v4.is_some(),
            false => ground.v6.is_some(),
        };
        tell_unserved(name, service, &external, is_served, &mut problems);
        // A pod of both families is one endpoint, which is in slices of each.
        let ready = v4.ready_here.max(v6.ready_here);
        let health_check = health_check(name, service, ready, ground, &mut asking, &mut problems);
        problems.sort_unstable();
        problems.dedup();
        New {
            planned: Box::new(Planned {
                rank: Arc::clone(rank),
                asked: asking.done(),
                affinities: affinities.into(),
                health_check: health_check.as_ref().map(|(port, _)| *port),
                problems: problems.into(),
                v4: Holding::of(&v4),
                v6: Holding::of(&v6),
            }),
            health_check,
            v4,
            v6,
        }
    }

    /// Gives back the numbers that a service has: it may get the same again.
    fn free(&mut self, planned: &Planned) {
        planned
            .affinities
            .iter()
            .for_each(|number| self.affinities.free(*number));
        self.v4.lists.free(planned.v4.sources);
        self.v6.lists.free(planned.v6.sources);
    }

    fn forget(&mut self, planned: &Planned, plan: &mut Plan) {
        for problem in &*planned.problems {
            if let Some(services) = self.problems.get_mut(problem) {
                *services -= 1;
                if *services == 0 {
                    self.problems.remove(problem);
                }
            }
        }
        if let Some(port) = planned.health_check {
            plan.health_checks.remove(&port);
        }
        self.v4.forget(&planned.v4, &mut plan.v4);
        self.v6.forget(&planned.v6, &mut plan.v6);
    }

    fn remember(&mut self, new: New, plan: &mut Plan) {
        for problem in &*new.planned.problems {
            *self.problems.entry(problem.clone()).or_default() += 1;
        }
        plan.health_checks.extend(new.health_check);
        self.v4.remember(new.v4, &mut plan.v4);
        self.v6.remember(new.v6, &mut plan.v6);
        self.planned.insert(new.planned.rank.name.clone(), new.planned);
    }
}

impl<F: Family> Holding<F> {
    fn of(answer: &Answer<F>) -> Self {
        Self {
            frontends: answer.frontends.iter().map(|(frontend, _)| *frontend).collect(),
            addresses: answer.addresses.as_slice().into(),
            sources: answer.sources,
        }
    }
}

impl<F: Family> Shared<F> {
    fn forget(&mut self, held: &Holding<F>, plan: &mut FamilyPlan<F>) {
        for frontend in &held.frontends {
            if let Some(service) = plan.services.remove(frontend) {
                self.before.insert(*frontend, Some(service));
            }
        }
        for (address, flags) in &held.addresses {
            self.addresses.remove(*address, *flags);
            self.touched.insert(*address);
        }
    }

    fn remember(&mut self, answer: Answer<F>, plan: &mut FamilyPlan<F>) {
        for (frontend, service) in answer.frontends {
            plan.services.insert(frontend, service);
            self.before.entry(frontend).or_insert(None);
        }
        for (address, flags) in answer.addresses {
            self.addresses.add(address, flags);
            self.touched.insert(address);
        }
    }

    /// Brings the plan to what services share, and says where it is another than before.
    fn settle(&mut self, plan: &mut FamilyPlan<F>) -> FamilyChanges<F> {
        if let Some(sources) = self.lists.news() {
            plan.sources = sources;
        }
        pack(&mut plan.services, self.before.len());
        let services = mem::take(&mut self.before).into_iter();
        let services = services.filter(|(frontend, before)| plan.services.get(frontend) != before.as_ref());
        let services = services.map(|(frontend, _)| frontend).collect();
        let mut addresses = mem::take(&mut self.touched);
        addresses.retain(|address| {
            let flags = self.addresses.flags(*address);
            let before = match flags {
                Some(flags) => plan.addresses.insert(*address, flags),
                None => plan.addresses.remove(address),
            };
            before != flags
        });
        pack(&mut plan.addresses, addresses.len());
        FamilyChanges { services, addresses }
    }
}

/// The NodePort that a service's port has.
fn node_port(
    name: &ObjectName,
    port: &ServicePort,
    ground: &Ground,
    asking: &mut Asking<'_>,
    problems: &mut Vec<Problem>,
) -> Option<u16> {
    let node_port = port.node_port?;
    let field = format!("spec.ports: {} nodePort {node_port}", port.protocol);
    let claimed = node_ports::claim(name, (&field, node_port, port.protocol), &ground.facts, asking);
    claimed.map_err(|problem| problems.push(problem)).ok()?;
    Some(node_port)
}

/// Where load balancers ask for a service, and what they are told.
fn health_check(
    name: &ObjectName,
    service: &Service,
    local_endpoints: usize,
    ground: &Ground,
    asking: &mut Asking<'_>,
    problems: &mut Vec<Problem>,
) -> Option<(u16, HealthCheck)> {
    let port = service.health_check_node_port?;
    let field = format!("spec.healthCheckNodePort: {port}");
    let claimed = node_ports::claim(name, (&field, port, Protocol::Tcp), &ground.facts, asking);
    claimed.map_err(|problem| problems.push(problem)).ok()?;
    let check = HealthCheck {
        service: name.clone(),
        local_endpoints,
    };
    Some((port, check))
}
