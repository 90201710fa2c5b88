//! Measures netpath beside its rivals: a table on stdout, `bench.json` and `bench.svg` in a folder. The work is in
//! `netpath_tests::bench`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, ensure};
use clap::Parser;
use netpath_tests::bench::{
    arms, measure,
    report::{Machine, Report, table::Table, targets},
};

/// Measure netpath's paths beside their rivals, its programs and its control plane
#[derive(Parser)]
#[command(name = "netpath-bench", version)]
struct Arguments {
    /// A short run: fewer batches, none of the arms that take long to set up
    #[arg(long)]
    quick: bool,
    /// Only what contains this in its name, for example "vxlan" or "programs"
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
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netpath-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "root is needed, to make network namespaces and load programs: run it with sudo"
    );
    let selection = arms::Selection {
        quick: arguments.quick,
        only: arguments.only.as_deref(),
    };
    let mut arms = arms::rivals(&selection)?;
    ensure!(
        !arms.is_empty(),
        "nothing contains \"{}\" in its name; without --only everything is measured and named",
        arguments.only.as_deref().unwrap_or_default()
    );
    let rounds = if arguments.quick { 60 } else { 600 };
    let machine = Machine::read()?;
    measure::pin()?;
    let mut report = Report {
        machine,
        rounds,
        paths: measure::measure(&mut arms, rounds)?,
        programs: Vec::new(),
        control: Vec::new(),
        targets: Vec::new(),
    };
    report.targets = targets::judge(&report);
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
