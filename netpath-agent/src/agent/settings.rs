//! What an operator may set: flags, each also as an environment variable `NETPATH_*`. A bad value is an error that names
//! the flag, the value and what is accepted.

#[cfg(test)]
mod tests;
mod values;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{CommandFactory, Parser, ValueEnum, error::ErrorKind};
use ipnet::IpNet;
use netpath_common::names::BPF_ROOT;

use self::values::{cidr, device, log_filter, nat_ports, node_name, node_ports};
use super::balancers::ProxyHealth;
use crate::datapath::sizes::Sizes;
use crate::net::PROC_SYS_NET;
use crate::places::{CNI_CONF_DIR, CONFLIST, HEALTH_ADDRESS, RUN_DIR, STATE_DIR, absolute, conflist};
use crate::plan::NodePortAddresses;
use crate::report::node::taint_key;
use crate::source::server::KUBELET_KUBECONFIGS;

/// The agent's settings.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "netpath-agent",
    version,
    about = "Connects the pods of this node, and serves its services."
)]
pub struct Settings {
    /// The name of this node's Node object [default: $NODE_NAME, then the host's name]
    #[arg(long, env = "NETPATH_NODE_NAME", value_parser = node_name)]
    node_name: Option<String>,
    /// Take the cluster's objects from the YAML files in this folder, not from an API server
    #[arg(long, env = "NETPATH_FOLDER", value_name = "DIR", conflicts_with = "kubeconfig")]
    pub folder: Option<PathBuf>,
    /// How to reach the API server [default: $KUBECONFIG, then the pod's service account, then ~/.kube/config]
    #[arg(long, env = "NETPATH_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The kubelet's own kubeconfig, if it is in one of these places: with a service account, the API server's address is taken from it
    #[arg(
        long = "kubelet-kubeconfig",
        env = "NETPATH_KUBELET_KUBECONFIG",
        value_name = "FILE",
        value_delimiter = ',',
        default_values = KUBELET_KUBECONFIGS,
        value_parser = absolute
    )]
    pub kubelet_kubeconfigs: Vec<PathBuf>,
    /// The key of a taint that nodes are registered with, and that is taken off once this node is ready
    #[arg(long, env = "NETPATH_STARTUP_TAINT", value_name = "KEY", value_parser = taint_key)]
    pub startup_taint: Option<String>,
    /// Where maps, programs and links are pinned; on a bpf filesystem
    #[arg(long, env = "NETPATH_BPF_ROOT", value_name = "DIR", default_value = BPF_ROOT, value_parser = absolute)]
    pub bpf_root: PathBuf,
    /// What must outlive a restart: the pods' addresses, and what was known of the cluster
    #[arg(long, env = "NETPATH_STATE_DIR", value_name = "DIR", default_value = STATE_DIR, value_parser = absolute)]
    pub state_dir: PathBuf,
    /// What lives until the node starts again: the agent's lock, the kubelet's API server as `netpath install` noted it, and the mark
    /// of a start without a server
    #[arg(long, env = "NETPATH_RUN_DIR", value_name = "DIR", default_value = RUN_DIR, value_parser = absolute)]
    pub run_dir: PathBuf,
    /// Where the node's own /proc/sys/net is mounted so that it can be written: a container's is read-only
    #[arg(long, env = "NETPATH_SYSCTL_DIR", value_name = "DIR", default_value = PROC_SYS_NET, value_parser = absolute)]
    pub sysctl_dir: PathBuf,
    /// Where the container runtime looks for network configurations
    #[arg(long, env = "NETPATH_CNI_CONF_DIR", value_name = "DIR", default_value = CNI_CONF_DIR, value_parser = absolute)]
    pub cni_conf_dir: PathBuf,
    /// The file name of netpath's configuration there: the runtime takes the first in alphabetical order
    #[arg(long, env = "NETPATH_CONFLIST_NAME", value_name = "FILE", default_value = CONFLIST, value_parser = conflist)]
    pub conflist_name: String,
    /// The device that leads out of the node [default: the one with the node's InternalIP]
    #[arg(long, env = "NETPATH_UPLINK", value_name = "DEVICE", value_parser = device)]
    pub uplink: Option<String>,
    /// The largest IP packet that passes between the nodes, in bytes, where that is less than the uplink takes [default: the
    /// uplink's MTU]
    #[arg(long, env = "NETPATH_MTU", value_name = "BYTES", value_parser = clap::value_parser!(u32).range(576..=65_535))]
    pub mtu: Option<u32>,
    /// VXLAN's network identifier, the same on all nodes
    #[arg(long, env = "NETPATH_VNI", default_value_t = 78, value_parser = clap::value_parser!(u32).range(1..1 << 24))]
    pub vni: u32,
    /// VXLAN's UDP port, the same on all nodes
    #[arg(long, env = "NETPATH_VXLAN_PORT", default_value_t = 4789, value_parser = clap::value_parser!(u16).range(1..))]
    pub vxlan_port: u16,
    /// Where the cluster allocates service addresses from, in either family; may be given more than once [default: what its ServiceCIDR objects
    /// say (Kubernetes 1.33), then 10.96.0.0/12]
    #[arg(long = "service-cidr", env = "NETPATH_SERVICE_CIDR", value_name = "CIDR", value_delimiter = ',', value_parser = cidr)]
    pub service_cidrs: Vec<IpNet>,
    /// The ports that source NAT takes from; kept from the node's own sockets
    #[arg(long, env = "NETPATH_NAT_PORTS", value_name = "FIRST-LAST", default_value = "49152-65535", value_parser = nat_ports)]
    pub nat_ports: RangeInclusive<u16>,
    /// The ports that services may open on nodes: the API server's --service-node-port-range
    #[arg(long, env = "NETPATH_NODE_PORTS", value_name = "FIRST-LAST", default_value = "30000-32767", value_parser = node_ports)]
    pub node_ports: RangeInclusive<u16>,
    /// On which of a node's addresses they are opened, and healthCheckNodePorts too: all, primary (its InternalIP of each family), or
    /// those in the ranges that are given, and all of a family that no range is of; for the node's own processes on 127.0.0.0/8 and
    /// ::1 where that is all, or in a range
    #[arg(
        long,
        env = "NETPATH_NODE_PORT_ADDRESSES",
        value_name = "CIDR,...",
        default_value = "all"
    )]
    pub node_port_addresses: NodePortAddresses,
    /// Where a service's loadBalancerSourceRanges hold: on the addresses of its load balancer and on external ones, or on its
    /// NodePorts too. A load balancer that connects to NodePorts from its own addresses must then be in the ranges
    #[arg(long, env = "NETPATH_SOURCE_RANGES", value_enum, default_value_t = SourceRanges::Addresses)]
    pub source_ranges: SourceRanges,
    /// The ranges that services' externalIPs may be of; may be given more than once. Whoever may write a service takes an
    /// address of them from everyone in the cluster [default: none, so that no service has such an address]
    #[arg(long = "external-ip-cidr", env = "NETPATH_EXTERNAL_IP_CIDR", value_name = "CIDR", value_delimiter = ',', value_parser = cidr)]
    pub external_ip_cidrs: Vec<IpNet>,
    /// Spread what comes from outside over a service's backends alike on every node (Maglev): a text of your own, the same on all
    /// nodes, which is mixed into the choice so that nobody can aim at a backend [default: none, so that each node spreads by itself]
    #[arg(long, env = "NETPATH_MAGLEV", value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub maglev: Option<String>,
    /// Whether connections from outside are relayed, as they are, to the pod's node where that is on the segment, and answered from
    /// there; the pod sees the client's address. With --maglev alone, and where the network lets a node send from addresses of
    /// load balancers and of other nodes
    #[arg(long, env = "NETPATH_DIRECT_RETURN", value_enum, default_value_t = Switch::Off)]
    pub direct_return: Switch,
    /// The cgroup whose processes reach services at their sockets [default: the root of the machine's cgroup2]
    #[arg(long, env = "NETPATH_CGROUP_ROOT", value_name = "DIR", value_parser = absolute)]
    pub cgroup_root: Option<PathBuf>,
    /// Where /healthz and /readyz are answered
    #[arg(
        long,
        env = "NETPATH_HEALTH_ADDRESS",
        value_name = "ADDRESS:PORT",
        default_value = HEALTH_ADDRESS
    )]
    pub health_address: SocketAddr,
    /// Where load balancers ask /healthz and /livez of the node's services, as of kube-proxy: 0.0.0.0 or [::] in each family that
    /// the node has; off: nowhere
    #[arg(
        long,
        env = "NETPATH_PROXY_HEALTH_ADDRESS",
        value_name = "ADDRESS:PORT",
        default_value = "0.0.0.0:10256"
    )]
    pub proxy_health_address: ProxyHealth,
    /// Whether the uplink's way in runs in the driver; auto: where that is native, which a veth's is not
    #[arg(long, env = "NETPATH_XDP", value_enum, default_value_t = Xdp::Auto)]
    pub xdp: Xdp,
    /// How many entries each map has room for
    #[command(flatten)]
    pub sizes: Sizes,
    /// How logs are written, on the standard error
    #[arg(long, env = "NETPATH_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Which logs are written: error, warn, info, debug or trace, also per module ("info,kube=debug")
    #[arg(long, env = "NETPATH_LOG_LEVEL", value_name = "FILTER", default_value = "info", value_parser = log_filter)]
    pub log_level: String,
}

