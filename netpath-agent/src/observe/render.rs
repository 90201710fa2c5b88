//! A node's state for a person: what is wrong first, then what there is.

use std::{
    fmt::{self, Display, Formatter},
    net::IpAddr,
};

use super::{
    agent::Agent,
    state::{ServiceLine, Status},
};

/// Rows of a table that are shown; the rest is counted.
const ROWS: usize = 40;
/// Backends of a service that are shown.
const BACKENDS: usize = 4;
/// Longer lines are broken between words, in characters.
const WIDTH: usize = 100;

impl Display for Status {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [] => writeln!(f, "No problems.")?,
            problems => {
                writeln!(f, "Problems:")?;
                for problem in problems {
                    writeln!(f, "  {}", broken(problem, 2, 4))?;
                }
            }
        }
        writeln!(f)?;
        let agent = match &self.agent {
            Agent::Ready(_) => "ready",
            Agent::NotReady { .. } => "not ready",
            Agent::Unreachable(_) => "no answer",
        };
        fact(f, "agent", &format!("{agent} ({})", self.agent_address))?;
        if let Some(source) = &self.source {
            fact(f, "objects", source)?;
        }
        fact(f, "pins", &self.bpf_root.display().to_string())?;
        if let Some(node) = &self.node {
            let (first, last) = node.nat_ports;
            fact(
                f,
                "node",
                &format!("{} on {}, MTU {}", list(&node.addresses), node.uplink, node.uplink_mtu),
            )?;
            fact(
                f,
                "pods",
                &format!(
                    "gateway {} on {}, MTU {}",
                    list(&node.gateways),
                    node.bridge,
                    node.pod_mtu
                ),
            )?;
            fact(
                f,
                "tunnel",
                &format!("VXLAN {} on UDP port {}, {}", node.vni, node.vxlan_port, node.overlay),
            )?;
            fact(f, "source NAT", &format!("ports {first} to {last}"))?;
        }
        if !self.host_addresses.is_empty() {
            fact(f, "own", &list(&self.host_addresses))?;
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
            let shown = |address: Option<IpAddr>| address.map_or("-".to_owned(), |address| address.to_string());
            [
                route.subnet.clone(),
                route.via.clone(),
                shown(route.node),
                shown(route.next_hop),
            ]
        });
        table(f, "Routes", ["SUBNET", "WAY", "NODE", "NEXT HOP"], routes.collect())?;

        let services = self.services.iter().map(|service| {
            let name = format!("{}/{}", service.frontend, service.protocol);
            [name, kind(service), answers(service)]
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

        for (title, dropped, expected) in [
            ("Dropped", true, false),
            ("Dropped, as on every node", true, true),
            ("Forwarded", false, true),
        ] {
            let verdicts = self.verdicts.iter();
            let verdicts = verdicts.filter(|verdict| (verdict.dropped, verdict.expected) == (dropped, expected));
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

fn list(addresses: &[IpAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(" ")
}

fn fact(f: &mut Formatter<'_>, name: &str, text: &str) -> fmt::Result {
    writeln!(f, "{name:<12}{}", broken(text, 12, 12))
}

/// A text that begins in the column `start`, its words broken into lines of which the others begin in the column `indent`.
fn broken(text: &str, start: usize, indent: usize) -> String {
    let mut lines = String::new();
    let mut column = start;
    for (number, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if number > 0 && column + 1 + length > WIDTH {
            lines.push('\n');
            lines.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else if number > 0 {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += length;
    }
    lines
}

fn kind(service: &ServiceLine) -> String {
    let kinds = [
        (service.node_port, "NodePort"),
        (service.host_port, "hostPort"),
        (service.load_balancer, "LoadBalancer"),
        (service.external_ip, "externalIP"),
        (service.relayed, "relayed NodePort"),
    ];
    let kind = kinds.iter().find(|(is, _)| *is).map_or("", |(_, name)| *name);
    let affinity = service.affinity_timeout.map(|seconds| format!("sticky {seconds} s"));
    let restricted = service.restricted.then(|| "for some".to_owned());
    let maglev = service.maglev.then(|| "Maglev".to_owned());
    let words = [Some(kind.to_owned()), affinity, restricted, maglev]
        .into_iter()
        .flatten();
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn answers(service: &ServiceLine) -> String {
    let inside = backends(&service.backends, service.none_here);
    match &service.outside {
        Some(outside) => format!("{inside}; from outside {}", backends(outside, service.none_here)),
        None => inside,
    }
}

fn backends(all: &[String], none_here: bool) -> String {
    match all.len() {
        0 if none_here => "none here: dropped".to_owned(),
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
    // The last column takes what room there is.
    let last: usize = 2 + widths.iter().take(N - 1).map(|width| width + 2).sum::<usize>();
    let mut line = |cells: [&str; N]| {
        let (cell, padded) = match cells.split_last() {
            Some((cell, others)) => (*cell, others),
            None => return Ok(()),
        };
        let padded: String = padded
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}  "))
            .collect();
        writeln!(f, "{}", format!("  {padded}{}", broken(cell, last, last)).trim_end())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::counters::Verdict;

    fn verdict(reason: netpath_common::reason::Reason, packets: u64) -> Verdict {
        Verdict {
            hook: "from_overlay",
            reason: reason.name(),
            text: reason.text(),
            dropped: reason.is_drop(),
            expected: reason.is_expected(),
            packets,
            bytes: u64::MAX,
        }
    }

    #[test]
    fn no_line_is_longer_than_a_window_and_noise_stands_apart() {
        use netpath_common::reason::Reason;
        let status = Status {
            bpf_root: "/sys/fs/bpf/netpath".into(),
            agent_address: std::net::SocketAddr::from(([127, 0, 0, 1], 9878)),
            agent: Agent::Ready(Vec::new()),
            source: None,
            node: None,
            host_addresses: vec![IpAddr::from([192, 168, 100, 100]); 9],
            pods: Vec::new(),
            routes: Vec::new(),
            services: vec![ServiceLine {
                frontend: "192.168.100.100:30000".to_owned(),
                protocol: "tcp".to_owned(),
                node_port: true,
                host_port: false,
                load_balancer: false,
                external_ip: false,
                relayed: false,
                maglev: false,
                affinity_timeout: Some(86_400),
                backends: vec!["10.244.100.100:30000".to_owned(); 9],
                outside: Some(Vec::new()),
                none_here: true,
                restricted: true,
            }],
            maps: Vec::new(),
            links: Vec::new(),
            verdicts: Reason::ALL.iter().map(|reason| verdict(*reason, u64::MAX)).collect(),
            problems: vec!["word ".repeat(50).trim_end().to_owned()],
        };
        let text = status.to_string();
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line:?}");
            assert_eq!(line, line.trim_end());
        }
        let section = |title: &str| {
            let (_, rest) = text.split_once(&format!("\n{title} (")).expect("a title");
            rest.split("\n\n").next().unwrap_or_default().to_owned()
        };
        let noise = section("Dropped, as on every node");
        assert!(
            noise.starts_with("1)\n") && noise.contains("  ipv6_noise: IPv6 to a group"),
            "{noise}"
        );
        assert!(!section("Dropped").contains("ipv6_noise") && !section("Forwarded").contains("ipv6_noise"));
    }
}
