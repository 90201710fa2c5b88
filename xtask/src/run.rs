//! `cargo xtask run`: the main job, on this machine. The cluster itself is the business of `netpath-lab`.

use anyhow::Result;

use crate::binaries::{self, Profile};
use crate::machine::{self, Need};

/// The lab does without them, but names them in what it tells the user to try.
const NEEDS: [Need; 2] = [
    Need {
        program: "bpftool",
        package: "bpftool",
        reason: "shows maps and programs",
    },
    Need {
        program: "curl",
        package: "curl",
        reason: "asks the example's pods and services",
    },
];

/// Start the example cluster on this machine and try every path through it
#[derive(clap::Args)]
pub struct Arguments {
    /// What to hand on to `netpath-lab run`: --once gives the verdict and leaves, --name NAME allows a second cluster, --all tries
    /// more paths, FOLDER is another example
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// `cargo xtask run`
pub fn command(arguments: &Arguments) -> Result<()> {
    machine::ready(&NEEDS)?;
    binaries::build(Profile::Debug)?;
    let handed: Vec<String> = std::iter::once("run".to_owned())
        .chain(arguments.rest.iter().cloned())
        .collect();
    binaries::become_binary(Profile::Debug, "netpath-lab", &handed)
}
