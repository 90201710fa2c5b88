//! What a pod network does in a real cluster: paths, pods that start, services that change, and what its daemons take. One run is for one
//! network, on a cluster of `tests/cluster`; [`compare`] puts several beside each other. `cargo xtask bench --cluster` does it all, with the
//! binary `netpath-cluster-bench`.
//!
//! Networks cannot share a cluster, so that runs are apart in time. A bare veth pair is among the paths of each run, and a path's figure
//! is its time over that pair's: what the machine did meanwhile drops out.

pub mod compare;
pub mod daemons;
pub mod follow;
pub mod paths;
pub mod services;
pub mod site;
pub mod start;

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use self::{daemons::Daemons, follow::Follow, site::Site};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Batches of each path and operation.
    pub rounds: usize,
    /// Pods started.
    pub pods: usize,
    /// Changes of an endpoint: an even number, so that it is where it was at the end.
    pub changes: usize,
    /// How many services there are in the end.
    pub services: usize,
}

impl Effort {
    /// What the published figures take.
    pub const WHOLE: Self = Self {
        rounds: 300,
        pods: 15,
        changes: 16,
        services: 5_000,
    };
    /// A short run.
    pub const QUICK: Self = Self {
        rounds: 40,
        pods: 4,
        changes: 4,
        services: 500,
    };
}

/// How many services a small cluster has.
const FEW: usize = 10;

/// One figure of a network. Less is better in every one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What was measured: the same words for every network.
    pub what: String,
    /// The figure.
    pub figure: f64,
    /// Its unit.
    pub unit: String,
    /// What else is to be known of it.
    pub detail: String,
}

impl Row {
    /// A figure of which nothing else is to be known.
    fn plain(what: String, figure: f64, unit: &str) -> Self {
        Self {
            what,
            figure,
            unit: unit.to_owned(),
            detail: String::new(),
        }
    }

    /// The middle one of some times, in milliseconds; the detail has the first, the last, and of how many `things` they are.
    fn middle(what: String, mut times: Vec<Duration>, things: &str) -> Self {
        times.sort_unstable();
        let milliseconds = |place: usize| times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e3);
        let last = times.len().saturating_sub(1);
        Self {
            what,
            figure: milliseconds(times.len() / 2),
            unit: "ms".into(),
            detail: format!(
                "{:.1} to {:.1}, {} {things}",
                milliseconds(0),
                milliseconds(last),
                times.len()
            ),
        }
    }
}

/// What was found of one network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// Its name.
    pub network: String,
    /// Its figures, in the order in which they were taken.
    pub rows: Vec<Row>,
}

/// Measures the network of a cluster.
///
/// # Errors
/// A path does not carry a connection, the API refuses an object, or something does not happen within its time; the error says which.
pub fn measure(network: &str, site: &Site, effort: Effort) -> Result<Findings> {
    let daemons = Daemons::new(site.first());
    let mut rows = Vec::new();
    let follow = Follow::start(site)?;
    for services in [FEW, effort.services] {
        eprintln!("{network}: {services} services");
        let before = daemons.processor_time()?;
        let late = services::fill(site, &follow, services)?;
        if services != FEW {
            rows.push(Row::plain(
                format!("{services} services created: the last one answers after its creation"),
                late.as_secs_f64(),
                "s",
            ));
            rows.push(Row::plain(
                format!("processor time of agent and proxy for {services} services"),
                (daemons.processor_time()? - before).as_secs_f64(),
                "s",
            ));
        }
        rows.extend(paths::measure(site, effort.rounds, services)?);
        let before = daemons.processor_time()?;
        rows.push(follow.measure(effort.changes, services)?);
        let taken = daemons.processor_time()? - before;
        rows.push(Row::plain(
            format!("processor time of agent and proxy for a changed endpoint, {services} services"),
            taken.as_secs_f64() * 1e3 / effort.changes as f64,
            "ms",
        ));
        rows.push(Row::plain(
            format!("memory of agent and proxy, {services} services"),
            daemons.memory()?,
            "MiB",
        ));
        rows.push(start::measure(site, effort.pods, services)?);
    }
    Ok(Findings {
        network: network.to_owned(),
        rows,
    })
}
