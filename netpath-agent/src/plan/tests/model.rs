//! The planner against a model of the API's promises: clusters whose objects come, change and go at random, planned after
//! each event and held against what [`rules`] says of the same objects.

mod rules;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    thread,
};

use netpath_common::abi::{
    service::{
        FLAG_EXTERNAL_IP, FLAG_LOAD_BALANCER, FLAG_NODE_PORT, FLAG_NODE_PORT_HERE, FLAG_NONE_HERE, FLAG_OUTSIDE,
    },
    source::SOURCES_BITS,
};

use self::{
    rules::{At, Goes, Kind, Promise, Promises, Socket},
    world::{Chance, Event, Settings, World, event, node},
};
use super::*;
use crate::model::Reduce;

/// As many events in all, each a case of its own.
const CASES: usize = 100_000;
/// Events that one cluster sees.
const EVENTS: usize = 100;
/// Where clusters begin; another number takes other ways.
const SEED: u64 = 0x78;

/// Clients that lists are asked about.
const CLIENTS: [[u8; 4]; 5] = [
    [203, 0, 113, 9],
    [10, 244, 1, 7],
    [10, 244, 2, 7],
    [10, 96, 0, 1],
    [8, 8, 8, 8],
];

/// A cluster as the API has it, and reduced, each event on its own.
struct Both {
    world: World,
    cluster: Cluster,
    facts: NodeFacts,
    settings: Settings,
}

impl Both {
    fn new(chance: &mut Chance) -> Self {
        let settings = Settings {
            node_port_addresses: chance.of(&[
                "all",
                "0.0.0.0/0",
                "primary",
                "203.0.113.0/24",
                "127.0.0.0/8,192.168.0.0/16",
            ]),
            node_ports_have_sources: chance.of(&[true, false]),
        };
        let mut facts = NodeFacts {
            node_port_addresses: settings.node_port_addresses.parse().unwrap(),
            node_ports_have_sources: settings.node_ports_have_sources,
            external_ip_cidrs: vec![world::ALLOWED_EXTERNAL.into()],
            service_cidrs: vec![world::SERVICE_RANGE.into()],
            vxlan_port: world::VXLAN_PORT,
            local_routes: vec![world::LOCAL.into()],
            ..facts()
        };
        facts.uplink.addresses.push("203.0.113.77/28".parse().unwrap());
        let mut both = Self {
            world: World::default(),
            cluster: Cluster::default(),
            facts,
            settings,
        };
        both.take(Event::Node("a".to_owned(), Some(Box::new(node(chance, "a")))));
        both
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Node(name, object) => {
                let key = ObjectName::new("", &name);
                reduce(&mut self.cluster.nodes, name.clone(), &key, object.as_deref());
                put(&mut self.world.nodes, name, object.map(|object| *object));
            }
            Event::Service(name, object) => {
                reduce(&mut self.cluster.services, name.clone(), &name, object.as_deref());
                put(&mut self.world.services, name, object.map(|object| *object));
            }
            Event::Slice(name, object) => {
                reduce(&mut self.cluster.slices, name.clone(), &name, object.as_deref());
                put(&mut self.world.slices, name, object.map(|object| *object));
            }
        }
    }

    /// Why plan and model differ, if they do.
    fn difference(&self) -> Option<String> {
        let plan = plan(&self.cluster, &self.facts).unwrap();
        let Promises {
            frontends,
            addresses,
            health_checks,
        } = rules::promises(&self.world, &self.settings);
        let planned = plan.addresses4.iter();
        let planned: BTreeMap<Ipv4Addr, bool> = planned
            .map(|(address, flags)| (Ipv4Addr::from(*address), flags & FLAG_OUTSIDE == 0))
            .collect();
        if planned != addresses {
            return Some(format!(
                "the services' addresses: planned {planned:?}, promised {addresses:?}"
            ));
        }
        let checks = plan.health_checks.iter();
        let checks: BTreeMap<u16, _> = checks
            .map(|(port, check)| (*port, (check.service.clone(), check.local_endpoints)))
            .collect();
        if checks != health_checks {
            return Some(format!(
                "the health checks: planned {checks:?}, promised {health_checks:?}"
            ));
        }
        let mut numbers = Numbers::default();
        let planned: BTreeMap<At, &ServicePlan> = plan.services4.iter().map(|(at, plan)| (place(at), plan)).collect();
        let everywhere: BTreeSet<&At> = planned.keys().chain(frontends.keys()).collect();
        everywhere.into_iter().find_map(|at| {
            let differs = match (planned.get(at), frontends.get(at)) {
                (Some(planned), Some(promised)) => numbers.differ(&plan, planned, promised),
                (None, _) => Some("is not planned"),
                (_, None) => Some("is not promised"),
            };
            differs.map(|what| format!("{at:?}: {what}: {:#?}\n{:#?}", planned.get(at), frontends.get(at)))
        })
    }
}

