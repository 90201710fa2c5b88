//! The tables of one family, brought to its part of a plan.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, hash_map::Entry},
    mem,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use netpath_common::abi::{
    endpoint::Endpoint,
    route::RouteKey,
    service::{
        FLAG_EXTERNAL_IP, FLAG_HOST_PORT, FLAG_LOAD_BALANCER, FLAG_NODE_PORT, FLAG_NODE_PORT_HERE, Frontend, Service,
    },
    source::SourceKey,
};

use super::{
    concerned::Concerned,
    endpoints,
    forget::Datagrams,
    maglev::Maglev,
    mirror::Mirror,
    report::Report,
    sets::{List, Sets},
};
use crate::{
    datapath::{
        error::{Error, Result},
        maps::Table,
        pins::Pins,
        sys, tables,
    },
    family::Family,
    plan::{FamilyChanges, FamilyPlan, ServicePlan},
};

/// The frontends that may be on an address of the node, where pods have their hostPorts.
const IN_HOST_PORTS_WAY: u16 = FLAG_NODE_PORT | FLAG_NODE_PORT_HERE | FLAG_LOAD_BALANCER | FLAG_EXTERNAL_IP;

/// The maps of a family that the agent owns, and what they hold.
pub struct Tables<F: Family> {
    endpoints: Table<F, Endpoint>,
    routes: Mirror<F::RouteKey, F::Route>,
    services: Mirror<F::Frontend, Service>,
    sets: Sets<F>,
    maglev: Maglev,
    sources: Mirror<F::SourceKey, u32>,
    connections: Table<F::Tuple, F::Connection>,
    sockets: Table<F::SocketKey, F::SocketPeer>,
    /// The flows that the last plan let stay; `None` while others than those may be left.
    datagrams: Option<Datagrams<F>>,
    /// The frontends that were refused, and are tried again with every plan.
    refused: BTreeSet<F::Frontend>,
    /// How many frontends in the map name each set.
    uses: HashMap<u32, u32>,
    /// The sets that none names.
    spare: BTreeSet<u32>,
}

impl<F: Family> Tables<F> {
    /// Reads what the pinned maps hold.
    ///
    /// # Errors
    /// [`Error::MapMissing`], [`Error::Map`].
    pub fn adopt(pins: &Pins) -> Result<Self> {
        let is_services = |service: &Service| service.flags & FLAG_HOST_PORT == 0;
        Ok(Self {
            endpoints: tables::endpoints::<F>(pins)?,
            routes: Mirror::adopt(F::NAMES.route, tables::routes::<F>(pins)?, |_| true)?,
            services: Mirror::adopt(F::NAMES.service, tables::services::<F>(pins)?, is_services)?,
            sets: Sets::adopt(tables::backends::<F>(pins)?)?,
            maglev: Maglev::adopt(F::NAMES.maglev, tables::maglev::<F>(pins)?)?,
            sources: Mirror::adopt(F::NAMES.source, tables::sources::<F>(pins)?, |_| true)?,
            connections: tables::connections::<F>(pins)?,
            sockets: tables::sockets::<F>(pins)?,
            datagrams: None,
            refused: BTreeSet::new(),
            uses: HashMap::new(),
            spare: BTreeSet::new(),
        })
    }

    /// Takes over from an earlier reading what no map holds.
    pub fn remember(&mut self, earlier: &mut Self) {
        self.datagrams = earlier.datagrams.take();
    }

    /// Brings the maps to the plan.
    pub fn apply(&mut self, plan: &FamilyPlan<F>, report: &mut Report) {
        endpoints::add(&mut self.endpoints, &plan.endpoints, report);
        self.routes(&plan.routes, report);
        self.services(plan, &Concerned::All, report);
        self.remove_maglev(report);
        let before = self.datagrams.take();
        let datagrams = Datagrams::of(plan);
        let some_end = before.is_none_or(|before| datagrams.end_some_of(&before));
        self.forget(datagrams, some_end, report);
        endpoints::remove(&mut self.endpoints, &plan.endpoints, report);
    }

