//! `cargo xtask bench`: figures beside those of the rivals, taken by `netpath-bench` in release builds.

use anyhow::Result;

use crate::binaries::{self, Profile};
use crate::machine::{self, Need};

/// Their rules are written by their own tool, as they are in the clusters that run them.
const NEEDS: [Need; 1] = [Need {
    program: "iptables-restore",
    package: "iptables",
    reason: "writes the rules of the paths netpath is compared with",
}];

/// Measure netpath beside its rivals
#[derive(clap::Args)]
pub struct Arguments {
    /// What to hand on to netpath-bench: --quick for a short run, --only PATTERN for a part
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// `cargo xtask bench`
pub fn command(arguments: &Arguments) -> Result<()> {
    machine::ready(&NEEDS)?;
    binaries::build(Profile::Release)?;
    binaries::become_binary(Profile::Release, "netpath-bench", &arguments.rest)
}
