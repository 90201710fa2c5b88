//! What an operator may set: flags, each also as an environment variable `NETPATH_*`. A bad value is an error that names
//! the flag, the value and what is accepted.

mod values;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{CommandFactory, Parser, ValueEnum, error::ErrorKind};
use ipnet::IpNet;
use netpath_common::names::BPF_ROOT;

use self::values::{absolute, cidr, conflist_name, device, log_filter, nat_ports, node_name, node_ports};
use super::balancers::ProxyHealth;
use crate::datapath::sizes::Sizes;
use crate::net::PROC_SYS_NET;
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
    /// Where the kubelet may have its own, which says where the API server is to whoever has a service account
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
    #[arg(long, env = "NETPATH_STATE_DIR", value_name = "DIR", default_value = "/var/lib/netpath", value_parser = absolute)]
    pub state_dir: PathBuf,
    /// What lives as long as the agent: its lock
    #[arg(long, env = "NETPATH_RUN_DIR", value_name = "DIR", default_value = "/run/netpath", value_parser = absolute)]
    pub run_dir: PathBuf,
    /// Where the node's sysctls can be written, if not there: a container sees that read-only
    #[arg(long, env = "NETPATH_SYSCTL_DIR", value_name = "DIR", default_value = PROC_SYS_NET, value_parser = absolute)]
    pub sysctl_dir: PathBuf,
    /// Where the container runtime looks for network configurations
    #[arg(long, env = "NETPATH_CNI_CONF_DIR", value_name = "DIR", default_value = "/etc/cni/net.d", value_parser = absolute)]
    pub cni_conf_dir: PathBuf,
    /// The name of ours there: the runtime takes the first in alphabetical order
    #[arg(long, env = "NETPATH_CONFLIST_NAME", value_name = "FILE", default_value = "05-netpath.conflist", value_parser = conflist_name)]
    pub conflist_name: String,
    /// The device that leads out of the node [default: the one with the node's InternalIP]
    #[arg(long, env = "NETPATH_UPLINK", value_name = "DEVICE", value_parser = device)]
    pub uplink: Option<String>,
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
    /// On which of a node's addresses they are opened: all, primary (its InternalIP of each family), or those in the ranges that are
    /// given; for the node's own processes on 127.0.0.0/8 and ::1 where that is all, or in a range
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
    /// The cgroup whose processes reach services at their sockets [default: the root of the machine's cgroup2]
    #[arg(long, env = "NETPATH_CGROUP_ROOT", value_name = "DIR", value_parser = absolute)]
    pub cgroup_root: Option<PathBuf>,
    /// Where /healthz and /readyz are answered
    #[arg(
        long,
        env = "NETPATH_HEALTH_ADDRESS",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:9878"
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
    /// Or the agent is not ready.
    On,
    /// Never.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Settings, String> {
        let all = ["netpath-agent"].iter().chain(arguments);
        let settings = Settings::try_parse_from(all).map_err(|error| error.to_string())?;
        settings.consistent()?;
        Ok(settings)
    }

    #[test]
    fn the_defaults_are_those_of_the_manual() {
        let settings = parse(&[]).unwrap();
        assert_eq!(settings.bpf_root, PathBuf::from("/sys/fs/bpf/netpath"));
        assert_eq!((settings.vni, settings.vxlan_port), (78, 4789));
        assert_eq!(settings.nat_ports, 49152..=65535);
        assert_eq!(settings.service_cidrs, []);
        assert_eq!(settings.sysctl_dir, PathBuf::from("/proc/sys/net"));
        assert_eq!(settings.health_address, "127.0.0.1:9878".parse().unwrap());
        assert_eq!((settings.xdp, settings.log_format), (Xdp::Auto, LogFormat::Text));
        assert_eq!(settings.sizes, Sizes::default());
    }

    #[test]
    fn a_bad_value_is_named_with_its_flag_and_what_is_accepted() {
        for (arguments, said) in [
            (["--vni", "16777216"], ["--vni", "16777216", "1..16777216"]),
            (["--vxlan-port", "0"], ["--vxlan-port", "'0'", "0 is not in 1.."]),
            (["--nat-ports", "80-90"], ["--nat-ports", "80-90", "from 1024 to 65535"]),
            (
                ["--nat-ports", "2000-2062"],
                ["--nat-ports", "2000-2062", "at least 64 ports"],
            ),
            (
                ["--nat-ports", "60000-50000"],
                ["--nat-ports", "60000-50000", "FIRST-LAST"],
            ),
            (
                ["--node-port-addresses", "10.0.0.1/8"],
                [
                    "--node-port-addresses",
                    "10.0.0.1/8",
                    "expected all, primary, or subnets",
                ],
            ),
            (
                ["--service-cidr", "10.96.0.1/12"],
                ["--service-cidr", "10.96.0.1/12", "did you mean 10.96.0.0/12?"],
            ),
            (["--service-cidr", "all"], ["--service-cidr", "all", "10.96.0.0/12"]),
            (["--uplink", "eth0/../x"], ["--uplink", "eth0/../x", "1 to 15 bytes"]),
            (
                ["--node-name", "Node_1"],
                ["--node-name", "Node_1", "lower case letters"],
            ),
            (["--bpf-root", "bpf"], ["--bpf-root", "bpf", "absolute path"]),
            (
                ["--conflist-name", "../x.conflist"],
                ["--conflist-name", "../x.conflist", "without a folder"],
            ),
            (
                ["--conflist-name", "x.conf"],
                ["--conflist-name", "x.conf", ".conflist"],
            ),
            (
                ["--health-address", "9878"],
                ["--health-address", "9878", "invalid socket address"],
            ),
            (
                ["--startup-taint", "a/b=c:NoSchedule"],
                ["--startup-taint", "a/b=c:NoSchedule", "netpath.io/agent-not-ready"],
            ),
            (
                ["--kubelet-kubeconfig", "x"],
                ["--kubelet-kubeconfig", "'x'", "absolute path"],
            ),
            (
                ["--proxy-health-address", "10256"],
                ["--proxy-health-address", "10256", "or off"],
            ),
            (["--xdp", "maybe"], ["--xdp", "maybe", "auto, on, off"]),
            (
                ["--source-ranges", "all"],
                ["--source-ranges", "all", "addresses, node-ports"],
            ),
            (["--log-format", "xml"], ["--log-format", "xml", "text, json"]),
            (
                ["--log-level", "net=loud"],
                ["--log-level", "net=loud", "error, warn, info, debug, trace"],
            ),
        ] {
            let error = parse(&arguments).unwrap_err();
            for part in said {
                assert!(error.contains(part), "{arguments:?}: {part:?} is not in {error}");
            }
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let error = parse(&["--vxlan-port", "50000"]).unwrap_err();
        assert!(
            error.starts_with("--vxlan-port 50000 lies in --nat-ports 49152-65535"),
            "{error}"
        );
        let error = parse(&["--nat-ports", "32767-65535"]).unwrap_err();
        assert!(
            error.starts_with("--nat-ports 32767-65535 overlaps --node-ports 30000-32767"),
            "{error}"
        );
        let error = parse(&["--service-cidr", "10.96.0.0/12,10.97.0.0/16"]).unwrap_err();
        assert!(
            error.starts_with("--service-cidr 10.97.0.0/16 overlaps --service-cidr 10.96.0.0/12"),
            "{error}"
        );
        let error = parse(&["--folder", "/a", "--kubeconfig", "/b"]).unwrap_err();
        assert!(
            error.contains("--folder <DIR>") && error.contains("--kubeconfig <FILE>"),
            "{error}"
        );
    }

    #[test]
    fn the_manual_has_every_setting() {
        let manual = include_str!("../../../docs/settings.md");
        for argument in Settings::command().get_arguments() {
            let Some(flag) = argument.get_long().filter(|flag| !["help", "version"].contains(flag)) else {
                continue;
            };
            let start = format!("| `--{flag}` | ");
            let line = manual.lines().find(|line| line.starts_with(&start));
            let line = line.unwrap_or_else(|| panic!("docs/settings.md has no --{flag}"));
            let variable = argument.get_env().unwrap().to_str().unwrap();
            assert!(line.contains(&format!("| `{variable}` |")), "{variable}: {line}");
            let defaults = argument.get_default_values().iter();
            let defaults: Vec<_> = defaults
                .map(|default| format!("`{}`", default.to_str().unwrap()))
                .collect();
            if !defaults.is_empty() {
                let told = format!("| {} |", defaults.join(", "));
                assert!(line.contains(&told), "{told}: {line}");
            }
        }
    }

    #[test]
    fn the_given_name_is_the_nodes() {
        assert_eq!(
            parse(&["--node-name", "n1.example"]).unwrap().node_name().unwrap(),
            "n1.example"
        );
    }
}
