//! What services cost, and what an event does among many of them: planned, and written into maps under a root of their own, by the agent's
//! own code, from the cluster's objects to the last entry.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use netpath_agent::{
    apply::{Applier, Report},
    datapath::{load, pins::Pins, sizes::Sizes},
    model::{Cluster, Endpoint, Node, ObjectName, Protocol, Service, ServicePort, Slice, SlicePort, Word},
    plan::{Device, NODE_PORTS, NodeFacts, NodePortAddresses, Planner, Uplink},
};

use super::{APPLY, APPLY_MOST, CHANGE, ROLL, median};
use crate::{bench::report::Control, lab::home::Home};

/// How many services there are, of two endpoints each, none shared.
const SOME: u32 = 10_000;
/// As many as a cluster may have.
const MOST: u32 = 45_000;
/// The endpoints of a service that is rolled.
const ROLLED: u32 = 1_000;
/// Times of which the shortest counts.
const TIMES: usize = 3;
/// Events of which the middle one counts.
const EVENTS: u32 = 101;

/// Measures it all.
///
/// # Errors
/// When the maps cannot be made, or refuse an entry.
pub fn measure() -> Result<Vec<Control>> {
    let home = Home::unique()?;
    let mut figures = Vec::new();
    for (what, services) in [(APPLY, SOME), (APPLY_MOST, MOST)] {
        let cluster = cluster(services);
        let (mut shortest, mut entries) = (Duration::MAX, 0);
        for time in 0..TIMES {
            let (spent, report) = Own::begin(&home, &format!("{services}-{time}"))?.follow(&cluster)?;
            (shortest, entries) = (shortest.min(spent), report.total().added);
        }
        figures.push(Control {
            what,
            value: shortest.as_secs_f64(),
            unit: "s",
            how: format!("planned, and {entries} entries written; shortest of {TIMES}"),
        });
    }
    let mut own = Own::begin(&home, "events")?;
    let mut cluster = cluster(MOST);
    own.follow(&cluster)?;
    let mut changes = Vec::new();
    for service in 0..EVENTS {
        put(&mut cluster, service, vec![endpoint(service * 2)]);
        changes.push(own.follow(&cluster)?.0);
    }
    figures.push(median(CHANGE, changes, "planned and written, of 45,000 services"));

    let mut rolled: Vec<Endpoint> = (0..ROLLED).map(|pod| endpoint(MOST * 2 + pod)).collect();
    put(&mut cluster, 0, rolled.clone());
    own.follow(&cluster)?;
    let mut changes = Vec::new();
    for (pod, place) in (0..ROLLED).zip(0..) {
        let old: &mut Endpoint = rolled.get_mut::<usize>(place).context("a place for each")?;
        *old = endpoint(MOST * 2 + ROLLED + pod);
        put(&mut cluster, 0, rolled.clone());
        changes.push(own.follow(&cluster)?.0);
    }
    figures.push(median(ROLL, changes, "each writes a set of 1,000 anew"));
    Ok(figures)
}

/// A node's planner and its maps.
struct Own {
    planner: Planner,
    applier: Applier,
    facts: NodeFacts,
}

impl Own {
    /// Maps with nothing in them.
    fn begin(home: &Home, name: &str) -> Result<Self> {
        let pins = Pins::new(home.bpf_root().join(name));
        load::load(&pins, &Sizes::default())?;
        Ok(Self {
            planner: Planner::default(),
            applier: Applier::adopt(&pins)?,
            facts: facts()?,
        })
    }

    /// Plans a cluster, and brings the maps to it; how long that took.
    fn follow(&mut self, cluster: &Cluster) -> Result<(Duration, Report)> {
        let start = Instant::now();
        let planned = self.planner.plan(cluster, &self.facts);
        let problems = match &planned {
            Ok(plan) => &plan.problems,
            Err(problems) => problems,
        };
        let problem = problems.first().map(ToString::to_string);
        ensure!(problem.is_none(), "{}", problem.unwrap_or_default());
        let changes = self.planner.take_changes();
        let report = self.applier.follow(self.planner.last(), &changes);
        let spent = start.elapsed();
        match report.errors.first() {
            Some(failure) => Err(anyhow!("{}: {}", failure.object, failure.reason)),
            None => Ok((spent, report)),
        }
    }
}

fn facts() -> Result<NodeFacts> {
    Ok(NodeFacts {
        name: "a".to_owned(),
        uplink: Uplink {
            device: Device::default(),
            addresses: vec!["192.0.2.11/24".parse()?],
            mtu: 1500,
        },
        overlay: Device::default(),
        bridge: Device::default(),
        vni: 78,
        vxlan_port: 4789,
        nat_ports: 49_152..=65_535,
        node_ports: NODE_PORTS,
        node_port_addresses: NodePortAddresses::All,
        hash_seed: 0,
        netns_cookie: 1,
        service_cidrs: vec!["10.96.0.0/12".parse()?],
        node_ports_have_sources: false,
        maglev_seed: None,
        direct_return: false,
        external_ip_cidrs: Vec::new(),
        local_routes: Vec::new(),
        next_hops: Default::default(),
    })
}

/// A node, and services.
fn cluster(services: u32) -> Cluster {
    let mut cluster = Cluster::default();
    let node = Node {
        internal_ips: vec![Ipv4Addr::new(192, 0, 2, 11).into()],
        pod_cidrs: "10.244.1.0/24".parse().into_iter().collect(),
        ..Node::default()
    };
    cluster.nodes.insert("a".to_owned(), Arc::new(node));
    for number in 0..services {
        let service = Service {
            created: Some(number.into()),
            cluster_ips: vec![above(Ipv4Addr::new(10, 96, 1, 0), number)],
            ports: vec![ServicePort {
                name: Word::default(),
                protocol: Protocol::Tcp,
                port: 80,
                node_port: None,
            }],
            ..Service::default()
        };
        cluster.services.insert(name(number), Arc::new(service));
        put(
            &mut cluster,
            number,
            vec![endpoint(number * 2), endpoint(number * 2 + 1)],
        );
    }
    cluster
}

/// Gives a service its endpoints.
fn put(cluster: &mut Cluster, service: u32, endpoints: Vec<Endpoint>) {
    let slice = Slice {
        service: name(service),
        endpoints,
        ports: vec![SlicePort {
            name: Word::default(),
            protocol: Protocol::Tcp,
            port: 8080,
        }],
        problems: Vec::new(),
    };
    cluster.slices.insert(name(service), Arc::new(slice));
}

fn name(service: u32) -> ObjectName {
    ObjectName::new("bench", format!("service-{service:05}"))
}

fn endpoint(number: u32) -> Endpoint {
    Endpoint {
        address: above(Ipv4Addr::new(10, 245, 0, 0), number),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        hints: None,
    }
}

fn above(first: Ipv4Addr, number: u32) -> IpAddr {
    Ipv4Addr::from_bits(first.to_bits() + number).into()
}
