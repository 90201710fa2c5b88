//! The last step of an event's way: the maps brought to a plan, by the difference to what the kernel holds.
//!
//! The order keeps every packet between two whole states: a set of backends, or a list of clients, is written before a
//! frontend names it, and goes when no program can hold its number any more; routes are added before others go; the configuration names a prefix
//! length for as long as a route has it. On a fresh node the configuration comes last: until then the programs let
//! everything pass.

mod config;
pub mod forget;
mod mirror;
mod report;
mod sets;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::Ipv4Addr,
    sync::Arc,
};

use netpath_common::{
    abi::{
        config::Config,
        conntrack::v4::{Connection, Tuple},
        endpoint::{Endpoint, KIND_HOST},
        route::v4::{Route, RouteKey},
        service::{
            FLAG_EXTERNAL_IP, FLAG_HOST_PORT, FLAG_LOAD_BALANCER, FLAG_NODE_PORT, FLAG_NODE_PORT_HERE, Service,
            v4::{Backend, Frontend},
        },
        source::v4::SourceKey,
    },
    names,
};

use crate::{
    datapath::{
        config::NodeConfig,
        error::{Error, Result},
        maps::Table,
        pins::Pins,
        sys, tables,
    },
    plan::{Plan, ServicePlan},
};

pub use report::{Changes, Failure, Report};

use forget::Datagrams;
use mirror::Mirror;
use sets::Sets;

/// The frontends that may be on an address of the node, where pods have their hostPorts.
const IN_HOST_PORTS_WAY: u16 = FLAG_NODE_PORT | FLAG_NODE_PORT_HERE | FLAG_LOAD_BALANCER | FLAG_EXTERNAL_IP;

/// The maps that the agent owns, and what they hold.
pub struct Applier {
    config: NodeConfig,
    held: Config,
    endpoints: Table<[u8; 4], Endpoint>,
    routes: Mirror<RouteKey, Route>,
    services: Mirror<Frontend, Service>,
    sets: Sets,
    sources: Mirror<SourceKey, u32>,
    connections: Table<Tuple, Connection>,
    /// The flows that the last plan let stay; `None` before the first.
    datagrams: Option<Datagrams>,
}

impl Applier {
    /// Reads what the pinned maps hold. Nothing is changed.
    ///
    /// # Errors
    /// [`Error::MapMissing`], [`Error::Map`].
    pub fn adopt(pins: &Pins) -> Result<Self> {
        let config = tables::config(pins)?;
        Ok(Self {
            held: config.get()?,
            config,
            endpoints: tables::endpoints::<[u8; 4]>(pins)?,
            routes: Mirror::adopt(names::ROUTE4, tables::routes::<[u8; 4]>(pins)?, |_| true)?,
            services: Mirror::adopt(names::SERVICE4, tables::services::<[u8; 4]>(pins)?, |service| {
                service.flags & FLAG_HOST_PORT == 0
            })?,
            sets: Sets::adopt(tables::backends::<[u8; 4]>(pins)?)?,
            sources: Mirror::adopt(names::SOURCE4, tables::sources::<[u8; 4]>(pins)?, |_| true)?,
            connections: tables::connections::<[u8; 4]>(pins)?,
            datagrams: None,
        })
    }

    /// Reads anew what the pinned maps hold, which others may have changed.
    ///
    /// # Errors
    /// As [`Self::adopt`]; this one stays as it is then.
    pub fn adopt_again(&mut self, pins: &Pins) -> Result<()> {
        let adopted = Self::adopt(pins)?;
        *self = Self {
            datagrams: self.datagrams.take(),
            ..adopted
        };
        Ok(())
    }

    /// Brings the maps to a plan. What one object is refused does not keep the others from theirs: errors stand in the
    /// report, and the next call tries again.
    pub fn apply(&mut self, plan: &Plan) -> Report {
        let mut report = Report::default();
        if self.held.abi_version != 0 {
            self.configure(config::between(&self.held, &plan.config), &mut report);
        }
        self.add_endpoints(&plan.endpoints4, &mut report);
        self.routes(&plan.routes4, &mut report);
        self.services(plan, &mut report);
        self.forget(plan, &mut report);
        self.remove_endpoints(&plan.endpoints4, &mut report);
        self.configure(plan.config, &mut report);
        report
    }

