//! The report as a table for a person.

use std::fmt::{self, Display};

use super::{Report, targets::Bound};
use crate::bench::{
    arms,
    measure::{Figure, Group},
    workload::Workload,
};

/// Width of the column of names.
const NAMES: usize = 38;

/// The whole report, ready to print.
pub struct Table<'a>(pub &'a Report);

impl Display for Table<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        let machine = &report.machine;
        writeln!(
            out,
            "Linux {}, {} CPUs, {}",
            machine.kernel, machine.cpus, machine.processor
        )?;
        if !machine.release {
            writeln!(
                out,
                "This harness is a debug build: its own share of every figure is larger than it need be."
            )?;
        }
        self.paths(out)?;
        if !report.programs.is_empty() {
            writeln!(out, "\n{:NAMES$}{:>10}  answer", "programs, by test run", "ns")?;
            for program in &report.programs {
                let name = format!("{}: {}", program.hook, program.frame);
                writeln!(out, "{name:NAMES$}{:>10.0}  {}", program.nanoseconds, program.verdict)?;
            }
        }
        if !report.control.is_empty() {
            writeln!(out, "\n{:NAMES$}{:>10}", "control plane", "")?;
            for entry in &report.control {
                writeln!(
                    out,
                    "{:NAMES$}{:>10.3} {:4}  {}",
                    entry.what, entry.value, entry.unit, entry.how
                )?;
            }
        }
        self.targets(out)
    }
}

impl Table<'_> {
    fn paths(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        for group in Group::ALL {
            let mut names: Vec<&str> = Vec::new();
            for figure in report.paths.iter().filter(|figure| figure.group == group) {
                if !names.contains(&figure.arm) {
                    names.push(figure.arm);
                }
            }
            if names.is_empty() {
                continue;
            }
            write!(out, "\n{:NAMES$}", group.title())?;
            for workload in Workload::ALL {
                write!(out, "{:>24}", workload.name())?;
            }
            write!(out, "\n{:NAMES$}", "")?;
            for _ in Workload::ALL {
                write!(out, "{:>24}", "min  median  speed")?;
            }
            writeln!(out)?;
            for name in names {
                write!(out, "{name:NAMES$}")?;
                for workload in Workload::ALL {
                    match report.figure(name, workload) {
                        Some(figure) => self.cell(out, figure)?,
                        None => write!(out, "{:>24}", "-")?,
                    }
                }
                writeln!(out)?;
            }
        }
        if !report.paths.is_empty() {
            writeln!(
                out,
                "\nNanoseconds an operation, the shortest and the middle one of {} batches. Speed is the bare veth pair's \
                 shortest over this one's.",
                report.rounds
            )?;
        }
        Ok(())
    }

    fn cell(&self, out: &mut fmt::Formatter<'_>, figure: &Figure) -> fmt::Result {
        write!(out, "{:>10.0} {:>7.0}", figure.min, figure.median)?;
        match self.0.figure(arms::BARE, figure.workload) {
            Some(bare) => write!(out, "  {:.2}", bare.min / figure.min),
            None => write!(out, "     -"),
        }
    }

    fn targets(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.targets.iter().all(|target| target.measured.is_none()) {
            return Ok(());
        }
        writeln!(
            out,
            "\n{:70}{:>10}{:>10}{:>10}",
            "targets", "wanted", "measured", "floor"
        )?;
        for target in &self.0.targets {
            let wanted = match target.wanted {
                Bound::AtLeast(bound) => format!(">= {bound:.2}"),
                Bound::AtMost(bound) => format!("<= {bound:.2}"),
            };
            write!(out, "{:70}{wanted:>10}", target.what)?;
            let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
            write!(out, "{:>10}{:>10}", number(target.measured), number(target.floor))?;
            writeln!(
                out,
                "  {}",
                match target.reached {
                    Some(true) => "reached",
                    Some(false) => "NOT reached",
                    None => "not measured",
                }
            )?;
        }
        writeln!(
            out,
            "\nThe floor is the same ratio with programs that only redirect: what this machine leaves to be had."
        )
    }
}
