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

impl Target {
    fn new(what: String, wanted: Bound, measured: Option<f64>, floor: Option<f64>) -> Self {
        Self {
            what,
            wanted,
            measured,
            reached: measured.map(|value| wanted.holds(value)),
            floor,
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
    let row = |path: &str, workload: Workload, what: &str, than: &str| {
        format!(
            "{path}, {}: {what} against {than}",
            workload.name().trim_start_matches("TCP_")
        )
    };
    let faster = |bound, path: &str, workload, than: &str, (own, rival)| {
        let floor = floor_of(own).and_then(|floor| speed(floor, rival, workload));
        let what = row(path, workload, "speed", than);
        Target::new(what, Bound::AtLeast(bound), speed(own, rival, workload), floor)
    };
    let slower = |bound, path: &str, workload, than: &str, (own, other)| {
        let what = row(path, workload, "time", than);
        Target::new(what, Bound::AtMost(bound), speed(other, own, workload), None)
    };
    let services = |workload| {
        let own = "the pod's own address";
        [
            (1.05, "on the same node", own, (arms::NETPATH_SERVICE, arms::NETPATH)),
            (
                1.05,
                "on another node",
                own,
                (arms::NETPATH_SERVICE_DIRECT, arms::NETPATH_DIRECT),
            ),
            (
                1.05,
                "among 45,000 services",
                "among 10",
                (arms::NETPATH_SERVICE_MANY, arms::NETPATH_SERVICE_DIRECT),
            ),
            (
                1.03,
                "from a process of a node",
                own,
                (arms::NETPATH_HOST_SERVICE, arms::NETPATH_HOST),
            ),
        ]
        .map(|(bound, path, than, both)| slower(bound, &format!("ClusterIP {path}"), workload, than, both))
    };
    // What IPv6 takes longer than IPv4, and the kernel's own share of that on a bare veth pair.
    let over_ipv6 = |path: &str, four, six| {
        let what = row(&format!("{path}, IPv6"), Rr, "time", "IPv4");
        let bare = speed(arms::BARE, arms::BARE_6, Rr);
        Target::new(what, Bound::AtMost(1.05), speed(four, six, Rr), bare)
    };
    let takes = |bound, what: &str, entry: &str| {
        let found = report.control.iter().find(|known| known.what == entry);
        Target::new(
            what.to_owned(),
            Bound::AtMost(bound),
            found.map(|found| found.value),
            None,
        )
    };
    let (bridge, bare) = ("the bridge with kube-proxy", "the bare veth pair");
    let (tunnel, flannel) = (
        (arms::NETPATH_TUNNEL, arms::VXLAN_CHAINS),
        "flannel vxlan with kube-proxy",
    );
    let node_port = "NodePort, pod elsewhere";
    let pods = [
        faster(1.5, "same node", Rr, bridge, (arms::NETPATH, arms::BRIDGE_CHAINS)),
        faster(0.88, "same node", Rr, bare, (arms::NETPATH, arms::BARE)),
        faster(0.83, "direct", Rr, bare, (arms::NETPATH_DIRECT, arms::BARE)),
        faster(2.4, "tunnel", Rr, flannel, tunnel),
        faster(2.8, "tunnel", Crr, flannel, tunnel),
        slower(
            1.12,
            "tunnel",
            Rr,
            "direct",
            (arms::NETPATH_TUNNEL, arms::NETPATH_DIRECT),
        ),
    ];
    let others = [
        faster(
            1.4,
            node_port,
            Udp,
            "kube-proxy iptables",
            (arms::NETPATH_NODE_PORT, arms::NODE_PORT_CHAINS),
        ),
        faster(
            1.15,
            node_port,
            Udp,
            "kube-proxy nftables",
            (arms::NETPATH_NODE_PORT, arms::NODE_PORT_FLAT),
        ),
        over_ipv6("same node", arms::NETPATH, arms::NETPATH_6),
        over_ipv6("direct", arms::NETPATH_DIRECT, arms::NETPATH_DIRECT_6),
        over_ipv6("tunnel", arms::NETPATH_TUNNEL, arms::NETPATH_TUNNEL_6),
        over_ipv6(
            "ClusterIP on another node",
            arms::NETPATH_SERVICE_DIRECT,
            arms::NETPATH_SERVICE_6,
        ),
        takes(0.5, "10,000 services programmed, seconds", control::APPLY),
        takes(2.0, "45,000 services programmed, seconds", control::APPLY_MOST),
        takes(
            5.0,
            "an endpoint of 45,000 services goes, milliseconds",
            control::CHANGE,
        ),
        takes(25.0, "agent's memory with 1,000 services, MiB", control::MEMORY),
        takes(
            100.0,
            "agent's memory with 30,000 services of 4 endpoints, MiB",
            control::MEMORY_MOST,
        ),
    ];
    [&pods[..], &services(Rr), &services(Crr), &others].concat()
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
