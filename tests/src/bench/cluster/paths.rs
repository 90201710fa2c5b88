//! RR and CRR along the paths of a cluster, beside a bare veth pair in the same run.

use std::net::SocketAddrV4;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Service;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use super::{
    Row,
    services::{address_of, node_port_of, responds},
    site::{Site, object},
};
use crate::bench::{
    arms::BARE,
    measure::{self, Arm, Figure, Group},
    rivals,
    workload::{Ends, PORT, Workload},
};

const WORKLOADS: [Workload; 2] = [Workload::Rr, Workload::Crr];

/// A path: what it is called, the pod at its end, and how that one is reached.
struct Path {
    name: &'static str,
    near: bool,
    reach: Reach,
}

/// How a pod is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// By its own address, from a pod.
    Pod,
    /// Through a ClusterIP, from a pod.
    ClusterIp,
    /// Through a NodePort of the first node, from outside.
    NodePort,
}

const PATHS: [Path; 6] = [
    Path {
        name: "pod on the same node",
        near: true,
        reach: Reach::Pod,
    },
    Path {
        name: "pod on another node",
        near: false,
        reach: Reach::Pod,
    },
    Path {
        name: "ClusterIP, pod on the same node",
        near: true,
        reach: Reach::ClusterIp,
    },
    Path {
        name: "ClusterIP, pod on another node",
        near: false,
        reach: Reach::ClusterIp,
    },
    Path {
        name: "NodePort from outside, pod on that node",
        near: true,
        reach: Reach::NodePort,
    },
    Path {
        name: "NodePort from outside, pod on another node",
        near: false,
        reach: Reach::NodePort,
    },
];

/// Measures all paths.
///
/// # Errors
/// As [`super::measure`].
pub fn measure(site: &Site, rounds: usize, services: usize) -> Result<Vec<Row>> {
    let bare = rivals::bare(rivals::pod)?;
    let target = (bare.address, PORT).into();
    let ends = Ends::open(&bare.client, &bare.server, PORT, target).context(BARE)?;
    let mut arms = vec![arm(BARE, Group::SameNode, ends)];
    // Several paths lead to one pod: a port for each.
    for (port, path) in (PORT + 1..).zip(&PATHS) {
        arms.push(path.open(site, port).with_context(|| path.name.to_owned())?);
    }
    let figures = measure::measure(&mut arms, &WORKLOADS, rounds);
    let unreachable: Vec<_> = arms.drain(..).map(|arm| (arm.name, arm.ends.unreachable)).collect();
    for path in PATHS.iter().filter(|path| path.reach != Reach::Pod) {
        let deletion = async {
            site.api::<Service>()
                .delete(&path.service_name(), &DeleteParams::default())
                .await?;
            Ok(())
        };
        site.ask(deletion)?;
    }
    rows(&figures?, &unreachable, services)
}

impl Path {
    fn open(&self, site: &Site, port: u16) -> Result<Arm> {
        let seat = if self.near { &site.near } else { &site.far };
        let (client, target) = match self.reach {
            Reach::Pod => (&site.asking.namespace, SocketAddrV4::new(seat.address, port)),
            Reach::ClusterIp => {
                let service = self.serve(site, port, "ClusterIP")?;
                (&site.asking.namespace, SocketAddrV4::new(address_of(&service)?, 80))
            }
            Reach::NodePort => {
                let service = self.serve(site, port, "NodePort")?;
                let target = SocketAddrV4::new(site.node_address, node_port_of(&service)?);
                (&site.outside, target)
            }
        };
        responds(client, target, &seat.namespace, port)?;
        let group = match (self.reach, self.near) {
            (Reach::Pod, true) => Group::SameNode,
            (Reach::Pod, false) => Group::AcrossNodes,
            (Reach::ClusterIp | Reach::NodePort, _) => Group::Service,
        };
        let ends = Ends::open(client, &seat.namespace, port, target.into())?;
        Ok(arm(self.name, group, ends))
    }

    /// A service for the pod's port.
    fn serve(&self, site: &Site, port: u16, kind: &str) -> Result<Service> {
        let service = object::<Service>(json!({
            "metadata": { "name": self.service_name() },
            "spec": {
                "type": kind,
                "selector": { "bench": self.place() },
                "ports": [{ "port": 80, "targetPort": port }],
            },
        }))?;
        site.ask(async { Ok(site.api::<Service>().create(&PostParams::default(), &service).await?) })
    }

    fn service_name(&self) -> String {
        let kind = if self.reach == Reach::NodePort {
            "port"
        } else {
            "address"
        };
        format!("{}-{kind}", self.place())
    }

    /// The name of the pod.
    const fn place(&self) -> &'static str {
        if self.near { "near" } else { "far" }
    }
}

fn arm(name: &'static str, group: Group, ends: Ends) -> Arm {
    Arm {
        name,
        group,
        ends,
        nodes: Vec::new(),
        links: Vec::new(),
    }
}

/// Every path's time over the bare pair's.
fn rows(figures: &[Figure], unreachable: &[(&str, usize)], services: usize) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let refused = |arm: &str, workload: Workload| match unreachable.iter().find(|(name, _)| *name == arm) {
        Some((_, count @ 1..)) if workload == Workload::Crr => {
            format!("; {count} connections were refused as to a network that is unreachable, and tried again")
        }
        _ => String::new(),
    };
    for workload in WORKLOADS {
        let of = |arm: &str| {
            figures
                .iter()
                .find(|figure| figure.arm == arm && figure.workload == workload)
        };
        let bare = of(BARE).context("the bare pair was not measured")?;
        let others = figures
            .iter()
            .filter(|figure| figure.workload == workload && figure.arm != BARE);
        rows.extend(others.map(|figure| Row {
            what: format!("{}, {}, {services} services", workload.name(), figure.arm),
            figure: figure.min / bare.min,
            unit: "x bare veth".into(),
            detail: format!(
                "{:.1} us, the middle batch {:.1}{}",
                figure.min / 1e3,
                figure.median / 1e3,
                refused(figure.arm, workload)
            ),
        }));
    }
    Ok(rows)
}
