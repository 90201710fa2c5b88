//! `cargo xtask manifest`: deploy/netpath.yaml, which is the chart deploy/chart/netpath with its default values. A test says
//! that the two agree; this makes them.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::folder;
use crate::{go, progress};

/// The one who reads the file begins here.
const HEAD: &str = "\
# netpath on a cluster with neither a pod network nor kube-proxy: `kubectl apply -f netpath.yaml`.
# Made by `cargo xtask manifest` from deploy/chart/netpath: change that.
";
/// How helm says which file of the chart a document is from.
const SOURCE: &str = "# Source: ";

/// Make deploy/netpath.yaml anew from the chart
#[derive(clap::Args)]
pub struct Arguments {}

/// `cargo xtask manifest`
pub fn command(_: &Arguments) -> Result<()> {
    let mut helm = Command::new(go::helm()?);
    helm.args(["template", "netpath", "--namespace", "kube-system"])
        .arg(folder().join("chart/netpath"));
    let rendered = progress::watched("rendering the chart", &mut helm)?;
    let said = |line: &&str| !line.starts_with(SOURCE) && !line.trim().is_empty();
    let lines = rendered.lines().filter(said);
    let text: String = lines.map(|line| format!("{}\n", line.trim_end())).collect();
    let path = folder().join("netpath.yaml");
    fs::write(&path, HEAD.to_owned() + &text).with_context(|| format!("writing {}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}
