//! The frontends of a running cluster with the pods that should answer on them, and the wait until every node knows them.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use netpath_agent::datapath::{maps::Table, pins::Pins};
use netpath_common::abi::{Layouts, service::Service as Entry};

use super::{cluster::Cluster, endpoints, interrupt};
use crate::entries::frontend;

/// How long the agents may take to follow a change of their objects.
const FOLLOW: Duration = Duration::from_secs(10);

/// A port of a Service.
#[derive(Clone, Debug)]
pub struct Port {
    /// The Service's name.
    pub service: String,
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// The Service's address.
    pub address: IpAddr,
    /// The port there.
    pub port: u16,
    /// The port on every node, if it has one.
    pub node_port: Option<u16>,
    /// Places of the pods that answer.
    pub backends: Vec<usize>,
}

/// Every TCP and UDP port of every Service with a ClusterIP.
pub fn ports(cluster: &Cluster) -> Vec<Port> {
    let slices = endpoints::slices(&cluster.objects.services, &cluster.running());
    let mut found = Vec::new();
    for service in &cluster.objects.services {
        let Some(spec) = &service.spec else { continue };
        let Some(address) = spec.cluster_ip.as_ref().and_then(|address| address.parse().ok()) else {
            continue;
        };
        let name = service.metadata.name.clone().unwrap_or_default();
        for port in spec.ports.iter().flatten() {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            let Ok(number) = u16::try_from(port.port) else { continue };
            if !["TCP", "UDP"].contains(&protocol.as_str()) {
                continue;
            }
            let of_port = slices.iter().filter(|slice| {
                slice.metadata.namespace == service.metadata.namespace
                    && slice
                        .metadata
                        .labels
                        .iter()
                        .flatten()
                        .any(|(key, value)| key == "kubernetes.io/service-name" && *value == name)
                    && slice.ports.iter().flatten().any(|known| {
                        known.name.as_deref().unwrap_or_default() == port.name.as_deref().unwrap_or_default()
                            && known.protocol.as_ref() == Some(&protocol)
                    })
            });
            let addresses: Vec<_> = of_port
                .flat_map(|slice| slice.endpoints.iter().flatten())
                .flat_map(|e| &e.addresses)
                .collect();
            let backends = cluster
                .pods
                .iter()
                .enumerate()
                .filter(|(_, pod)| addresses.contains(&&pod.address.to_string()));
            found.push(Port {
                service: name.clone(),
                protocol,
                address,
                port: number,
                node_port: port.node_port.and_then(|port| u16::try_from(port).ok()),
                backends: backends.map(|(place, _)| place).collect(),
            });
        }
    }
    found
}

/// Waits until the table of every node has every frontend with the right number of backends.
///
/// # Errors
/// A table cannot be read, or a node does not follow in time: the error names node and frontend.
pub fn settle(cluster: &Cluster) -> Result<()> {
    let end = Instant::now() + FOLLOW;
    for (node, agent) in cluster.topology.nodes.iter().zip(&cluster.agents) {
        let pins = Pins::new(&agent.bpf_root);
        for port in ports(cluster) {
            let protocol = if port.protocol == "UDP" { 17 } else { 6 };
            let frontends = [
                Some((port.address, port.port)),
                port.node_port.map(|number| (node.address, number)),
            ];
            for (address, number) in frontends.into_iter().flatten() {
                let count = || {
                    let found = match address {
                        IpAddr::V4(address) => entry(&pins, address.octets(), number, protocol),
                        IpAddr::V6(address) => entry(&pins, address.octets(), number, protocol),
                    };
                    found.map(|entry| entry.map(|entry| entry.count as usize))
                };
                while count().with_context(|| format!("node {}", node.name))? != Some(port.backends.len()) {
                    interrupt::check()?;
                    if Instant::now() > end {
                        let have = count()?.map_or_else(|| "nothing".to_owned(), |n| format!("{n}"));
                        bail!(
                            "node {}: its table should give Service {} {} backends at {}, and has {have} after {FOLLOW:?}; its \
                             agent says: {}",
                            node.name,
                            port.service,
                            port.backends.len(),
                            SocketAddr::new(address, number),
                            agent.complaints(),
                        );
                    }
                    interrupt::wait(Duration::from_millis(10));
                }
            }
        }
    }
    Ok(())
}

/// A frontend in a node's table.
fn entry<A: Layouts>(pins: &Pins, address: A, port: u16, protocol: u8) -> Result<Option<Entry>> {
    let table = Table::<A::Frontend, Entry>::open(pins, A::NAMES.service)?;
    Ok(table.get(&frontend(address, port, protocol))?)
}
