//! A node's state for a person: what is wrong first, then what there is.

use std::{
    fmt::{self, Display, Formatter},
    net::Ipv4Addr,
};

use super::{agent::Agent, status::Status};

/// Rows of a table that are shown; the rest is counted.
const ROWS: usize = 40;
/// Backends of a service that are shown.
const BACKENDS: usize = 4;

impl Display for Status {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [] => writeln!(f, "No problems.")?,
            problems => {
                writeln!(f, "Problems:")?;
                for problem in problems {
                    writeln!(f, "  {problem}")?;
                }
            }
        }
        writeln!(f)?;
        let agent = match &self.agent {
            Agent::Ready(_) => "ready",
            Agent::NotReady(_) => "not ready",
            Agent::Unreachable(_) => "no answer",
        };
        fact(f, "agent", &format!("{agent} ({})", self.agent_address))?;
        fact(f, "pins", &self.bpf_root.display().to_string())?;
        if let Some(node) = &self.node {
            let (first, last) = node.nat_ports;
            fact(
                f,
                "node",
                &format!("{} on {}, MTU {}", node.address, node.uplink, node.uplink_mtu),
            )?;
            fact(
                f,
                "pods",
                &format!("gateway {} on {}, MTU {}", node.gateway, node.bridge, node.pod_mtu),
            )?;
            fact(
                f,
                "tunnel",
                &format!("VXLAN {} on UDP port {}, {}", node.vni, node.vxlan_port, node.overlay),
            )?;
            fact(f, "source NAT", &format!("ports {first} to {last}"))?;
        }
        if !self.host_addresses.is_empty() {
            let own: Vec<String> = self.host_addresses.iter().map(ToString::to_string).collect();
            fact(f, "own", &own.join(" "))?;
        }
        self.tables(f)
    }
}

impl Status {
    fn tables(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let pods = self.pods.iter();
        let pods = pods.map(|pod| [pod.address.to_string(), pod.mac.clone(), pod.device.clone()]);
        table(f, "Pods", ["ADDRESS", "MAC", "DEVICE"], pods.collect())?;

        let routes = self.routes.iter().map(|route| {
            let shown = |address: Option<Ipv4Addr>| address.map_or("-".to_owned(), |address| address.to_string());
            [
                route.subnet.clone(),
                route.via.clone(),
                shown(route.node),
                shown(route.next_hop),
            ]
        });
        table(f, "Routes", ["SUBNET", "WAY", "NODE", "NEXT HOP"], routes.collect())?;

        let services = self.services.iter().map(|service| {
            let kind = if service.node_port { "NodePort" } else { "" };
            let name = format!("{}/{}", service.frontend, service.protocol);
            [name, kind.to_owned(), backends(&service.backends)]
        });
        table(f, "Services", ["FRONTEND", "KIND", "BACKENDS"], services.collect())?;

        let links = self.links.iter().map(|link| {
            let state = if link.attached { "attached" } else { "device gone" };
            [link.device.clone(), link.hook.to_owned(), state.to_owned()]
        });
        table(f, "Programs", ["DEVICE", "HOOK", "STATE"], links.collect())?;

        let maps = self.maps.iter().map(|map| {
            let percent = map.entries * 100 / (map.capacity as usize).max(1);
            let fill = format!("{} of {}", map.entries, map.capacity);
            [map.map.to_owned(), fill, format!("{percent} %")]
        });
        table(f, "Maps", ["MAP", "ENTRIES", "FULL"], maps.collect())?;

        for (title, dropped) in [("Dropped", true), ("Forwarded", false)] {
            let verdicts = self.verdicts.iter().filter(|verdict| verdict.dropped == dropped);
            let rows = verdicts.map(|verdict| {
                let reason = format!("{}: {}", verdict.reason, verdict.text);
                [
                    verdict.packets.to_string(),
                    verdict.bytes.to_string(),
                    verdict.hook.to_owned(),
                    reason,
                ]
            });
            table(f, title, ["PACKETS", "BYTES", "HOOK", "REASON"], rows.collect())?;
        }
        Ok(())
    }
}

fn fact(f: &mut Formatter<'_>, name: &str, text: &str) -> fmt::Result {
    writeln!(f, "{name:<12}{text}")
}

fn backends(all: &[String]) -> String {
    match all.len() {
        0 => "none: refused".to_owned(),
        count if count > BACKENDS => format!("{} and {} more", all[..BACKENDS].join(" "), count - BACKENDS),
        _ => all.join(" "),
    }
}

/// A table with its title and how many rows it has; nothing if it has none.
fn table<const N: usize>(f: &mut Formatter<'_>, title: &str, head: [&str; N], rows: Vec<[String; N]>) -> fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{title} ({})", rows.len())?;
    let shown = &rows[..rows.len().min(ROWS)];
    let mut widths = head.map(str::len);
    for row in shown {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut line = |cells: [&str; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        let padded: Vec<String> = padded.collect();
        writeln!(f, "  {}", padded.join("  ").trim_end())
    };
    line(head)?;
    for row in shown {
        line(row.each_ref().map(String::as_str))?;
    }
    match rows.len() - shown.len() {
        0 => Ok(()),
        more => writeln!(f, "  … and {more} more: -o json shows all"),
    }
}
