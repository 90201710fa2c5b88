//! A node's state, put together from the kernel's maps and links, with what is wrong.

use std::net::SocketAddr;

use super::{
    agent::{self, Agent},
    read,
    state::Status,
};
use crate::{
    datapath::{error::Result, pins::Pins, tables},
    family::{V4, V6},
};

/// Looks at a node. What cannot be read is a problem, and the rest is told.
pub fn look(pins: &Pins, agent_address: SocketAddr) -> Status {
    let mut status = Status {
        bpf_root: pins.root().to_owned(),
        agent_address,
        agent: agent::ask(agent_address),
        source: agent::source(agent_address),
        node: None,
        host_addresses: Vec::new(),
        pods: Vec::new(),
        routes: Vec::new(),
        services: Vec::new(),
        maps: Vec::new(),
        links: Vec::new(),
        verdicts: Vec::new(),
        problems: Vec::new(),
    };
    match &status.agent {
        Agent::Ready(lines) => status.problems.extend(lines.clone()),
        Agent::NotReady { missing, remarks } => {
            let lines = missing.iter().map(|line| format!("netpath-agent is not ready: {line}"));
            status.problems.extend(lines.chain(remarks.iter().cloned()));
        }
        Agent::Unreachable(reason) => status.problems.push(format!(
            "netpath-agent does not answer at {agent_address}: {reason}; pods go on as they are: start the agent, or name \
             its --health-address with --agent"
        )),
    }
    match tables::config(pins).and_then(|config| config.get()) {
        // One sentence for all that follows from it.
        Err(error) => {
            status.problems.push(error.to_string());
            return status;
        }
        Ok(config) => read::configuration(&config, &mut status),
    }
    let parts: [fn(&Pins, &mut Status) -> Result<()>; 9] = [
        read::endpoints::<V4>,
        read::endpoints::<V6>,
        read::routes::<V4>,
        read::routes::<V6>,
        read::services::<V4>,
        read::services::<V6>,
        read::maps,
        read::links,
        read::verdicts,
    ];
    for part in parts {
        if let Err(error) = part(pins, &mut status) {
            status.problems.push(error.to_string());
        }
    }
    status
}