    /// Brings the maps to the plan where it has changed, and nothing but services has. What only takes up room then is left to
    /// [`Self::tidy`].
    pub fn follow(&mut self, plan: &FamilyPlan<F>, changes: &FamilyChanges<F>, report: &mut Report) {
        let concerned = Concerned::changed(changes, &self.refused);
        self.services(plan, &concerned, report);
        let (datagrams, some_end) = match self.datagrams.take() {
            Some(mut datagrams) => {
                let some_end = datagrams.follow(plan, &changes.services);
                (datagrams, some_end)
            }
            None => (Datagrams::of(plan), true),
        };
        self.forget(datagrams, some_end, report);
    }

    /// Removes what no frontend names any more, neither in the kernel nor in the plan, once no program can have read its number.
    /// Returns how much that was.
    pub fn tidy(&mut self, plan: &FamilyPlan<F>, report: &mut Report) -> usize {
        let gone = self.unlisted(plan);
        if self.spare.is_empty() && gone.is_empty() {
            return 0;
        }
        sys::grace_period();
        let retired: Vec<u32> = mem::take(&mut self.spare).into_iter().collect();
        self.maglev.remove(&retired, report);
        self.sets.remove(&retired, report);
        retired.len() + self.sources.remove(gone, report)
    }

    /// How many frontends were refused.
    pub fn refused(&self) -> usize {
        self.refused.len()
    }

    fn routes(&mut self, wanted: &BTreeMap<F::RouteKey, F::Route>, report: &mut Report) {
        let mut refused = self.routes.put(wanted, report);
        if self.routes.keep(|key| wanted.contains_key(key), report) > 0 && !refused.is_empty() {
            refused = self.routes.put(wanted, report);
        }
        for (key, error) in refused {
            let RouteKey { address, prefix_len } = key.into();
            let object = format!("the route to {}/{prefix_len}", F::Address::from(address));
            report.fail(object, &error);
        }
    }

    /// What does not fit before old entries go is tried once more after.
    fn services(&mut self, plan: &FamilyPlan<F>, concerned: &Concerned<F>, report: &mut Report) {
        let addresses = concerned.addresses(plan);
        let wanted = shared(concerned.services(plan));
        let mut before = concerned.held(&self.services);
        self.refused.clear();
        let mut again = true;
        loop {
            let lists = || wanted.iter().flat_map(|wanted| &wanted.lists);
            let needed = lists().filter(|list| !list.is_empty());
            let unplaced = self.sets.add(needed, report);
            let untabled = self.add_maglev(&wanted, report);
            let unlisted = self.sources.put(&plan.sources, report);
            let mut services = addresses.clone();
            let mut incomplete = Vec::new();
            for Wanted { frontend, plan, lists } in &wanted {
                let [inside, outside] = lists;
                let listed = unlisted.iter().all(|(key, _)| list::<F>(key) != plan.sources);
                match (self.sets.number(inside), self.sets.number(outside)) {
                    (Some(set), Some(outside_set)) if listed => {
                        let service = Service {
                            set,
                            count: inside.len() as u32,
                            outside_set,
                            outside_count: outside.len() as u32,
                            affinity: plan.affinity,
                            affinity_timeout: plan.affinity_timeout,
                            sources: plan.sources,
                            flags: plan.flags,
                            maglev: if plan.maglev { self.maglev.bits(outside_set) } else { 0 },
                            reserved: 0,
                        };
                        services.insert(**frontend, service);
                    }
                    _ => incomplete.push((**frontend, inside.len().max(outside.len()))),
                }
            }
            let taken = self.claim_node_ports(&mut services, report);
            let refused = self.services.put(&services, report);
            let gone = concerned.gone(plan, &self.services);
            let removed = self.services.remove(gone, report);
            let now = concerned.held(&self.services);
            let listed = lists().filter_map(|list| self.sets.number(list));
            let listed: Vec<u32> = listed.collect();
            self.count(before.as_deref(), now.as_deref(), listed);
            before = now;
            let is_whole = incomplete.is_empty() && refused.is_empty();
            let freed = match concerned {
                Concerned::These { .. } if is_whole => removed,
                _ => removed + self.tidy(plan, report),
            };
            if again && freed > 0 && !is_whole {
                again = false;
                continue;
            }
            for (frontend, count) in incomplete {
                let why = unplaced.as_ref().or(unlisted.first().map(|(_, error)| error));
                let reason = why.map_or_else(String::new, Error::to_string);
                self.refused.insert(frontend);
                report.refuse(format!("{} and its {count} backends", describe::<F>(frontend)), reason);
            }
            if let Some(error) = &untabled {
                let without = services.iter().filter(|(frontend, service)| {
                    let wanted = plan.services.get(*frontend);
                    service.maglev == 0 && wanted.is_some_and(|plan| plan.maglev && !plan.outside.is_empty())
                });
                for (frontend, _) in without {
                    self.refused.insert(*frontend);
                    let object = format!("{}, which is served without a Maglev table,", describe::<F>(*frontend));
                    report.fail(object, error);
                }
            }
            for frontend in taken {
                let reason =
                    "a pod of this node has it as its hostPort: delete that pod, or give the service another port";
                self.refused.insert(frontend);
                report.refuse(describe::<F>(frontend), reason.to_owned());
            }
            for (frontend, error) in refused {
                self.refused.insert(frontend);
                report.fail(describe::<F>(frontend), &error);
            }
            return;
        }
    }

