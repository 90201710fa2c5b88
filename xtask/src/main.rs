//! The project's own commands. Each one first provides what it lacks, then does its work; `cargo xtask --help` lists them.
//!
//! This package is the first thing compiled on a fresh machine, so it depends on little.

mod bench;
mod binaries;
mod build_ebpf;
mod ci;
mod deploy;
mod e2e;
mod go;
mod image;
mod lab;
mod machine;
mod progress;
mod run;
mod test;
mod toolchain;
mod tree;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Build, run, test and measure netpath.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the eBPF programs into target/ebpf/netpath.o
    BuildEbpf(build_ebpf::Arguments),
    /// Start the example cluster on this machine and try every path through it
    Run(run::Arguments),
    /// Build everything and run every test
    Test(test::Arguments),
    /// Measure netpath beside its rivals
    Bench(bench::Arguments),
    /// Test netpath in a real Kubernetes cluster on this machine, or in the one that $KUBECONFIG names
    E2e(e2e::Arguments),
    /// Run what a change must pass: formatting, clippy, dependencies, tests
    Ci(ci::Arguments),
    /// Build netpath's image as an archive
    Image(deploy::image::Arguments),
    /// Make deploy/netpath.yaml anew from the chart
    Manifest(deploy::manifest::Arguments),
    /// Make an archive of container images; the scripts of tests/cluster call it
    #[command(hide = true)]
    Images(image::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::BuildEbpf(arguments) => build_ebpf::command(&arguments),
        Command::Run(arguments) => run::command(&arguments),
        Command::Test(arguments) => test::command(&arguments),
        Command::Bench(arguments) => bench::command(&arguments),
        Command::E2e(arguments) => e2e::command(&arguments),
        Command::Ci(arguments) => ci::command(&arguments),
        Command::Image(arguments) => deploy::image::command(&arguments),
        Command::Manifest(arguments) => deploy::manifest::command(&arguments),
        Command::Images(arguments) => image::command(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain of causes alone: a backtrace of this program helps nobody whose machine lacks something.
            let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
            progress::say(&format!("error: {}", causes.join("\n  because: ")));
            ExitCode::FAILURE
        }
    }
}
