//! The planner against a model of the API's promises: clusters whose objects come, change and go at random, planned after
//! each event and held against what [`rules`] says of the same objects.

mod chance;
mod planned;
mod rules;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    thread,
};

use netpath_common::abi::{
    route::{VIA_DIRECT, VIA_TUNNEL},
    service::{
        FLAG_EXTERNAL_IP, FLAG_LOAD_BALANCER, FLAG_NODE_PORT, FLAG_NODE_PORT_HERE, FLAG_NONE_HERE, FLAG_RELAYED,
    },
};

use self::{
    chance::Chance,
    planned::{Mapped, Planned},
    rules::{At, Goes, Kind, Nodes, Promise, Promises, Socket},
    world::{Event, Settings, World, event, node, segment},
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
const CLIENTS: [&str; 9] = [
    "203.0.113.9",
    "10.244.1.7",
    "10.244.2.7",
    "10.96.0.1",
    "8.8.8.8",
    "fd00:244:1::7",
    "fd00:96::1",
    "2001:db8:113::9",
    "2001:4860::8888",
];

/// A cluster as the API has it, and reduced, each event on its own.
struct Both {
    world: World,
    cluster: Cluster,
    facts: NodeFacts,
    settings: Settings,
    /// The nodes of the world, as the rules have them.
    nodes: Nodes,
    planner: Planner,
}

impl Both {
    fn new(chance: &mut Chance) -> Self {
        let both: &[world::Family] = &[world::Family::V4, world::Family::V6];
        let (v4, v6) = (&both[..1], &both[1..]);
        let (families, own) = chance.of(&[
            (both, both),
            (both, both),
            (both, v4),
            (v4, v4),
            (v4, both),
            (v6, v6),
            (v6, both),
            (v6, v4),
        ]);
        let settings = Settings {
            families,
            own,
            uplink: chance.of(&[own, both]),
            // The smaller one is too narrow for IPv6 in tunnels over IPv6, and so for pods where there is no IPv4.
            mtu: if own == v6 {
                1500
            } else {
                chance.of(&[1500, 1500, 1349])
            },
            node_port_addresses: chance.of(&[
                "all",
                "0.0.0.0/0,::/0",
                "0.0.0.0/0",
                "primary",
                "203.0.113.0/24,2001:db8:77::/64",
                "127.0.0.0/8,192.168.0.0/16,::1/128",
            ]),
            node_ports_have_sources: chance.of(&[true, false]),
            alike: chance.of(&[true, false]),
            relays: chance.of(&[true, false]),
        };
        let facts = NodeFacts {
            node_port_addresses: settings.node_port_addresses.parse().unwrap(),
            node_ports_have_sources: settings.node_ports_have_sources,
            maglev_seed: settings.alike.then_some(7),
            direct_return: settings.relays,
            external_ip_cidrs: world::ALLOWED_EXTERNAL.into(),
            service_cidrs: world::SERVICE_RANGES.into(),
            vxlan_port: world::VXLAN_PORT,
            local_routes: world::LOCAL.into(),
            uplink: Uplink {
                addresses: settings.addresses().map(segment).collect(),
                mtu: settings.mtu.into(),
                ..facts().uplink
            },
            next_hops: world::ROUTERS.into(),
            ..facts()
        };
        let mut both = Self {
            world: World::default(),
            cluster: Cluster::default(),
            facts,
            settings,
            nodes: Nodes::default(),
            planner: Planner::default(),
        };
        let a = node(chance, "a", &settings);
        both.take(Event::Node("a".to_owned(), Some(Box::new(a))));
        both
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Node(name, object) => {
                let key = ObjectName::new("", &name);
                reduce(&mut self.cluster.nodes, name.clone(), &key, object.as_deref());
                put(&mut self.world.nodes, name, object.map(|object| *object));
                self.nodes = Nodes::of(&self.world, &self.settings);
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

    /// Why the planner that follows the cluster differs from one that begins with it, if it does.
    fn drift(&mut self) -> Option<String> {
        let before = self.planner.last().clone();
        let followed = self.planner.plan(&self.cluster, &self.facts).unwrap().clone();
        let begun = plan(&self.cluster, &self.facts).unwrap();
        if followed != begun {
            return Some(format!("followed: {followed:#?}\nfrom nothing: {begun:#?}"));
        }
        let told = self.planner.take_changes();
        let beside = |plan: &Plan| {
            (
                plan.config,
                plan.v4.routes.clone(),
                plan.v6.routes.clone(),
                plan.kernel_routes.clone(),
            )
        };
        let found = Changes {
            ground: told.ground || beside(&before) != beside(&followed),
            ..Changes::between(&before, &followed)
        };
        (told != found).then(|| format!("changes told: {told:#?}\nfound: {found:#?}"))
    }

    /// Why the ways to other nodes are not those that they must be, if they are not.
    fn detour(&self) -> Option<String> {
        let (plan, facts, nodes) = (self.planner.last(), &self.facts, &self.nodes);
        let stack = |way: &rules::Way| match *way {
            rules::Way::Direct(gateway) => Way::Gateway {
                device: facts.uplink.device.ifindex,
                gateway,
            },
            rules::Way::Tunnel { local, remote, .. } => Way::Tunnel {
                device: facts.overlay.ifindex,
                vni: facts.vni,
                local,
                remote,
            },
        };
        let mapped = |way: &rules::Way| match *way {
            rules::Way::Direct(node) => Mapped {
                via: VIA_DIRECT,
                node,
                next_hop: Some(node),
            },
            rules::Way::Tunnel { remote, next_hop, .. } => Mapped {
                via: VIA_TUNNEL,
                node: remote,
                next_hop,
            },
        };
        let pods = nodes.subnets.iter();
        let wanted: BTreeMap<IpNet, Way> = pods.clone().map(|(to, way)| (*to, stack(way))).collect();
        let planned = planned::kernel_ways(plan);
        if planned != wanted {
            return Some(format!("the stack's ways: planned {planned:#?}, wanted {wanted:#?}"));
        }
        let all = pods.chain(&nodes.others);
        let wanted: BTreeMap<IpNet, Mapped> = all.map(|(to, way)| (*to, mapped(way))).collect();
        let mut planned = planned::ways(&plan.v4);
        planned.extend(planned::ways(&plan.v6));
        if planned != wanted {
            return Some(format!("the programs' ways: planned {planned:#?}, wanted {wanted:#?}"));
        }
        let (planned, wanted) = (plan.config.pod_mtu, nodes.pod_mtu);
        (planned != wanted).then(|| format!("the pods' MTU: planned {planned}, wanted {wanted}"))
    }

    /// Why plan and model differ, if they do.
    fn difference(&self) -> Option<String> {
        let plan = self.planner.last();
        let Promises {
            frontends,
            addresses,
            health_checks,
        } = rules::promises(&self.world, &self.nodes, &self.settings);
        if let Some(difference) = self.detour() {
            return Some(difference);
        }
        let mut planned = planned::addresses(&plan.v4);
        planned.extend(planned::addresses(&plan.v6));
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
        let mut planned = planned::frontends(&plan.v4);
        planned.extend(planned::frontends(&plan.v6));
        let mut numbers = Numbers::default();
        let everywhere: BTreeSet<&At> = planned.keys().chain(frontends.keys()).collect();
        everywhere.into_iter().find_map(|at| {
            let differs = match (planned.get(at), frontends.get(at)) {
                (Some(planned), Some(promised)) => numbers.differ(at, planned, promised),
                (None, _) => Some("is not planned"),
                (_, None) => Some("is not promised"),
            };
            differs.map(|what| format!("{at:?}: {what}: {:#?}\n{:#?}", planned.get(at), frontends.get(at)))
        })
    }
}

fn reduce<K: Ord + Clone, V: Reduce>(
    objects: &mut imbl::OrdMap<K, Arc<V>>,
    key: K,
    name: &ObjectName,
    object: Option<&V::Object>,
) {
    match object.and_then(|object| V::convert(name, object).unwrap()) {
        Some(reduced) => objects.insert(key, Arc::new(reduced)),
        None => objects.remove(&key),
    };
}

fn put<K: Ord, V>(objects: &mut BTreeMap<K, V>, key: K, object: Option<V>) {
    match object {
        Some(object) => objects.insert(key, object),
        None => objects.remove(&key),
    };
}

/// The numbers that plans give, which must stand for the same wherever they are.
#[derive(Default)]
struct Numbers {
    affinities: BTreeMap<u32, (ObjectName, String)>,
    by_port: BTreeMap<(ObjectName, String), u32>,
}

impl Numbers {
    /// In what a planned frontend is not what is promised.
    fn differ(&mut self, at: &At, planned: &Planned, promised: &Promise) -> Option<&'static str> {
        let kind = match planned.flags & !FLAG_NONE_HERE {
            0 => Kind::ClusterIp,
            FLAG_LOAD_BALANCER => Kind::Balancer,
            FLAG_EXTERNAL_IP => Kind::External,
            FLAG_NODE_PORT => Kind::NodePort,
            FLAG_NODE_PORT_HERE => Kind::NodePortHere,
            FLAG_RELAYED => Kind::Relayed,
            _ => return Some("flags that no frontend has"),
        };
        let goes = |list: &BTreeSet<Socket>| match list.is_empty() {
            true if planned.flags & FLAG_NONE_HERE != 0 => Goes::Dropped,
            true => Goes::Refused,
            false => Goes::To(list.clone()),
        };
        let keeps = promised.keep.as_ref().is_none_or(|keep| *keep == planned.serving);
        let may = |ranges: &Option<Vec<IpNet>>, client: &str| {
            let client: IpAddr = client.parse().unwrap();
            ranges
                .as_ref()
                .is_none_or(|ranges| ranges.iter().any(|range| range.contains(&client)))
        };
        // Of the other family nobody comes here.
        let family = world::Family::of(at.0);
        let clients = CLIENTS
            .iter()
            .filter(|client| world::Family::of(client.parse().unwrap()) == family);
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
            (planned.maglev == promised.alike, "whether every node chooses alike"),
            (self.is_alike(planned, promised), "session affinity"),
            (
                clients
                    .into_iter()
                    .all(|client| may(&planned.clients, client) == may(&promised.clients, client)),
                "who may connect",
            ),
        ]
        .into_iter()
        .find_map(|(same, what)| (!same).then_some(what))
    }

    /// Whether a port of a service has one number on all of its frontends, and no other has it.
    fn is_alike(&mut self, planned: &Planned, promised: &Promise) -> bool {
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

/// What clusters have at their end, so that it shows if all were empty.
#[derive(Default)]
struct Seen {
    services: usize,
    /// Pod subnets behind tunnels of IPv4, and of IPv6.
    tunnels: [usize; 2],
}

/// Clusters from one seed on.
fn run(mut seed: u64, clusters: usize) -> Seen {
    let mut seen = Seen::default();
    for _ in 0..clusters {
        seed += 1;
        let mut chance = Chance(seed << 32);
        let mut both = Both::new(&mut chance);
        for number in 0..EVENTS {
            both.take(event(&mut chance, &both.settings));
            if let Some(difference) = both.drift().or_else(|| both.difference()) {
                panic!("cluster {seed:#x}, event {number}: {difference}\n{:#?}", both.world);
            }
        }
        seen.services += both.cluster.services.len() * usize::from(!both.cluster.slices.is_empty());
        for way in planned::kernel_ways(both.planner.last()).values() {
            if let Way::Tunnel { remote, .. } = way {
                seen.tunnels[usize::from(remote.is_ipv6())] += 1;
            }
        }
    }
    seen
}

#[test]
fn a_hundred_thousand_plans_keep_what_the_api_promises() {
    let clusters = CASES / EVENTS;
    let halves = [SEED, SEED + 0x1_0000].map(|seed| thread::spawn(move || run(seed, clusters / 2)));
    let [one, other] = halves.map(|half| half.join().expect("as promised"));
    let services = one.services + other.services;
    let [over_ipv4, over_ipv6] = [0, 1].map(|family| one.tunnels[family] + other.tunnels[family]);
    assert!(
        services > clusters && over_ipv4 > clusters / 4 && over_ipv6 > clusters / 20,
        "{services} services, {over_ipv4} tunnels over IPv4 and {over_ipv6} over IPv6 at the end of {clusters} clusters: too few to tell"
    );
}