/// Whether the XDP program is attached to the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Xdp {
    /// If the driver does it natively, and not on a veth.
    Auto,
    /// Always: where the driver cannot, the agent is not ready.
    On,
    /// Never.
    Off,
}

/// Whether something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    /// They are.
    On,
    /// They are not.
    Off,
}

/// Where `loadBalancerSourceRanges` hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SourceRanges {
    /// On addresses that clients reach as they are.
    Addresses,
    /// On NodePorts too.
    NodePorts,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// An object a line.
    Json,
}

impl Settings {
    /// The settings of this process. Ends it, with a message, if they are wrong or help was asked for.
    pub fn from_process() -> Self {
        let settings = Self::parse();
        if let Err(message) = settings.consistent() {
            Self::command().error(ErrorKind::ValueValidation, message).exit();
        }
        settings
    }

    /// The name of this node's Node object.
    ///
    /// # Errors
    /// Neither the flag nor the environment has one, and the host has none that a Node could have.
    pub fn node_name(&self) -> Result<String, String> {
        if let Some(name) = &self.node_name {
            return Ok(name.clone());
        }
        let (from, name) = match std::env::var("NODE_NAME") {
            Ok(name) if !name.is_empty() => ("$NODE_NAME", name),
            _ => {
                let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
                    .map_err(|error| format!("cannot read the host's name: {error}; give --node-name"))?;
                // The kubelet registers the node by its host name in lower case.
                ("the host's name", host.trim().to_lowercase())
            }
        };
        node_name(&name).map_err(|error| format!("{from} {name:?} names no Node: {error}; give --node-name"))
    }

