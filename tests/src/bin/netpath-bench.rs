//! Measures netpath beside its rivals: a table on stdout, `bench.json` and `bench.svg` in a folder. The work is in
//! `netpath_tests::bench`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, ensure};
use clap::Parser;
use netpath_tests::bench::{arms, report::table::Table, run};

/// Measure netpath's paths beside their rivals, its programs and its control plane
#[derive(Parser)]
#[command(name = "netpath-bench", version)]
struct Arguments {
    /// A short run: fewer batches, none of the arms that take long to set up
    #[arg(long)]
    quick: bool,
    /// Only what contains this in its name, whatever the case: "vxlan", "programs", "CNI"
    #[arg(long, value_name = "PATTERN")]
    only: Option<String>,
    /// Where bench.json and bench.svg go; by default docs after a whole run, nowhere after a part of it
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netpath-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "root is needed, to make network namespaces and load programs: run it with sudo"
    );
    let selection = arms::Selection {
        quick: arguments.quick,
        only: arguments.only.as_deref(),
    };
    let report = run::run(&selection)?;
    let whole = !arguments.quick && arguments.only.is_none();
    if let Some(folder) = arguments.out.clone().or_else(|| whole.then(|| PathBuf::from("docs"))) {
        report.write(&folder)?;
    }
    if arguments.json {
        print!("{}", report.json()?);
    } else {
        print!("{}", Table(&report));
    }
    Ok(())
}
