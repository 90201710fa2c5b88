//! What others have on this node that comes into netpath's way: another network's configuration, programs, rules, devices,
//! routes and addresses. It is found and told, with what to do; nothing of it is ever changed.

mod conflists;
mod devices;
mod hooks;
mod owners;
mod rules;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use ipnet::IpNet;
use tracing::debug;

use crate::datapath::pins::Pins;
use crate::net::Netlink;
use crate::report::Reason;

/// Where to look, and what is netpath's there.
pub struct Scene<'a> {
    /// The container runtime's folder.
    pub cni_conf_dir: &'a Path,
    /// The name of netpath's file in it.
    pub conflist_name: &'a str,
    /// netpath's programs.
    pub pins: &'a Pins,
    /// The device that leads out of the node, if it is known.
    pub uplink: Option<&'a str>,
    /// The cgroup whose sockets netpath serves, if there is one.
    pub cgroup: Option<&'a Path>,
    /// netpath's port for VXLAN.
    pub vxlan_port: u16,
    /// All pod subnets of the cluster.
    pub pod_subnets: BTreeSet<IpNet>,
}

/// Something of others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// Another network's configuration.
    Network {
        /// The file.
        file: String,
        /// What it calls its network, where that can be read.
        network: Option<String>,
        /// netpath's file.
        ours: String,
        /// Whether the runtime takes it instead of netpath's.
        wins: bool,
    },
    /// A program on a hook.
    Program {
        /// The hook, with its device or cgroup.
        hook: String,
        /// The program's name, and its number.
        program: String,
    },
    /// Chains in the packet filter.
    Rules {
        /// Whose they are.
        owner: &'static str,
        /// Some of them, each with its table.
        chains: Vec<String>,
        /// How many there are.
        count: usize,
    },
    /// Devices of another network.
    Devices {
        /// Whose they are.
        owner: &'static str,
        /// Some of them.
        names: Vec<String>,
        /// How many there are.
        count: usize,
    },
    /// A device with netpath's VXLAN port.
    VxlanPort {
        /// The device.
        device: String,
        /// The port.
        port: u16,
    },
    /// A route to pods.
    Route {
        /// Where it leads to, by which way.
        route: String,
    },
    /// An address of a pod subnet.
    Address {
        /// The address and its prefix.
        address: IpNet,
        /// Its device.
        device: String,
    },
}

impl Finding {
    /// Why an Event tells of it.
    pub fn reason(&self) -> Reason {
        match self {
            Finding::Network { .. } => Reason::SecondNetwork,
            Finding::Program { .. } => Reason::ForeignProgram,
            Finding::Rules { .. } => Reason::ForeignRules,
            Finding::Devices { .. } | Finding::VxlanPort { .. } => Reason::ForeignDevice,
            Finding::Route { .. } => Reason::ForeignRoute,
            Finding::Address { .. } => Reason::ForeignAddress,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Network {
                file,
                network,
                ours,
                wins,
            } => {
                let network = match network {
                    Some(name) => format!("network {name:?}"),
                    None => "another network".to_owned(),
                };
                match wins {
                    true => write!(
                        f,
                        "{file} configures {network} and sorts before {ours}, so that new pods do not get netpath: remove \
                         it, or give netpath an earlier name with --conflist-name (a meta plugin that hands on to netpath \
                         may stay)"
                    ),
                    false => write!(
                        f,
                        "{file} configures {network}; the runtime takes {ours} before it, but would fall back to it: remove \
                         it once no pod of that network is left"
                    ),
                }
            }
            Finding::Program { hook, program } => write!(
                f,
                "program {program} is on {hook} beside netpath's and may take its packets: if it is a leftover, remove it \
                 (`bpftool net`, `bpftool cgroup tree` and `tc filter` show it)"
            ),
            Finding::Rules { owner, chains, count } => write!(
                f,
                "rules of {owner} are in the packet filter ({}), beside netpath: stop it on this node and remove them ({})",
                some(chains, *count),
                owners::cleanup(owner)
            ),
            Finding::Devices { owner, names, count } => write!(
                f,
                "{} {} of {owner}: uninstall it on this node, then delete what it left with `ip link delete`, or start the \
                 node again",
                if *count == 1 {
                    "there is device"
                } else {
                    "there are devices"
                },
                some(names, *count)
            ),
            Finding::VxlanPort { device, port } => write!(
                f,
                "device {device} has UDP port {port}, which netpath's tunnel needs: delete it if it is a leftover, or choose \
                 another port on all nodes with --vxlan-port"
            ),
            Finding::Route { route } => write!(
                f,
                "route {route} leads to pods and is not netpath's: delete it with `ip route del`, or stop the program that \
                 sets it"
            ),
            Finding::Address { address, device } => write!(
                f,
                "device {device} has {address}, which is of a pod subnet: take it off (`ip address del {address} dev \
                 {device}`), or give the cluster other pod subnets"
            ),
        }
    }
}

/// How many names of a kind a sentence holds.
const NAMED: usize = 4;

/// Some names of so many, as a sentence has them.
pub fn some(names: &[String], count: usize) -> String {
    let more = match count.saturating_sub(names.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", names.join(", "))
}

/// Looks everywhere. Where it cannot, nothing is found.
pub async fn look(netlink: &Netlink, scene: &Scene<'_>) -> BTreeSet<Finding> {
    let mut findings = BTreeSet::new();
    findings.extend(told("the runtime's folder", conflists::find(scene)));
    findings.extend(told("the packet filter", rules::find()));
    findings.extend(told("devices", devices::find(netlink, scene).await));
    findings.extend(hooks::find(netlink, scene).await);
    findings
}

/// What was found; that nothing could be looked at is for the curious alone, since netpath itself needs none of it.
fn told<T: Default, E: fmt::Display>(what: &str, result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| {
        debug!(%error, "cannot look for what others have in {what}");
        T::default()
    })
}
