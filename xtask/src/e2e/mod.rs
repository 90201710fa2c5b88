//! `cargo xtask e2e`: netpath in a real Kubernetes. It makes the cluster of `tests/cluster`, whose scripts do the work and can be run by
//! hand as well, puts netpath on it and runs the tests; or it runs the tests alone, against the cluster that `$KUBECONFIG` names.

mod lab;
mod needs;
mod report;

use std::time::Instant;

use anyhow::{Result, bail};
use regex::Regex;

use crate::binaries::{self, Profile};
use crate::{deploy, progress};

use lab::{Cluster, Lab};

/// Our own tests, scripts of `tests/cluster`.
const CHECKS: [&str; 3] = ["smoke", "dns", "ingress"];

/// How many nodes the test of life takes: two that go on, and one that is restarted.
const LIFE_NODES: u8 = 3;

/// Test netpath in a real Kubernetes cluster on this machine, or in the one that $KUBECONFIG names
#[derive(clap::Args)]
pub struct Arguments {
    /// The network between the nodes: one segment (l2), or a subnet for each node and a router (l3)
    #[arg(long, value_enum, default_value_t = Underlay::L2)]
    underlay: Underlay,
    /// How many nodes the cluster has
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
    /// How long the API server is away, in seconds, in the test of what traffic outlives (agents, API server and a node that go and
    /// come back); 0 leaves that test out. It comes last, takes three nodes, and runs in a cluster made here alone
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    life: u16,
    /// Leave the cluster up; tests/cluster/down ends it
    #[arg(long)]
    keep: bool,
    /// Run those of Kubernetes' tests whose names match this regular expression, and no others
    #[arg(long, value_name = "RE")]
    focus: Option<Regex>,
    /// Of those, leave out what matches this one
    #[arg(long, value_name = "RE", requires = "focus")]
    skip: Option<Regex>,
}

/// What joins the nodes.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Underlay {
    L2,
    L3,
}

/// `cargo xtask e2e`
pub fn command(arguments: &Arguments) -> Result<()> {
    let lab = Lab::new();
    match &lab.cluster {
        Cluster::Made => {
            // Kubernetes' tests alone need no ingress controller.
            let parts: &[&str] = if arguments.focus.is_none() {
                &["cluster", "tests", "ingress"]
            } else {
                &["cluster", "tests"]
            };
            let _ours = lab.claim()?;
            needs::cluster(&lab, parts)?;
            lab.build(parts)?;
            let image = deploy::image::archive();
            deploy::image::build(&image)?;

            let underlay = match arguments.underlay {
                Underlay::L2 => "l2",
                Underlay::L3 => "l3",
            };
            let _down = lab.down_at_the_end(arguments.keep)?;
            lab.script("up", &["--underlay", underlay, "--nodes", &arguments.nodes.to_string()])?;
            lab.script("netpath", &[&image.to_string_lossy()])?;
            test(&lab, arguments)
        }
        Cluster::Kept => {
            progress::say("testing the cluster that was kept here");
            test(&lab, arguments)
        }
        Cluster::Theirs(kubeconfig) => {
            progress::say(&format!(
                "testing the cluster that KUBECONFIG names, {}, as it is; without that variable a cluster is made here",
                kubeconfig.display()
            ));
            needs::tests(&lab, kubeconfig)?;
            lab.build(&["tests"])?;
            test(&lab, arguments)
        }
    }
}

/// Whether the test of life is to run: a chosen few of Kubernetes' tests stay alone.
fn wants_life(lab: &Lab, arguments: &Arguments) -> bool {
    !matches!(lab.cluster, Cluster::Theirs(_))
        && arguments.focus.is_none()
        && arguments.life > 0
        && arguments.nodes >= LIFE_NODES
}

/// Runs all tests, also after one has failed, and says what came of them.
fn test(lab: &Lab, arguments: &Arguments) -> Result<()> {
    let mut failed = Vec::new();
    let mut check = |name: &'static str, handed: &[&str]| {
        if let Err(error) = lab.script(name, handed) {
            lab.unless_interrupted()?;
            progress::say(&format!("{error:#}"));
            failed.push(name);
        }
        Ok::<(), anyhow::Error>(())
    };
    let checks: &[&str] = if arguments.focus.is_none() { &CHECKS } else { &[] };
    for name in checks {
        check(name, &[])?;
    }
    let content = kubernetes_tests(lab, arguments)?;
    if wants_life(lab, arguments) {
        // Its flows come from `netpath-lab`.
        binaries::build(Profile::Debug)?;
        check("life", &[&arguments.life.to_string()])?;
    } else {
        progress::say("life: left out (it takes a cluster made here, of three nodes, and the whole of the tests)");
    }
    if !content {
        failed.push("Kubernetes' tests");
    }
    if failed.is_empty() {
        progress::say("passed");
        return Ok(());
    }
    bail!("failed: {}; logs are in {}", failed.join(", "), lab.folder.display())
}

/// Runs Kubernetes' own tests, and says whether they are content.
fn kubernetes_tests(lab: &Lab, arguments: &Arguments) -> Result<bool> {
    let started = Instant::now();
    let chosen: Vec<&str> = [&arguments.focus, &arguments.skip]
        .into_iter()
        .flatten()
        .map(Regex::as_str)
        .collect();
    let ran = lab.script("conformance", &chosen);
    lab.unless_interrupted()?;
    let verdict = report::read(&lab.conformance_report())?;
    let elapsed = started.elapsed().as_secs_f64();
    progress::say(&format!("Kubernetes' tests, {elapsed:.0} s: {verdict}"));
    Ok(verdict.good() && ran.is_ok())
}
