//! `cargo xtask test`: everything built, every test run, and what had to be left out said at the end.

use std::path::PathBuf;

use anyhow::Result;

use crate::binaries::Profile;
use crate::machine::{self, Need};
use crate::{build_ebpf, deploy, go, progress, tree};

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

/// Build everything and run every test
#[derive(clap::Args, Default)]
pub struct Arguments {
    /// What to hand on to the tests: names, of which each runs all that have it in theirs, and flags such as --nocapture
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// A program that a test does without, where it is not to be had: it is written in Go.
struct Helper {
    /// By which the test is told its path.
    variable: &'static str,
    /// The test, for people.
    test: &'static str,
    program: Result<PathBuf>,
}

impl Arguments {
    /// Whether all tests are to run, or some whose names have this in them.
    fn ask_for(&self, name: &str) -> bool {
        self.rest.is_empty() || self.rest.iter().any(|rest| rest.contains(name))
    }
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
    let mut helpers = vec![Helper {
        variable: "NETPATH_CNITOOL",
        test: "the plugin through the reference library's cnitool",
        program: go::cnitool(),
    }];
    let mut tests = tree::cargo();
    if arguments.ask_for("deploy") {
        helpers.push(Helper {
            variable: "NETPATH_HELM",
            test: "the chart against the manifest",
            program: go::helm(),
        });
        let archive = deploy::image::archive();
        deploy::image::build(&archive)?;
        tests.env("NETPATH_IMAGE", archive);
    }
    // All of them, whatever fails on the way: one run says everything.
    tests
        .args(["test", "--workspace", "--no-fail-fast", "--"])
        .args(&arguments.rest)
        .env("NETPATH_BIN_DIR", Profile::Debug.folder());
    for Helper { variable, program, .. } in &helpers {
        match program {
            Ok(path) => tests.env(variable, path),
            Err(_) => tests.env_remove(variable),
        };
    }
    let outcome = progress::shown("running the tests", &mut tests);
    for Helper { test, program, .. } in &helpers {
        if let Err(error) = program {
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default();
            progress::say(&format!("skipped, 1: {test}: {reason}"));
        }
    }
    outcome
}
