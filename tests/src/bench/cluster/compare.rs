//! Several networks beside each other: the first is the one in question, the others are its rivals.

use std::{
    fmt::{self, Display},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::Findings;
use crate::bench::report::Machine;

/// Widths of the columns: what was measured, a network's figure, a unit.
const WHAT: usize = 84;
const FIGURE: usize = 20;
const UNIT: usize = 13;

/// All that is compared.
#[derive(Serialize)]
pub struct Comparison {
    /// What it ran on.
    pub machine: Machine,
    /// How the nodes were joined.
    pub underlay: String,
    /// The networks.
    pub networks: Vec<Findings>,
}

impl Comparison {
    /// Reads what runs have written.
    ///
    /// # Errors
    /// A file is none of theirs, or they measured different things.
    pub fn read(underlay: &str, files: &[impl AsRef<Path>]) -> Result<Self> {
        let networks = files
            .iter()
            .map(|file| {
                let file = file.as_ref();
                let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
                serde_json::from_str::<Findings>(&text).with_context(|| format!("{} holds no findings", file.display()))
            })
            .collect::<Result<Vec<_>>>()?;
        let (first, rivals) = networks.split_first().context("nothing is to be compared")?;
        for rival in rivals {
            ensure!(
                rival
                    .rows
                    .iter()
                    .map(|row| &row.what)
                    .eq(first.rows.iter().map(|row| &row.what)),
                "{} and {} were not measured alike: with the same effort and the same build",
                first.network,
                rival.network
            );
        }
        Ok(Self {
            machine: Machine::read()?,
            underlay: underlay.to_owned(),
            networks,
        })
    }

    /// Writes `bench-cluster-UNDERLAY.json` into a folder.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(format!("bench-cluster-{}.json", self.underlay));
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("wrote {}", path.display());
        Ok(())
    }
}

impl Display for Comparison {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, rivals)) = self.networks.split_first() else {
            return Ok(());
        };
        let machine = &self.machine;
        writeln!(
            out,
            "Linux {}, {} CPUs, {}; nodes joined by {}. Less is better in every row.\n",
            machine.kernel, machine.cpus, machine.processor, self.underlay
        )?;
        write!(out, "{:WHAT$}", "")?;
        for network in &self.networks {
            write!(out, "{:>FIGURE$}", network.network)?;
        }
        writeln!(out, "  {:UNIT$}best rival", "")?;
        let mut behind = 0;
        for (index, row) in first.rows.iter().enumerate() {
            write!(out, "{:WHAT$}", row.what)?;
            for network in &self.networks {
                write!(out, "{:>FIGURE$.2}", network.rows[index].figure)?;
            }
            write!(out, "  {:UNIT$}", row.unit)?;
            let best = rivals.iter().map(|rival| rival.rows[index].figure).reduce(f64::min);
            match best {
                Some(best) if best >= row.figure => writeln!(out, "{:.2} times ours", best / row.figure)?,
                Some(best) => {
                    behind += 1;
                    writeln!(out, "{:.2} times ours: BEHIND", best / row.figure)?;
                }
                None => writeln!(out)?,
            }
        }
        writeln!(out)?;
        for network in &self.networks {
            for row in network.rows.iter().filter(|row| !row.detail.is_empty()) {
                writeln!(out, "{}: {}: {}", network.network, row.what, row.detail)?;
            }
        }
        writeln!(
            out,
            "\n{} is ahead in {} rows of {}.",
            first.network,
            first.rows.len() - behind,
            first.rows.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::Row;
    use super::*;

    fn findings(network: &str, figures: &[f64]) -> Findings {
        let row = |(number, &figure): (usize, &f64)| Row {
            what: format!("thing {number}"),
            figure,
            unit: "ms".into(),
            detail: String::new(),
        };
        Findings {
            network: network.into(),
            rows: figures.iter().enumerate().map(row).collect(),
        }
    }

    fn compare(networks: Vec<Findings>) -> Result<Comparison> {
        let folder = tempfile::tempdir()?;
        let mut files = Vec::new();
        for network in networks {
            let file = folder.path().join(&network.network);
            fs::write(&file, serde_json::to_string(&network)?)?;
            files.push(file);
        }
        Comparison::read("l2", &files)
    }

    #[test]
    fn each_row_names_the_best_rival_and_whether_it_is_ahead() -> Result<()> {
        let comparison = compare(vec![
            findings("ours", &[2.0, 2.0]),
            findings("one", &[5.0, 1.0]),
            findings("two", &[4.0, 3.0]),
        ])?;
        let text = comparison.to_string();
        let line = |what: &str| text.lines().find(|line| line.starts_with(what)).map(str::to_owned);
        assert!(
            line("thing 0").is_some_and(|line| line.ends_with("2.00 times ours")),
            "{text}"
        );
        assert!(
            line("thing 1").is_some_and(|line| line.ends_with("0.50 times ours: BEHIND")),
            "{text}"
        );
        assert!(text.ends_with("ours is ahead in 1 rows of 2.\n"), "{text}");
        Ok(())
    }

    #[test]
    fn what_was_not_measured_alike_is_not_compared() {
        let refused = compare(vec![findings("ours", &[2.0]), findings("one", &[5.0, 1.0])]);
        let error = refused.err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(
            error,
            "ours and one were not measured alike: with the same effort and the same build"
        );
    }
}