    /// Settings that each are right but contradict each other.
    fn consistent(&self) -> Result<(), String> {
        if self.nat_ports.contains(&self.vxlan_port) {
            return Err(format!(
                "--vxlan-port {} lies in --nat-ports {}-{}: source NAT would give the tunnel's port away; choose a port \
                 outside of the range",
                self.vxlan_port,
                self.nat_ports.start(),
                self.nat_ports.end(),
            ));
        }
        let (nat, node) = (&self.nat_ports, &self.node_ports);
        if nat.start() <= node.end() && node.start() <= nat.end() {
            return Err(format!(
                "--nat-ports {}-{} overlaps --node-ports {}-{}: connections to those services would be mistaken for \
                 replies; choose ranges apart",
                nat.start(),
                nat.end(),
                node.start(),
                node.end(),
            ));
        }
        if self.direct_return == Switch::On && self.maglev.is_none() {
            return Err(
                "--direct-return on needs --maglev: the node that a connection is relayed to must choose the same backend; give a \
                 text, the same on all nodes"
                    .to_owned(),
            );
        }
        for (position, one) in self.service_cidrs.iter().enumerate() {
            if let Some(other) = self.service_cidrs[..position].iter().find(|other| overlap(one, other)) {
                return Err(format!(
                    "--service-cidr {one} overlaps --service-cidr {other}: give each range once"
                ));
            }
        }
        Ok(())
    }
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}
