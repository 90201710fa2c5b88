//! `cargo xtask ci`: what a change must pass before it lands. Fast checks first.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::{build_ebpf, progress, test, tree};

const CARGO_DENY: &str = "0.20.2";

/// Run what a change must pass: formatting, clippy, dependencies, tests
#[derive(clap::Args)]
pub struct Arguments {
    /// Leave the tests out
    #[arg(long)]
    no_tests: bool,
}

/// `cargo xtask ci`
pub fn command(arguments: &Arguments) -> Result<()> {
    component("fmt", "rustfmt")?;
    component("clippy", "clippy")?;
    progress::shown("formatting", tree::cargo().args(["fmt", "--all", "--check"]))?;
    // Before clippy: netpath-agent embeds the object, so it must be there to compile.
    build_ebpf::build(&build_ebpf::Arguments::default())?;
    build_ebpf::clippy()?;
    let workspace = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    progress::shown("clippy over the workspace", tree::cargo().args(workspace))?;
    dependencies()?;
    if arguments.no_tests {
        return Ok(());
    }
    test::command(&test::Arguments::default())
}

/// Installs a part of Rust that rustup leaves out of its smallest installations.
fn component(subcommand: &str, name: &str) -> Result<()> {
    let asked = tree::cargo().args([subcommand, "--version"]).output();
    if asked.is_ok_and(|answer| answer.status.success()) {
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    let what = format!("rustup component add {name}, since cargo {subcommand} is missing");
    progress::watched(&what, rustup.args(["component", "add", name]))?;
    Ok(())
}

/// Licences, bans and sources of all dependencies by deny.toml; known vulnerabilities where their database can be had.
fn dependencies() -> Result<()> {
    let program = cargo_deny()?;
    progress::shown(
        "dependencies: licences, bans, sources",
        deny(&program).args(["check", "--hide-inclusion-graph", "licenses", "bans", "sources"]),
    )?;
    match progress::watched("fetching the advisory database", deny(&program).args(["fetch", "db"])) {
        Ok(_) => {
            let mut check = deny(&program);
            progress::shown(
                "dependencies: advisories",
                check.args(["check", "--disable-fetch", "advisories"]),
            )
        }
        Err(error) => {
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default();
            progress::say(&format!(
                "skipped, 1: advisories: their database cannot be fetched here ({reason})"
            ));
            Ok(())
        }
    }
}

fn deny(program: &Path) -> Command {
    let mut command = Command::new(program);
    tree::in_workspace(&mut command);
    command.args(["--workspace", "--all-features"]);
    command
}

/// The pinned cargo-deny, built into `target/tools` if it is not there.
fn cargo_deny() -> Result<PathBuf> {
    let place = tree::tools().join(format!("cargo-deny-{CARGO_DENY}"));
    let program = place.join("bin/cargo-deny");
    if !program.is_file() {
        let mut install = tree::cargo();
        install
            .args([
                "install",
                "cargo-deny",
                "--version",
                CARGO_DENY,
                "--locked",
                "--debug",
                "--root",
            ])
            .arg(&place)
            .env("CARGO_TARGET_DIR", tree::tools().join("build"))
            // It runs for a second: compiling it quickly is worth more than its speed.
            .env("CARGO_PROFILE_DEV_DEBUG", "0");
        progress::watched(
            &format!("building cargo-deny {CARGO_DENY} (some minutes)"),
            &mut install,
        )?;
    }
    Ok(program)
}