    /// Writes the tables of the sets of frontends that choose by one. Returns why the last of those that failed did.
    fn add_maglev(&mut self, wanted: &[Wanted<'_, F>], report: &mut Report) -> Option<Error> {
        let with = wanted.iter().filter(|wanted| wanted.plan.maglev);
        let outside = with.map(
            |Wanted {
                 lists: [_, outside], ..
             }| outside,
        );
        let sets = outside.filter_map(|list| Some((self.sets.number(list)?, &***list)));
        self.maglev.add(sets, report)
    }

    /// Removes the tables that no frontend chooses by any more, once no program can be about to.
    fn remove_maglev(&mut self, report: &mut Report) {
        let with = self.services.held().values().filter(|service| service.maglev != 0);
        let spare = self.maglev.without(&with.map(|service| service.outside_set).collect());
        if !spare.is_empty() {
            sys::grace_period();
            self.maglev.remove(&spare, report);
        }
    }

    /// Adds the new frontends that a pod's hostPort could be in the way of, which the CNI plugin writes beside us. Those that
    /// are taken are returned and no longer wanted; what else is wrong shows again when all are written.
    fn claim_node_ports(
        &mut self,
        services: &mut BTreeMap<F::Frontend, Service>,
        report: &mut Report,
    ) -> Vec<F::Frontend> {
        let held = self.services.held();
        let is_new = |(frontend, service): &(&F::Frontend, &Service)| {
            service.flags & IN_HOST_PORTS_WAY != 0 && !held.contains_key(*frontend)
        };
        let new: Vec<(F::Frontend, Service)> = services
            .iter()
            .filter(is_new)
            .map(|(key, value)| (*key, *value))
            .collect();
        let mut taken = Vec::new();
        for (frontend, service) in new {
            if let Ok(false) = self.services.claim(frontend, service, report) {
                services.remove(&frontend);
                taken.push(frontend);
            }
        }
        taken
    }

    /// Forgets the datagrams' connections that may not stay, and aborts sockets that may not, if there may be such.
    fn forget(&mut self, datagrams: Datagrams<F>, some_end: bool, report: &mut Report) {
        if some_end {
            // A program that chose before the frontend moved has made its connection known by then.
            sys::grace_period();
            match datagrams.forget(&mut self.connections) {
                Ok(0) => {}
                Ok(count) => report.table(F::NAMES.conntrack).removed += 2 * count,
                // Tried again with the next plan.
                Err(error) => return report.fail("connections to backends that are gone".to_owned(), &error),
            }
            match datagrams.abort(&self.sockets) {
                Ok(count) => report.aborted += count,
                Err(error) => return report.fail("sockets that are led to backends that are gone".to_owned(), &error),
            }
        }
        self.datagrams = Some(datagrams);
    }

    /// Follows which sets the frontends in the map name: those that were looked at, `before` and `now`, or all of them if nothing is
    /// said of them. `listed` are sets that they may have been written for.
    fn count(&mut self, before: Option<&[Service]>, now: Option<&[Service]>, listed: Vec<u32>) {
        let sets = |service: &Service| [service.set, service.outside_set];
        let (Some(before), Some(now)) = (before, now) else {
            self.uses.clear();
            for set in self.services.held().values().flat_map(sets) {
                *self.uses.entry(set).or_default() += 1;
            }
            let spare = self.sets.numbers().filter(|set| !self.uses.contains_key(set));
            self.spare = spare.collect();
            return;
        };
        for set in now.iter().flat_map(sets) {
            *self.uses.entry(set).or_default() += 1;
        }
        for set in before.iter().flat_map(sets) {
            if let Entry::Occupied(mut uses) = self.uses.entry(set) {
                *uses.get_mut() -= 1;
                if *uses.get() == 0 {
                    uses.remove();
                }
            }
        }
        for set in before.iter().chain(now).flat_map(sets).chain(listed) {
            match self.uses.contains_key(&set) || set == 0 {
                true => self.spare.remove(&set),
                false => self.spare.insert(set),
            };
        }
    }

    /// The entries of lists that may go. Of a list that is wanted all else goes; one that only the kernel's frontends name stays
    /// as it is.
    fn unlisted(&self, plan: &FamilyPlan<F>) -> Vec<F::SourceKey> {
        let wanted = &plan.sources;
        let unwanted = self.sources.held().keys().filter(|key| !wanted.contains_key(key));
        let mut unwanted: Vec<F::SourceKey> = unwanted.copied().collect();
        if unwanted.is_empty() {
            return unwanted;
        }
        let listed: BTreeSet<u32> = wanted.keys().map(list::<F>).collect();
        let held = self.services.held().values().map(|service| service.sources);
        let named: BTreeSet<u32> = held
            .chain(plan.services.values().map(|service| service.sources))
            .collect();
        unwanted.retain(|key| listed.contains(&list::<F>(key)) || !named.contains(&list::<F>(key)));
        unwanted
    }
}

/// The list that an entry is of.
fn list<F: Family>(key: &F::SourceKey) -> u32 {
    let SourceKey { sources, .. } = (*key).into();
    sources
}

/// A frontend as planned.
struct Wanted<'a, F: Family> {
    frontend: &'a F::Frontend,
    plan: &'a ServicePlan<F>,
    /// Its backends, for connections from inside and from elsewhere.
    lists: [List<F::Backend>; 2],
}