    fn configure(&mut self, wanted: Config, report: &mut Report) {
        if wanted == self.held {
            return;
        }
        match self.config.set(&wanted) {
            Ok(()) => {
                self.held = wanted;
                report.table(names::CONFIG).changed = 1;
            }
            Err(error) => report.fail("the node's configuration".to_owned(), &error),
        }
    }

    /// The node's own addresses. Those of pods are the CNI plugin's, which writes beside us: every entry is looked at just
    /// before it is changed.
    fn add_endpoints(&mut self, wanted: &BTreeMap<[u8; 4], Endpoint>, report: &mut Report) {
        for (address, endpoint) in wanted {
            let done = match self.endpoints.get(address) {
                Ok(Some(found)) if found == *endpoint => continue,
                Ok(Some(found)) if found.kind != KIND_HOST => Ok(None),
                Ok(Some(_)) => self.endpoints.insert(address, endpoint).map(|()| Some(false)),
                Ok(None) => self
                    .endpoints
                    .insert_new(address, endpoint)
                    .map(|new| new.then_some(true)),
                Err(error) => Err(error),
            };
            let object = || format!("the node's address {}", Ipv4Addr::from(*address));
            match done {
                Ok(Some(true)) => report.table(names::ENDPOINT4).added += 1,
                Ok(Some(false)) => report.table(names::ENDPOINT4).changed += 1,
                Ok(None) => report.refuse(object(), "a pod of this node has it: delete that pod".to_owned()),
                Err(error) => report.fail(object(), &error),
            }
        }
    }

    fn remove_endpoints(&mut self, wanted: &BTreeMap<[u8; 4], Endpoint>, report: &mut Report) {
        let entries = match self.endpoints.entries() {
            Ok(entries) => entries,
            Err(error) => return report.fail("the node's addresses".to_owned(), &error),
        };
        for (address, endpoint) in entries {
            if endpoint.kind != KIND_HOST || wanted.contains_key(&address) {
                continue;
            }
            match self.endpoints.remove(&address) {
                Ok(_) => report.table(names::ENDPOINT4).removed += 1,
                Err(error) => report.fail(format!("the node's address {}", Ipv4Addr::from(address)), &error),
            }
        }
    }

    fn routes(&mut self, wanted: &BTreeMap<RouteKey, Route>, report: &mut Report) {
        let mut refused = self.routes.put(wanted, report);
        if self.routes.keep(|key| wanted.contains_key(key), report) > 0 && !refused.is_empty() {
            refused = self.routes.put(wanted, report);
        }
        for (key, error) in refused {
            let object = format!("the route to {}/{}", Ipv4Addr::from(key.address), key.prefix_len);
            report.fail(object, &error);
        }
    }

