//! Measures the pod network of a cluster of `tests/cluster`, and puts the figures of several beside each other. The script
//! `tests/cluster/bench` starts it on a host of the lab outside the cluster; the work is in `netpath_tests::bench::cluster`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};
use netpath_tests::{
    bench::cluster::{
        Effort,
        compare::Comparison,
        measure,
        site::{Node, Site},
    },
    lab::interrupt,
};

/// Measure the pod network of a real cluster
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure one network, and write what was found to a file
    Measure(Measure),
    /// Print what was found of several networks, the first against the others
    Compare {
        /// How the nodes were joined
        #[arg(long)]
        underlay: String,
        /// A folder for the figures as JSON
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// What `measure` wrote
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(clap::Args)]
struct Measure {
    /// What the network is called
    #[arg(long)]
    network: String,
    /// The cluster's administrator
    #[arg(long, value_name = "FILE")]
    kubeconfig: PathBuf,
    /// Two nodes, each with a process that holds its namespaces
    #[arg(long = "node", value_name = "NAME=PID", num_args = 1, required = true)]
    nodes: Vec<Node>,
    /// An image on both with `agnhost` in it
    #[arg(long)]
    image: String,
    /// A short run
    #[arg(long)]
    quick: bool,
    /// Where the figures go
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Measure(arguments) => take(arguments),
        Command::Compare { underlay, out, files } => show(&underlay, out.as_deref(), &files),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netpath-cluster-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn take(arguments: Measure) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "root is needed, to enter the pods' network namespaces: run it with sudo"
    );
    interrupt::listen()?;
    let nodes = <[Node; 2]>::try_from(arguments.nodes)
        .map_err(|nodes| anyhow::anyhow!("two nodes are needed, --node twice; these are {}", nodes.len()))?;
    let site = Site::make(&arguments.kubeconfig, nodes, &arguments.image)?;
    let effort = if arguments.quick { Effort::QUICK } else { Effort::WHOLE };
    let findings = measure(&arguments.network, &site, effort)?;
    let text = serde_json::to_string_pretty(&findings)? + "\n";
    fs::write(&arguments.out, text).with_context(|| format!("cannot write {}", arguments.out.display()))
}

fn show(underlay: &str, out: Option<&Path>, files: &[PathBuf]) -> Result<()> {
    let comparison = Comparison::read(underlay, files)?;
    print!("{comparison}");
    out.map_or(Ok(()), |folder| comparison.write(folder))
}
