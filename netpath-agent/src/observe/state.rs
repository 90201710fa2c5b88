//! A node's state in the shape in which it is shown: for a person by [`super::render`], and as JSON as it stands here.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use serde::Serialize;

use super::{agent::Agent, counters::Verdict};

/// A node's state.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Where the state is pinned.
    pub bpf_root: PathBuf,
    /// Where the agent was asked.
    pub agent_address: SocketAddr,
    /// What it said.
    pub agent: Agent,
    /// Where its objects come from, as it says.
    pub source: Option<String>,
    /// The configuration; none if no agent has written any.
    pub node: Option<Node>,
    /// The node's own addresses that the programs know.
    pub host_addresses: Vec<IpAddr>,
    /// The pods on this node.
    pub pods: Vec<Pod>,
    /// The ways to other nodes.
    pub routes: Vec<RouteLine>,
    /// The services' frontends.
    pub services: Vec<ServiceLine>,
    /// How full the maps are.
    pub maps: Vec<MapLine>,
    /// The programs on devices.
    pub links: Vec<LinkLine>,
    /// What was counted.
    pub verdicts: Vec<Verdict>,
    /// What is wrong, each with what to do.
    pub problems: Vec<String>,
}

/// The node as the programs see it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Its addresses on the uplink, one of each family.
    pub addresses: Vec<IpAddr>,
    /// The bridge's addresses.
    pub gateways: Vec<IpAddr>,
    /// The device that leads out of the node.
    pub uplink: String,
    /// The vxlan device.
    pub overlay: String,
    /// The bridge.
    pub bridge: String,
    /// The largest IP packet on the uplink, in bytes.
    pub uplink_mtu: u16,
    /// The largest IP packet of a pod, in bytes.
    pub pod_mtu: u16,
    /// VXLAN network identifier.
    pub vni: u32,
    /// VXLAN's UDP port.
    pub vxlan_port: u16,
    /// The ports of source NAT, first and last.
    pub nat_ports: (u16, u16),
}

/// A pod's address: one that has two is told twice.
#[derive(Clone, Debug, Serialize)]
pub struct Pod {
    /// The address.
    pub address: IpAddr,
    /// The pod's MAC address.
    pub mac: String,
    /// The node's end of its veth pair.
    pub device: String,
}

/// The way to a subnet.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteLine {
    /// The subnet.
    pub subnet: String,
    /// `direct` or `tunnel`; `local` for the node's own subnet and `services` for the services' range, of which what no
    /// entry takes is nobody's; or a number that none of these is.
    pub via: String,
    /// The node that has it, if one does.
    pub node: Option<IpAddr>,
    /// The next hop, where the agent knows one.
    pub next_hop: Option<IpAddr>,
}

/// A frontend.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceLine {
    /// Address and port.
    pub frontend: String,
    /// `tcp`, `udp` or a number.
    pub protocol: String,
    /// Whether it is a NodePort.
    pub node_port: bool,
    /// Whether it is a pod's hostPort.
    pub host_port: bool,
    /// Whether it answers on a load balancer's address.
    pub load_balancer: bool,
    /// Whether it answers on one of the service's `externalIPs`.
    pub external_ip: bool,
    /// It is a NodePort of any node, whose packets other nodes relay.
    pub relayed: bool,
    /// What comes from elsewhere is spread alike on every node.
    pub maglev: bool,
    /// For how many seconds after its last connection a client keeps its backend, if it does.
    pub affinity_timeout: Option<u32>,
    /// Who answers.
    pub backends: Vec<String>,
    /// Who answers what comes from outside, where that are others.
    pub outside: Option<Vec<String>>,
    /// Whether what finds nobody is dropped, and not refused: there are endpoints, but not here.
    pub none_here: bool,
    /// Whether only clients in `loadBalancerSourceRanges` may connect.
    pub restricted: bool,
}

/// A map's fill level.
#[derive(Clone, Debug, Serialize)]
pub struct MapLine {
    /// Its name.
    pub map: &'static str,
    /// Entries.
    pub entries: usize,
    /// How many fit.
    pub capacity: u32,
    /// Whether the entry longest unused makes room.
    pub evicts: bool,
}

/// A program on a device, or on the calls of a cgroup's sockets.
#[derive(Clone, Debug, Serialize)]
pub struct LinkLine {
    /// The device, or `cgroup`.
    pub device: String,
    /// The hook.
    pub hook: &'static str,
    /// Whether that is there and the program on it.
    pub attached: bool,
}
