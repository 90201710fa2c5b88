//! What a network's daemons take on a node: all processes of the known names in its network namespace.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::unistd::{SysconfVar, sysconf};

use super::site::Node;
use crate::bench::process;

/// netpath's agent; flannel's and kube-proxy.
const NAMES: [&str; 3] = ["netpath-agent", "flanneld", "kube-proxy"];
/// Where a process's times stand in `/proc/PID/stat` behind its name, which may hold anything: fields 14 and 15 of proc(5).
const TIMES: std::ops::Range<usize> = 11..13;

/// The daemons of a node.
pub struct Daemons {
    node: Node,
}

impl Daemons {
    /// Those of this node.
    pub fn new(node: &Node) -> Self {
        Self { node: node.clone() }
    }

    /// The processor time that they have taken since they started.
    ///
    /// # Errors
    /// There is none, or `/proc` cannot be read.
    pub fn processor_time(&self) -> Result<Duration> {
        let ticks_a_second = sysconf(SysconfVar::CLK_TCK)?.context("the kernel tells no clock tick")?;
        let mut ticks = 0;
        for id in self.processes()? {
            let path = format!("/proc/{id}/stat");
            let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
            let (_, rest) = text
                .rsplit_once(") ")
                .with_context(|| format!("{path} names no process"))?;
            let fields: Vec<&str> = rest.split(' ').collect();
            let times = fields.get(TIMES).with_context(|| format!("{path} ends early"))?;
            for time in times {
                ticks += time.parse::<u64>().with_context(|| format!("{path}: {time:?}"))?;
            }
        }
        Ok(Duration::from_secs_f64(ticks as f64 / ticks_a_second as f64))
    }

    /// The memory that is theirs, in MiB.
    ///
    /// # Errors
    /// There is none, or `/proc` cannot be read.
    pub fn memory(&self) -> Result<f64> {
        self.processes()?
            .into_iter()
            .map(|id| process::mebibytes(id, "VmRSS"))
            .sum()
    }

    fn processes(&self) -> Result<Vec<u32>> {
        let namespace = |id: u32| fs::read_link(format!("/proc/{id}/ns/net")).ok();
        let here = namespace(self.node.process)
            .with_context(|| format!("process {} of node {} has ended", self.node.process, self.node.name))?;
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").context("listing /proc")? {
            let path: PathBuf = entry?.path();
            let id = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            // Others may end meanwhile.
            let (Some(id), Ok(name)) = (id, fs::read_to_string(path.join("comm"))) else {
                continue;
            };
            if NAMES.contains(&name.trim_end()) && namespace(id).as_ref() == Some(&here) {
                found.push(id);
            }
        }
        ensure!(!found.is_empty(), "none of {NAMES:?} runs on node {}", self.node.name);
        Ok(found)
    }
}
