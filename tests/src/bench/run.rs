//! One run, from the first namespace to the report.

use anyhow::{Result, ensure};

use super::{
    arms::{self, Selection},
    control::{self, attach, memory, services},
    measure, own, programs,
    report::{Control, Machine, Program, Report, targets},
    site::{Site, ground::Ground},
    workload::Workload,
};
use crate::lab::interrupt;

/// What the programs are called in `--only`.
const PROGRAMS: &str = "programs";
/// Batches of each arm and operation.
const ROUNDS: usize = 600;
const QUICK_ROUNDS: usize = 60;
/// Pods attached.
const PODS: usize = 25;
const QUICK_PODS: usize = 5;

/// Builds what is asked for, measures it, and takes it away again.
///
/// # Errors
/// When nothing is asked for, or a part cannot be built or stops working.
pub fn run(selection: &Selection<'_>) -> Result<Report> {
    interrupt::listen()?;
    let machine = Machine::read()?;
    let control = [control::ATTACH, control::MEMORY].map(|name| selection.wants(name));
    let programs = selection.wants(PROGRAMS);
    let mut sites = Vec::new();
    for ground in [Ground::Segment, Ground::Routed, Ground::Crowded] {
        let whole = match ground {
            Ground::Segment => programs || control.contains(&true),
            Ground::Routed => programs,
            Ground::Crowded => false,
        };
        if whole || own::wants(selection, ground) {
            eprintln!("setting up: two nodes under netpath, {}", ground.name());
            sites.push(Site::start(ground)?);
        }
    }
    let mut arms = arms::rivals(selection)?;
    for site in &sites {
        arms.extend(own::arms(selection, site)?);
    }
    ensure!(
        !arms.is_empty() || !sites.is_empty() || selection.wants(control::APPLY),
        "nothing contains \"{}\" in its name; without --only everything is measured and named",
        selection.only.unwrap_or_default()
    );
    let rounds = if selection.quick { QUICK_ROUNDS } else { ROUNDS };
    let paths = measure::measure(&mut arms, &Workload::ALL, rounds)?;
    drop(arms);
    let mut report = Report {
        machine,
        rounds,
        paths,
        programs: if programs { time_programs(&sites)? } else { Vec::new() },
        control: time_control(selection, &sites)?,
        targets: Vec::new(),
    };
    report.targets = targets::judge(&report);
    Ok(report)
}

fn time_programs(sites: &[Site]) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for site in sites.iter().filter(|site| site.ground() != Ground::Crowded) {
        programs.extend(programs::measure(site)?);
    }
    Ok(programs)
}

fn time_control(selection: &Selection<'_>, sites: &[Site]) -> Result<Vec<Control>> {
    let mut figures = Vec::new();
    if selection.wants(control::APPLY) {
        eprintln!("programming services");
        figures.extend(services::measure()?);
    }
    if let Some(site) = sites.iter().find(|site| site.ground() == Ground::Segment) {
        if selection.wants(control::ATTACH) {
            figures.extend(attach::measure(site, if selection.quick { QUICK_PODS } else { PODS })?);
        }
        if selection.wants(control::MEMORY) {
            figures.extend(memory::measure(site)?);
        }
    }
    Ok(figures)
}
