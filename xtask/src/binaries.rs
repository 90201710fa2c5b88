//! Our own binaries: built with the programs inside, and run in this process's place.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{build_ebpf, progress, tree};

/// How the binaries are compiled.
#[derive(Clone, Copy)]
pub enum Profile {
    /// For tests and the lab.
    Debug,
    /// For measurements.
    Release,
}

impl Profile {
    /// The folder the binaries end up in.
    pub fn folder(self) -> PathBuf {
        tree::target().join(match self {
            Self::Debug => "debug",
            Self::Release => "release",
        })
    }
}

/// Builds the programs, then the agent's and the lab's binaries.
///
/// # Errors
/// Whatever [`build_ebpf::build`] lacks, or a compile error.
pub fn build(profile: Profile) -> Result<()> {
    build_ebpf::build(&build_ebpf::Arguments::default())?;
    let mut cargo = tree::cargo();
    cargo.args([
        "build",
        "--package",
        "netpath-agent",
        "--package",
        "netpath-tests",
        "--bins",
    ]);
    if matches!(profile, Profile::Release) {
        cargo.arg("--release");
    }
    progress::shown("building netpath", &mut cargo)
}

/// Runs one of the binaries in place of this process, so that signals and the exit status are its own.
///
/// # Errors
/// Only if it cannot be started.
pub fn become_binary(profile: Profile, name: &str, arguments: &[String]) -> Result<()> {
    let path = profile.folder().join(name);
    let mut command = Command::new(&path);
    command.args(arguments).env("NETPATH_BIN_DIR", profile.folder());
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start {}", path.display()))
}
