//! What netpath is to reach, held against what was measured: ratios of minima of one run, so that the machine's own speed
//! drops out.

use serde::Serialize;

use super::Report;
use crate::bench::{arms, control, workload::Workload};

/// One aim.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Target {
    /// What is compared.
    pub what: String,
    /// The bound.
    pub wanted: Bound,
    /// What was measured; absent where an arm it needs was not run.
    pub measured: Option<f64>,
    /// Whether the bound holds; absent likewise.
    pub reached: Option<bool>,
    /// The same ratio with the floor's programs, or with nothing, in netpath's place: what the machine leaves to be had. Absent
    /// where no floor stands under the figure.
    pub floor: Option<f64>,
}

/// Which way a bound goes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// No less than this.
    AtLeast(f64),
    /// No more than this.
    AtMost(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

/// Every aim, in the order of the report.
pub fn judge(report: &Report) -> Vec<Target> {
    use Workload::{Crr, Rr, Udp};
    // How many times as fast as the rival netpath is: the rival's time over its own.
    let speed = |own: &str, rival: &str, workload| {
        Some(report.figure(rival, workload)?.min / report.figure(own, workload)?.min)
    };
    let control = |what: &str| {
        report
            .control
            .iter()
            .find(|entry| entry.what == what)
            .map(|entry| entry.value)
    };
    let beside_floor = |own: &str, rival: &str, workload| {
        let floor = floor_of(own).and_then(|floor| speed(floor, rival, workload));
        (speed(own, rival, workload), floor)
    };
    // What IPv6 takes longer than IPv4, and the kernel's own share of that on a bare veth pair.
    let beside_bare = |four: &str, six: &str| (speed(four, six, Rr), speed(arms::BARE, arms::BARE_6, Rr));
    let aims = [
        (
            "same node, RR: speed against the bridge with kube-proxy",
            Bound::AtLeast(1.5),
            beside_floor(arms::NETPATH, arms::BRIDGE_CHAINS, Rr),
        ),
        (
            "same node, RR: speed against the bare veth pair",
            Bound::AtLeast(0.88),
            beside_floor(arms::NETPATH, arms::BARE, Rr),
        ),
        (
            "direct, RR: speed against the bare veth pair",
            Bound::AtLeast(0.83),
            beside_floor(arms::NETPATH_DIRECT, arms::BARE, Rr),
        ),
        (
            "tunnel, RR: speed against flannel vxlan with kube-proxy",
            Bound::AtLeast(2.4),
            beside_floor(arms::NETPATH_TUNNEL, arms::VXLAN_CHAINS, Rr),
        ),
        (
            "tunnel, CRR: speed against flannel vxlan with kube-proxy",
            Bound::AtLeast(2.8),
            beside_floor(arms::NETPATH_TUNNEL, arms::VXLAN_CHAINS, Crr),
        ),
        (
            "tunnel, RR: time against direct",
            Bound::AtMost(1.12),
            (speed(arms::NETPATH_DIRECT, arms::NETPATH_TUNNEL, Rr), None),
        ),
        (
            "ClusterIP on the same node, RR: time against the pod's own address",
            Bound::AtMost(1.05),
            (speed(arms::NETPATH, arms::NETPATH_SERVICE, Rr), None),
        ),
        (
            "ClusterIP on another node, RR: time against the pod's own address",
            Bound::AtMost(1.05),
            (speed(arms::NETPATH_DIRECT, arms::NETPATH_SERVICE_DIRECT, Rr), None),
        ),
        (
            "ClusterIP among 45,000 services, RR: time against among 10",
            Bound::AtMost(1.05),
            (
                speed(arms::NETPATH_SERVICE_DIRECT, arms::NETPATH_SERVICE_MANY, Rr),
                None,
            ),
        ),
        (
            "ClusterIP from a process of a node, RR: time against the pod's own address",
            Bound::AtMost(1.03),
            (speed(arms::NETPATH_HOST, arms::NETPATH_HOST_SERVICE, Rr), None),
        ),
        (
            "ClusterIP on the same node, CRR: time against the pod's own address",
            Bound::AtMost(1.05),
            (speed(arms::NETPATH, arms::NETPATH_SERVICE, Crr), None),
        ),
        (
            "ClusterIP on another node, CRR: time against the pod's own address",
            Bound::AtMost(1.05),
            (speed(arms::NETPATH_DIRECT, arms::NETPATH_SERVICE_DIRECT, Crr), None),
        ),
        (
            "ClusterIP among 45,000 services, CRR: time against among 10",
            Bound::AtMost(1.05),
            (
                speed(arms::NETPATH_SERVICE_DIRECT, arms::NETPATH_SERVICE_MANY, Crr),
                None,
            ),
        ),
        (
            "ClusterIP from a process of a node, CRR: time against the pod's own address",
            Bound::AtMost(1.03),
            (speed(arms::NETPATH_HOST, arms::NETPATH_HOST_SERVICE, Crr), None),
        ),
        (
            "NodePort, pod elsewhere, UDP: speed against kube-proxy iptables",
            Bound::AtLeast(1.4),
            (speed(arms::NETPATH_NODE_PORT, arms::NODE_PORT_CHAINS, Udp), None),
        ),
        (
            "NodePort, pod elsewhere, UDP: speed against kube-proxy nftables",
            Bound::AtLeast(1.15),
            (speed(arms::NETPATH_NODE_PORT, arms::NODE_PORT_FLAT, Udp), None),
        ),
        (
            "same node, IPv6, RR: time against IPv4",
            Bound::AtMost(1.05),
            beside_bare(arms::NETPATH, arms::NETPATH_6),
        ),
        (
            "direct, IPv6, RR: time against IPv4",
            Bound::AtMost(1.05),
            beside_bare(arms::NETPATH_DIRECT, arms::NETPATH_DIRECT_6),
        ),
        (
            "tunnel, IPv6, RR: time against IPv4",
            Bound::AtMost(1.05),
            beside_bare(arms::NETPATH_TUNNEL, arms::NETPATH_TUNNEL_6),
        ),
        (
            "ClusterIP on another node, IPv6, RR: time against IPv4",
            Bound::AtMost(1.05),
            beside_bare(arms::NETPATH_SERVICE_DIRECT, arms::NETPATH_SERVICE_6),
        ),
        (
            "10,000 services programmed, seconds",
            Bound::AtMost(0.5),
            (control(control::APPLY), None),
        ),
        (
            "45,000 services programmed, seconds",
            Bound::AtMost(2.0),
            (control(control::APPLY_MOST), None),
        ),
        (
            "an endpoint of 45,000 services goes, milliseconds",
            Bound::AtMost(5.0),
            (control(control::CHANGE), None),
        ),
        (
            "agent's memory with 1,000 services, MiB",
            Bound::AtMost(25.0),
            (control(control::MEMORY), None),
        ),
        (
            "agent's memory with 30,000 services of 4 endpoints, MiB",
            Bound::AtMost(100.0),
            (control(control::MEMORY_MOST), None),
        ),
    ];
    aims.into_iter()
        .map(|(what, wanted, (measured, floor))| Target {
            what: what.to_owned(),
            wanted,
            measured,
            reached: measured.map(|value| wanted.holds(value)),
            floor,
        })
        .collect()
}

/// The floor under one of netpath's arms.
fn floor_of(own: &str) -> Option<&'static str> {
    match own {
        arms::NETPATH => Some(arms::FLOOR),
        arms::NETPATH_DIRECT => Some(arms::FLOOR_DIRECT),
        arms::NETPATH_TUNNEL => Some(arms::FLOOR_TUNNEL),
        _ => None,
    }
}