    /// What does not fit before old entries go is tried once more after.
    fn services(&mut self, plan: &Plan, report: &mut Report) {
        let wanted = &plan.services4;
        let addresses: BTreeMap<Frontend, Service> = plan.addresses4.iter().map(address).collect();
        let lists = shared(wanted);
        let mut again = true;
        loop {
            let needed = lists.values().flatten().filter(|list| !list.is_empty());
            let unplaced = self.sets.add(needed, report);
            let unlisted = self.sources.put(&plan.sources4, report);
            let mut services = addresses.clone();
            let mut incomplete = Vec::new();
            for (frontend, [inside, outside]) in &lists {
                let plan = &wanted[*frontend];
                let listed = unlisted.iter().all(|(key, _)| key.sources != plan.sources);
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
                            reserved: [0; 2],
                        };
                        services.insert(**frontend, service);
                    }
                    _ => incomplete.push((**frontend, inside.len().max(outside.len()))),
                }
            }
            let taken = self.claim_node_ports(&mut services, report);
            let refused = self.services.put(&services, report);
            let removed = self
                .services
                .keep(|key| wanted.contains_key(key) || addresses.contains_key(key), report);
            let freed = removed + self.retire(&services, &plan.sources4, report);
            if again && freed > 0 && !(incomplete.is_empty() && refused.is_empty()) {
                again = false;
                continue;
            }
            for (frontend, count) in incomplete {
                let why = unplaced.as_ref().or(unlisted.first().map(|(_, error)| error));
                let reason = why.map_or_else(String::new, Error::to_string);
                report.refuse(format!("{} and its {count} backends", describe(&frontend)), reason);
            }
            for frontend in taken {
                let reason =
                    "a pod of this node has it as its hostPort: delete that pod, or give the service another port";
                report.refuse(describe(&frontend), reason.to_owned());
            }
            for (frontend, error) in refused {
                report.fail(describe(&frontend), &error);
            }
            return;
        }
    }

    /// Adds the new frontends that a pod's hostPort could be in the way of, which the CNI plugin writes beside us. Those that
    /// are taken are returned and no longer wanted; what else is wrong shows again when all are written.
    fn claim_node_ports(&mut self, services: &mut BTreeMap<Frontend, Service>, report: &mut Report) -> Vec<Frontend> {
        let held = self.services.held();
        let is_new = |(frontend, service): &(&Frontend, &Service)| {
            service.flags & IN_HOST_PORTS_WAY != 0 && !held.contains_key(*frontend)
        };
        let new: Vec<(Frontend, Service)> = services
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

    /// Forgets the datagrams' connections that the plan does not let stay, whenever there may be such.
    fn forget(&mut self, plan: &Plan, report: &mut Report) {
        let datagrams = Datagrams::of(plan);
        if self
            .datagrams
            .as_ref()
            .is_some_and(|before| !datagrams.end_some_of(before))
        {
            self.datagrams = Some(datagrams);
            return;
        }
        // A program that chose before the frontend moved has made its connection known by then.
        sys::grace_period();
        match datagrams.forget(&mut self.connections) {
            Ok(0) => {}
            Ok(count) => report.table(names::CONNTRACK4).removed += 2 * count,
            // Tried again with the next plan.
            Err(error) => return report.fail("connections to backends that are gone".to_owned(), &error),
        }
        self.datagrams = Some(datagrams);
    }

    /// Removes the sets and lists that no frontend names, neither in the kernel nor in the plan, once no program can have read
    /// their number.
    fn retire(
        &mut self,
        wanted: &BTreeMap<Frontend, Service>,
        sources: &BTreeMap<SourceKey, u32>,
        report: &mut Report,
    ) -> usize {
        let services = || self.services.held().values().chain(wanted.values());
        let named: BTreeSet<u32> = services()
            .flat_map(|service| [service.set, service.outside_set])
            .collect();
        let retired = self.sets.others(&named);
        // Of a list that is wanted all else goes; one that only the kernel's frontends name stays as it is.
        let listed: BTreeSet<u32> = sources.keys().map(|key| key.sources).collect();
        let before: BTreeSet<u32> = services().map(|service| service.sources).collect();
        let stays = |key: &SourceKey| {
            sources.contains_key(key) || !listed.contains(&key.sources) && before.contains(&key.sources)
        };
        let goes = self.sources.held().keys().any(|key| !stays(key));
        if retired.is_empty() && !goes {
            return 0;
        }
        sys::grace_period();
        self.sets.remove(&retired, report);
        retired.len() + self.sources.keep(stays, report)
    }
}

/// Each frontend's backends, for connections from inside and from elsewhere; lists that are alike are one.
fn shared(wanted: &BTreeMap<Frontend, ServicePlan>) -> BTreeMap<&Frontend, [Arc<[Backend]>; 2]> {
    let mut lists: HashSet<Arc<[Backend]>> = HashSet::new();
    let mut share = |list: &Arc<[Backend]>| match lists.get(list) {
        Some(list) => Arc::clone(list),
        None => {
            lists.insert(Arc::clone(list));
            Arc::clone(list)
        }
    };
    wanted
        .iter()
        .map(|(frontend, plan)| (frontend, [share(&plan.backends), share(&plan.outside)]))
        .collect()
}

/// The entry that says that a service has an address.
fn address((address, flags): (&[u8; 4], &u16)) -> (Frontend, Service) {
    let frontend = Frontend {
        address: *address,
        ..Frontend::default()
    };
    let service = Service {
        flags: *flags,
        ..Service::default()
    };
    (frontend, service)
}

fn describe(frontend: &Frontend) -> String {
    let protocol = match frontend.protocol {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        other => format!("protocol {other}"),
    };
    format!(
        "service {}:{}/{protocol}",
        Ipv4Addr::from(frontend.address),
        frontend.port
    )
}