/// The frontends with their lists; those that are alike are one.
fn shared<'a, F: Family>(wanted: impl Iterator<Item = (&'a F::Frontend, &'a ServicePlan<F>)>) -> Vec<Wanted<'a, F>> {
    let mut lists: HashSet<List<F::Backend>> = HashSet::new();
    let mut share = |list: &Arc<[F::Backend]>| {
        let list = List::from(list);
        match lists.get(&list) {
            Some(known) => known.clone(),
            None => {
                lists.insert(list.clone());
                list
            }
        }
    };
    wanted
        .map(|(frontend, plan)| {
            let inside = share(&plan.backends);
            let outside = match Arc::ptr_eq(&plan.backends, &plan.outside) {
                true => inside.clone(),
                false => share(&plan.outside),
            };
            Wanted {
                frontend,
                plan,
                lists: [inside, outside],
            }
        })
        .collect()
}

fn describe<F: Family>(frontend: F::Frontend) -> String {
    let Frontend {
        address,
        port,
        protocol,
        ..
    } = frontend.into();
    let protocol = match protocol {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        132 => "sctp".to_owned(),
        other => format!("protocol {other}"),
    };
    let address: IpAddr = F::Address::from(address).into();
    format!("service {}/{protocol}", SocketAddr::new(address, port))
}
