//! Times every arm in short batches, in random order within one run. Minima of such batches are what can be compared on
//! a machine that others use too: an interruption makes a batch longer, never shorter.

use std::{
    os::fd::OwnedFd,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use serde::Serialize;

use super::{
    netns::{Namespace, own_thread},
    progress::Progress,
    workload::{Ends, Workload},
};

/// Where an arm stands in the report, and what it is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Client and server on one node.
    SameNode,
    /// Client and server on two nodes.
    AcrossNodes,
    /// The client speaks to a service's address.
    Service,
    /// The client is a process of a node.
    Host,
    /// The client is outside the cluster and asks a node for a pod of another.
    NodePort,
}

impl Group {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 5] = [
        Self::SameNode,
        Self::AcrossNodes,
        Self::Service,
        Self::Host,
        Self::NodePort,
    ];

    /// The group's heading.
    pub const fn title(self) -> &'static str {
        match self {
            Self::SameNode => "same node",
            Self::AcrossNodes => "across nodes",
            Self::Service => "services (ClusterIP)",
            Self::Host => "from a process of a node",
            Self::NodePort => "NodePort, pod elsewhere",
        }
    }
}

/// A path to be timed.
pub struct Arm {
    /// Its name in the report, unique.
    pub name: &'static str,
    /// Its place in the report.
    pub group: Group,
    /// The sockets at its ends.
    pub ends: Ends,
    /// Namespaces between the ends, kept alive.
    pub nodes: Vec<Arc<Namespace>>,
    /// Programs' links there, kept alive.
    pub links: Vec<OwnedFd>,
}

/// One arm's figures for one operation, in nanoseconds per operation.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// The arm.
    pub arm: &'static str,
    /// Its group.
    pub group: Group,
    /// The operation.
    pub workload: Workload,
    /// The shortest batch.
    #[serde(rename = "min_ns")]
    pub min: f64,
    /// The middle one.
    #[serde(rename = "median_ns")]
    pub median: f64,
}

/// Pins the calling thread to the last CPU it may use.
///
/// # Errors
/// When the kernel refuses.
pub fn pin() -> Result<()> {
    let me = Pid::from_raw(0);
    let allowed = sched_getaffinity(me).context("cannot read the CPUs this process may use")?;
    let cpu = (0..CpuSet::count())
        .rev()
        .find(|&cpu| allowed.is_set(cpu) == Ok(true))
        .context("no CPU is allowed")?;
    let mut one = CpuSet::new();
    one.set(cpu)?;
    sched_setaffinity(me, &one).with_context(|| format!("cannot stay on CPU {cpu}"))
}

/// Runs `rounds` batches of each of these operations over every arm, on a thread that stays on one CPU.
///
/// # Errors
/// When a path stops working; the error names the arm.
pub fn measure(arms: &mut [Arm], workloads: &[Workload], rounds: usize) -> Result<Vec<Figure>> {
    if arms.is_empty() {
        return Ok(Vec::new());
    }
    own_thread(|| {
        pin()?;
        interleave(arms, workloads, rounds)
    })
}

fn interleave(arms: &mut [Arm], workloads: &[Workload], rounds: usize) -> Result<Vec<Figure>> {
    let mut order: Vec<usize> = (0..arms.len()).collect();
    let mut random = Random::new();
    let mut figures = Vec::new();
    for &workload in workloads {
        let mut progress = Progress::new(workload.name(), rounds);
        let mut batches = vec![Vec::with_capacity(rounds); arms.len()];
        for _ in 0..rounds {
            random.shuffle(&mut order);
            for &index in &order {
                let arm = &mut arms[index];
                batches[index].push(batch(arm, workload).with_context(|| arm.name.to_owned())?);
            }
            progress.step();
        }
        for (arm, mut times) in arms.iter().zip(batches) {
            times.sort_by(f64::total_cmp);
            figures.push(Figure {
                arm: arm.name,
                group: arm.group,
                workload,
                min: times[0],
                median: times[times.len() / 2],
            });
        }
    }
    Ok(figures)
}

/// One batch, in nanoseconds per operation.
fn batch(arm: &mut Arm, workload: Workload) -> Result<f64> {
    arm.ends.enter()?;
    let count = workload.batch();
    // The first ones find the caches full of another arm.
    for _ in 0..count.div_ceil(20) {
        arm.ends.operate(workload)?;
    }
    let start = Instant::now();
    for _ in 0..count {
        arm.ends.operate(workload)?;
    }
    Ok(start.elapsed().as_secs_f64() * 1e9 / f64::from(count))
}

/// xorshift64*: an order nobody can aim at is not needed, only one that differs each time.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(1, |time| time.as_nanos());
        // The lowest 64 bits are the ones that change; zero would stay zero.
        Self(u64::try_from(now & u128::from(u64::MAX)).unwrap_or(1) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn shuffle(&mut self, items: &mut [usize]) {
        for end in (1..items.len()).rev() {
            let bound = end as u64 + 1;
            let pick = usize::try_from(self.next() % bound).unwrap_or(0);
            items.swap(end, pick);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn a_shuffle_keeps_every_item_and_reaches_every_order() {
        let mut random = Random(1);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let mut items = [0, 1, 2];
            random.shuffle(&mut items);
            let mut sorted = items;
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2]);
            seen.insert(items);
        }
        assert_eq!(seen.len(), 6);
    }
}
