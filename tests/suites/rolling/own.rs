//! The agent's part of a rolling update: objects planned, and written into the maps.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use netpath_agent::{
    apply::Applier,
    datapath::pins::Pins,
    model::{self, Cluster, ObjectName, Protocol, ServicePort, Slice, SlicePort, Word},
    plan::{Device, NODE_PORTS, NodeFacts, NodePortAddresses, Planner, Uplink},
};

use super::{BRIDGE, Course, FIRST, MAC_BRIDGE, OVERLAY, Rolled, SERVICE, UPLINK};

const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 11);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 12);
/// How many endpoints a slice has, as Kubernetes' controller fills them.
const SLICE: u32 = 100;
/// After how many events what is no longer needed goes, as after each of the agent's rounds.
const TIDY: usize = 10;

/// A node's planner and its maps.
pub struct Own<'r> {
    rolled: &'r Rolled,
    cluster: Cluster,
    endpoints: Vec<model::Endpoint>,
    facts: NodeFacts,
    planner: Planner,
    applier: Applier,
}

impl<'r> Own<'r> {
    /// A node and its peer, and a service without endpoints.
    pub fn begin(pins: &Pins, rolled: &'r Rolled) -> Result<Self> {
        let mut cluster = Cluster::default();
        for (name, address, subnet) in [("a", NODE, "10.244.1.0/24"), ("b", PEER, "10.245.0.0/16")] {
            let node = model::Node {
                internal_ips: vec![address.into()],
                pod_cidrs: vec![subnet.parse()?],
                ..model::Node::default()
            };
            cluster.nodes.insert(name.to_owned(), Arc::new(node));
        }
        let service = model::Service {
            cluster_ips: vec![SERVICE.into()],
            ports: vec![ServicePort {
                name: Word::default(),
                protocol: rolled.protocol,
                port: 80,
                node_port: None,
            }],
            ..model::Service::default()
        };
        cluster.services.insert(name(), Arc::new(service));
        Ok(Self {
            rolled,
            cluster,
            endpoints: Vec::new(),
            facts: facts()?,
            planner: Planner::default(),
            applier: Applier::adopt(pins)?,
        })
    }

    /// The first endpoints.
    pub fn start(&mut self, course: &Course) -> Result<()> {
        for number in 0..self.rolled.endpoints {
            self.endpoints.push(endpoint(number));
            course.begins[number as usize].store(0, SeqCst);
        }
        for place in (0..self.rolled.endpoints).step_by(SLICE as usize) {
            self.put(place);
        }
        self.follow().map(drop)
    }

    /// Each endpoint in turn is on its way out, its successor comes, and it is gone. How long each change took until it was in the
    /// maps.
    pub fn roll(&mut self, course: &Course) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        for place in 0..self.rolled.endpoints {
            let old = &mut self.endpoints[place as usize];
            (old.ready, old.terminating) = (false, true);
            self.event(place, &mut times)?;
            if self.rolled.protocol == Protocol::Tcp {
                ended(course, place);
            }
            let new = self.rolled.endpoints + place;
            course.begins[new as usize].store(course.event.load(SeqCst), SeqCst);
            self.endpoints.push(endpoint(new));
            self.event(place, &mut times)?;
            self.endpoints.swap_remove(place as usize);
            self.event(place, &mut times)?;
            if self.rolled.protocol == Protocol::Udp {
                ended(course, place);
            }
        }
        Ok(times)
    }

    fn event(&mut self, place: u32, times: &mut Vec<Duration>) -> Result<()> {
        self.put(place);
        times.push(self.follow()?);
        if times.len().is_multiple_of(TIDY) {
            let report = self.applier.tidy(self.planner.last());
            ensure!(report.errors.is_empty(), "{report:?}");
        }
        Ok(())
    }

    /// Writes the slice that an endpoint's place is in. One that comes is in the slice of whom it follows.
    fn put(&mut self, place: u32) {
        let first = (place / SLICE * SLICE) as usize;
        let end = (first + SLICE as usize).min(self.rolled.endpoints as usize);
        let coming = self.endpoints.get(self.rolled.endpoints as usize..);
        let slice = Slice {
            service: name(),
            endpoints: [&self.endpoints[first..end], coming.unwrap_or_default()].concat(),
            ports: vec![SlicePort {
                name: Word::default(),
                protocol: self.rolled.protocol,
                port: 8080,
            }],
            problems: Vec::new(),
        };
        let name = ObjectName::new("test", format!("rolled-{first}"));
        self.cluster.slices.insert(name, Arc::new(slice));
    }

    fn follow(&mut self) -> Result<Duration> {
        let began = Instant::now();
        let planned = self.planner.plan(&self.cluster, &self.facts);
        let problems = match &planned {
            Ok(plan) => &plan.problems,
            Err(problems) => problems,
        };
        ensure!(problems.is_empty(), "{problems:?}");
        let changes = self.planner.take_changes();
        let report = self.applier.follow(self.planner.last(), &changes);
        ensure!(report.errors.is_empty(), "{report:?}");
        Ok(began.elapsed())
    }
}

/// An endpoint's end is in the maps.
fn ended(course: &Course, number: u32) {
    let event = course.event.load(SeqCst) + 1;
    course.ends[number as usize].store(event, SeqCst);
    course.event.store(event, SeqCst);
}

fn name() -> ObjectName {
    ObjectName::new("test", "rolled")
}

fn endpoint(number: u32) -> model::Endpoint {
    model::Endpoint {
        address: IpAddr::V4(Ipv4Addr::from_bits(FIRST.to_bits() + number)),
        ready: true,
        serving: true,
        terminating: false,
        node: Some("b".into()),
        hints: None,
    }
}

fn facts() -> Result<NodeFacts> {
    let device = |ifindex, mac| Device { ifindex, mac };
    Ok(NodeFacts {
        name: "a".to_owned(),
        uplink: Uplink {
            device: device(UPLINK, [2, 0, 0, 0, 50, 11]),
            addresses: vec!["192.168.50.11/24".parse()?],
            mtu: 1500,
        },
        overlay: device(OVERLAY, [2, 0, 0, 0, 78, 11]),
        bridge: device(BRIDGE, MAC_BRIDGE),
        vni: 78,
        vxlan_port: 4789,
        nat_ports: 49_152..=65_535,
        node_ports: NODE_PORTS,
        node_port_addresses: NodePortAddresses::All,
        hash_seed: 7,
        maglev_seed: None,
        direct_return: false,
        netns_cookie: 1,
        service_cidrs: vec!["10.96.0.0/16".parse()?],
        node_ports_have_sources: false,
        external_ip_cidrs: Vec::new(),
        local_routes: Vec::new(),
        next_hops: Default::default(),
    })
}
