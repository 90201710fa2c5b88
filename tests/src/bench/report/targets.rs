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
    use Workload::{Crr, Rr};
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
    let aims = [
        (
            "same node, RR: speed against the bridge with kube-proxy",
            Bound::AtLeast(1.5),
            speed(arms::NETPATH, arms::BRIDGE_CHAINS, Rr),
        ),
        (
            "same node, RR: speed against the bare veth pair",
            Bound::AtLeast(0.88),
            speed(arms::NETPATH, arms::BARE, Rr),
        ),
        (
            "direct, RR: speed against the bare veth pair",
            Bound::AtLeast(0.83),
            speed(arms::NETPATH_DIRECT, arms::BARE, Rr),
        ),
        (
            "tunnel, RR: speed against flannel vxlan with kube-proxy",
            Bound::AtLeast(2.4),
            speed(arms::NETPATH_TUNNEL, arms::VXLAN_CHAINS, Rr),
        ),
        (
            "tunnel, CRR: speed against flannel vxlan with kube-proxy",
            Bound::AtLeast(2.8),
            speed(arms::NETPATH_TUNNEL, arms::VXLAN_CHAINS, Crr),
        ),
        (
            "tunnel, RR: time against direct",
            Bound::AtMost(1.12),
            speed(arms::NETPATH_DIRECT, arms::NETPATH_TUNNEL, Rr),
        ),
        (
            "ClusterIP on the same node, CRR: time against the pod's own address",
            Bound::AtMost(1.08),
            speed(arms::NETPATH, arms::NETPATH_SERVICE, Crr),
        ),
        (
            "ClusterIP on another node, CRR: time against the pod's own address",
            Bound::AtMost(1.08),
            speed(arms::NETPATH_DIRECT, arms::NETPATH_SERVICE_DIRECT, Crr),
        ),
        (
            "10,000 services programmed, seconds",
            Bound::AtMost(0.5),
            control(control::APPLY),
        ),
        (
            "agent's memory with 1,000 services, MiB",
            Bound::AtMost(25.0),
            control(control::MEMORY),
        ),
    ];
    aims.into_iter()
        .map(|(what, wanted, measured)| Target {
            what: what.to_owned(),
            wanted,
            measured,
            reached: measured.map(|value| wanted.holds(value)),
        })
        .collect()
}