fn reduce<K: Ord, V: Reduce>(objects: &mut BTreeMap<K, V>, key: K, name: &ObjectName, object: Option<&V::Object>) {
    match object.and_then(|object| V::convert(name, object).unwrap()) {
        Some(reduced) => objects.insert(key, reduced),
        None => objects.remove(&key),
    };
}

fn put<K: Ord, V>(objects: &mut BTreeMap<K, V>, key: K, object: Option<V>) {
    match object {
        Some(object) => objects.insert(key, object),
        None => objects.remove(&key),
    };
}

fn place(frontend: &Frontend) -> At {
    (frontend.address.into(), frontend.port, frontend.protocol)
}

/// The numbers that plans give, which must stand for the same wherever they are.
#[derive(Default)]
struct Numbers {
    affinities: BTreeMap<u32, (ObjectName, String)>,
    by_port: BTreeMap<(ObjectName, String), u32>,
}

impl Numbers {
    /// In what a planned frontend is not what is promised.
    fn differ(&mut self, plan: &Plan, planned: &ServicePlan, promised: &Promise) -> Option<&'static str> {
        let kind = match planned.flags & !FLAG_NONE_HERE {
            0 => Kind::ClusterIp,
            FLAG_LOAD_BALANCER => Kind::Balancer,
            FLAG_EXTERNAL_IP => Kind::External,
            FLAG_NODE_PORT => Kind::NodePort,
            FLAG_NODE_PORT_HERE => Kind::NodePortHere,
            _ => return Some("flags that no frontend has"),
        };
        let goes = |list: &[Backend]| match list {
            [] if planned.flags & FLAG_NONE_HERE != 0 => Goes::Dropped,
            [] => Goes::Refused,
            list => Goes::To(sockets(list)),
        };
        let keeps = promised
            .keep
            .as_ref()
            .is_none_or(|keep| *keep == sockets(&planned.serving));
        let admits = |client: [u8; 4]| {
            planned.sources == 0
                || plan.sources4.keys().any(|key| {
                    let range = Ipv4Net::new(key.address.into(), (key.prefix_len - SOURCES_BITS) as u8).unwrap();
                    key.sources == planned.sources && range.contains(&Ipv4Addr::from(client))
                })
        };
        let may = |client: [u8; 4]| match &promised.clients {
            Some(ranges) => ranges.iter().any(|range| range.contains(&Ipv4Addr::from(client))),
            None => true,
        };
        [
            (kind == promised.kind, "the kind"),
            (
                goes(&planned.backends) == promised.inside,
                "where connections from inside go",
            ),
            (
                goes(&planned.outside) == promised.outside,
                "where connections from outside go",
            ),
            (keeps, "whose flows stay"),
            (self.is_alike(planned, promised), "session affinity"),
            (
                CLIENTS.into_iter().all(|client| admits(client) == may(client)),
                "who may connect",
            ),
        ]
        .into_iter()
        .find_map(|(same, what)| (!same).then_some(what))
    }

    /// Whether a port of a service has one number on all of its frontends, and no other has it.
    fn is_alike(&mut self, planned: &ServicePlan, promised: &Promise) -> bool {
        let Some((service, port, seconds)) = promised.affinity.clone() else {
            return (planned.affinity, planned.affinity_timeout) == (0, 0);
        };
        let (number, port) = (planned.affinity, (service, port));
        number != 0
            && planned.affinity_timeout == seconds
            && *self.affinities.entry(number).or_insert_with(|| port.clone()) == port
            && *self.by_port.entry(port).or_insert(number) == number
    }
}

fn sockets(list: &[Backend]) -> BTreeSet<Socket> {
    list.iter()
        .map(|backend| (backend.address.into(), backend.port))
        .collect()
}

/// Clusters from one seed on; how many frontends had a backend, so that it shows if all were empty.
fn run(mut seed: u64, clusters: usize) -> usize {
    let mut served = 0;
    for _ in 0..clusters {
        seed += 1;
        let mut chance = Chance(seed << 32);
        let mut both = Both::new(&mut chance);
        for number in 0..EVENTS {
            both.take(event(&mut chance));
            if let Some(difference) = both.difference() {
                panic!("cluster {seed:#x}, event {number}: {difference}\n{:#?}", both.world);
            }
        }
        served += both.cluster.services.len() * usize::from(!both.cluster.slices.is_empty());
    }
    served
}

#[test]
fn a_hundred_thousand_plans_keep_what_the_api_promises() {
    let clusters = CASES / EVENTS;
    let halves = [SEED, SEED + 0x1_0000].map(|seed| thread::spawn(move || run(seed, clusters / 2)));
    let served: usize = halves.into_iter().map(|half| half.join().expect("as promised")).sum();
    assert!(
        served > clusters,
        "{served} services at the end of {clusters} clusters: too few to tell"
    );
}
