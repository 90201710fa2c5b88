//! `cargo xtask e2e`: netpath in a real Kubernetes. It makes the cluster of `tests/cluster`, whose scripts do the work and can be run by
//! hand as well, puts netpath on it and runs the tests; or it runs the tests alone, against the cluster that `$KUBECONFIG` names.

mod report;

use std::time::Instant;

use anyhow::{Result, bail};
use regex::Regex;

use crate::binaries::{self, Profile};
use crate::lab::{Cluster, Families, Lab, Underlay};
use crate::{deploy, progress};

/// Our own checks, scripts of `tests/cluster`, which leave the cluster as it is.
const CHECKS: [&str; 3] = ["smoke", "dns", "ingress"];

/// The most nodes that a cluster can have.
const MOST_NODES: u8 = 9;

/// How many nodes the test of life takes: two that go on, and one that is restarted.
const LIFE_NODES: u8 = 3;

/// Test netpath in a real Kubernetes cluster on this machine, or in the one that $KUBECONFIG names
#[derive(clap::Args)]
pub struct Arguments {
    /// The network between the nodes: one segment (l2), or a subnet for each node and a router (l3)
    #[arg(long, value_enum, default_value_t = Underlay::L2)]
    underlay: Underlay,
    /// The addresses of nodes, pods and services
    #[arg(long, value_enum, default_value_t = Families::Ipv4)]
    families: Families,
    /// How many nodes the cluster has
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=i64::from(MOST_NODES)))]
    nodes: u8,
    /// How long the API server is away, in seconds, in the test of what traffic outlives (agents, API server and a node that go and
    /// come back); 0 leaves that test out. It comes last, takes three nodes, and runs in a cluster made here alone
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    life: u16,
    /// Our own checks alone: pods, services, DNS and an ingress controller
    #[arg(long, conflicts_with_all = ["focus", "skip", "life"])]
    quick: bool,
    /// Kubernetes' other network tests too, also those of load balancers: a quarter of an hour more. tests/cluster/left-out names the few
    /// that cannot run here, and why
    #[arg(long, conflicts_with_all = ["focus", "quick"])]
    beyond: bool,
    /// Do nothing where what clusters are made of has not been built yet, which takes most of an hour
    #[arg(long)]
    if_built: bool,
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

/// `cargo xtask e2e`
pub fn command(arguments: &Arguments) -> Result<()> {
    let lab = Lab::new();
    match &lab.cluster {
        Cluster::Made => {
            let parts = arguments.parts();
            if arguments.if_built && !lab.is_built(parts) {
                progress::say(
                    "skipped, 1: the real cluster, since what it is made of is not built: `cargo xtask e2e` does it",
                );
                return Ok(());
            }
            let _ours = lab.prepare(parts)?;
            let image = deploy::image::archive();
            deploy::image::build(&image)?;

            let _down = lab.down_at_the_end(arguments.keep)?;
            let nodes = arguments.nodes.to_string();
            let (underlay, families) = (arguments.underlay.name(), arguments.families.name());
            lab.script(
                "up",
                &["--underlay", underlay, "--families", families, "--nodes", &nodes],
            )?;
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
            lab.prepare_tests(kubeconfig)?;
            test(&lab, arguments)
        }
    }
}

impl Arguments {
    /// What the cluster and its tests are made of.
    fn parts(&self) -> &'static [&'static str] {
        match self {
            Self { quick: true, .. } => &["cluster", "ingress"],
            // Kubernetes' tests alone need no ingress controller.
            Self { focus: Some(_), .. } => &["cluster", "tests"],
            _ => &["cluster", "tests", "ingress"],
        }
    }

    /// The expressions that choose among Kubernetes' tests: none for those of conformance.
    fn chosen(&self) -> Vec<&str> {
        [&self.focus, &self.skip]
            .into_iter()
            .flatten()
            .map(Regex::as_str)
            .collect()
    }

    /// Whether all is to be tested, and not a chosen few.
    fn whole(&self) -> bool {
        self.focus.is_none() && !self.quick
    }
}

/// Whether a node is to join and leave.
fn wants_nodes(lab: &Lab, arguments: &Arguments) -> bool {
    !matches!(lab.cluster, Cluster::Theirs(_)) && arguments.whole() && arguments.nodes < MOST_NODES
}

/// Whether the test of life is to run: a chosen few of Kubernetes' tests stay alone.
fn wants_life(lab: &Lab, arguments: &Arguments) -> bool {
    !matches!(lab.cluster, Cluster::Theirs(_))
        && arguments.whole()
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
    let mut content = arguments.quick || kubernetes_tests(lab, &arguments.chosen())?;
    if arguments.beyond {
        content &= kubernetes_tests(lab, &["--beyond"])?;
    }
    if wants_nodes(lab, arguments) {
        check("nodes", &[])?;
    } else {
        progress::say(
            "nodes: left out (it takes a cluster made here, of at most eight nodes, and the whole of the tests)",
        );
    }
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
fn kubernetes_tests(lab: &Lab, chosen: &[&str]) -> Result<bool> {
    let started = Instant::now();
    let ran = lab.script("conformance", chosen);
    lab.unless_interrupted()?;
    let verdict = report::read(&lab.conformance_report())?;
    let elapsed = started.elapsed().as_secs_f64();
    progress::say(&format!("Kubernetes' tests, {elapsed:.0} s: {verdict}"));
    Ok(verdict.good() && ran.is_ok())
}
