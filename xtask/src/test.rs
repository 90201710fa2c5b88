//! `cargo xtask test`: everything built, every test run, and what had to be left out said at the end.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::binaries::Profile;
use crate::machine::{self, Need};
use crate::{build_ebpf, progress, tree};

const NEEDS: [Need; 2] = [
    Need {
        program: "bpftool",
        package: "bpftool",
        reason: "a test reads every map through it",
    },
    Need {
        program: "ip",
        package: "iproute2",
        reason: "tests compare what netpath made with what it shows",
    },
];

/// The reference CNI library's own driver of plugins.
const CNITOOL: &str = "github.com/containernetworking/cni/cnitool@v1.3.0";

/// Build everything and run every test
#[derive(clap::Args, Default)]
pub struct Arguments {
    /// What to hand on to cargo test, such as a test's name
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// `cargo xtask test`
pub fn command(arguments: &Arguments) -> Result<()> {
    machine::ready(&NEEDS)?;
    build_ebpf::build(&build_ebpf::Arguments::default())?;
    // One build for binaries and tests together: cargo then settles every dependency's features once, not twice.
    let mut build = tree::cargo();
    progress::shown(
        "building netpath and its tests",
        build.args(["build", "--workspace", "--bins", "--tests"]),
    )?;
    let cnitool = cnitool();
    let mut tests = tree::cargo();
    // All of them, whatever fails on the way: one run says everything.
    tests
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(&arguments.rest)
        .env("NETPATH_BIN_DIR", Profile::Debug.folder());
    match &cnitool {
        Ok(path) => tests.env("NETPATH_CNITOOL", path),
        Err(_) => tests.env_remove("NETPATH_CNITOOL"),
    };
    let outcome = progress::shown("running the tests", &mut tests);
    if let Err(error) = cnitool {
        let error = error.to_string();
        let reason = error.lines().last().unwrap_or_default();
        progress::say(&format!(
            "skipped, 1: the plugin through the reference library's cnitool: {reason}"
        ));
    }
    outcome
}

/// The cnitool binary, built if need be. The one thing tests do without: it is a Go program.
fn cnitool() -> Result<PathBuf> {
    let folder = tree::tools().join("cnitool-1.3.0");
    let path = folder.join("cnitool");
    if !path.is_file() {
        let mut go = Command::new("go");
        go.args(["install", CNITOOL]).env("GOBIN", &folder).env("GOFLAGS", "");
        progress::watched(
            "building cnitool, the reference library's driver of CNI plugins",
            &mut go,
        )?;
    }
    Ok(path)
}
