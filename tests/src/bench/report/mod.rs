//! What a run found, and the three ways it is shown: a table for a person, JSON for a program, a chart for the README.

pub mod chart;
pub mod table;
pub mod targets;
#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::measure::Figure;
use targets::Target;

/// All that one run found.
#[derive(Serialize)]
pub struct Report {
    /// What it ran on.
    pub machine: Machine,
    /// Batches of each arm and operation.
    pub rounds: usize,
    /// The paths.
    pub paths: Vec<Figure>,
    /// The programs.
    pub programs: Vec<Program>,
    /// The control plane.
    pub control: Vec<Control>,
    /// What was to be reached.
    pub targets: Vec<Target>,
}

/// What a run ran on, as far as it says something about the figures.
#[derive(Serialize)]
pub struct Machine {
    /// The kernel's version, without what its builder added.
    pub kernel: String,
    /// The processor's name.
    pub processor: String,
    /// How many CPUs the process may use.
    pub cpus: usize,
    /// Whether the harness itself was optimised; without, its own share of every figure is larger.
    pub release: bool,
}

/// A program's cost on one frame.
#[derive(Serialize)]
pub struct Program {
    /// The hook.
    pub hook: &'static str,
    /// What the frame is.
    pub frame: String,
    /// What the program answered, as the kernel names it.
    pub verdict: String,
    /// Nanoseconds a run.
    pub nanoseconds: f64,
}

/// A figure of the control plane.
#[derive(Clone, Serialize)]
pub struct Control {
    /// What was measured.
    pub what: &'static str,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// How it came about, in few words.
    pub how: String,
}

impl Machine {
    /// Reads what /proc says.
    ///
    /// # Errors
    /// When /proc is not there.
    pub fn read() -> Result<Self> {
        let release =
            std::fs::read_to_string("/proc/sys/kernel/osrelease").context("cannot read the kernel's version")?;
        let kernel = release.split('-').next().unwrap_or_default().trim().to_owned();
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or("unknown", |(_, name)| name.trim())
            .to_owned();
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            kernel,
            processor,
            cpus,
            release: !cfg!(debug_assertions),
        })
    }
}

impl Report {
    /// The figure of an arm, if it was measured.
    pub fn figure(&self, arm: &str, workload: super::workload::Workload) -> Option<&Figure> {
        self.paths
            .iter()
            .find(|figure| figure.arm == arm && figure.workload == workload)
    }

    /// The report as JSON, ending with a line's end.
    ///
    /// # Errors
    /// When a figure is no number.
    pub fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Writes `bench.json` and `bench.svg` into a folder, which is made if need be.
    ///
    /// # Errors
    /// When the folder or a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        for (name, text) in [("bench.json", self.json()?), ("bench.svg", chart::draw(self))] {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            eprintln!("wrote {}", path.display());
        }
        Ok(())
    }
}
