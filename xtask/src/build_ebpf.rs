//! Builds the eBPF programs: the object that netpath-agent embeds.

use std::fs;
use std::io::ErrorKind;
use std::process::Command;

use anyhow::{Context, Result};

use crate::toolchain::{Linker, Toolchain};
use crate::{progress, tree};

const TARGET: &str = "bpfel-unknown-none";
/// Debug information, from which the linker writes BTF: bpftool shows maps by it, and the kernel reads it at load. And accesses at
/// any address, which x86-64 and arm64 allow as their kernels do: addresses are arrays of bytes, and would be copied byte by byte.
const FLAGS: &str = "-C debuginfo=2 -C link-arg=--btf \
     -C link-arg=--cpu-features=+allows-misaligned-mem-access -C link-arg=--disable-expand-memcpy-in-order";

/// What to build.
#[derive(clap::Args, Default)]
pub struct Arguments {
    /// Log single packets through aya-log; never for a release
    #[arg(long)]
    debug_log: bool,
}

/// `cargo xtask build-ebpf`
pub fn command(arguments: &Arguments) -> Result<()> {
    build(arguments)?;
    println!("{}", tree::object().display());
    Ok(())
}

/// Builds the programs and puts the object in its place.
///
/// # Errors
/// A tool is missing and could not be had, or the programs do not compile.
pub fn build(arguments: &Arguments) -> Result<()> {
    let tools = Tools::ready()?;
    let features = if arguments.debug_log { "debug-log" } else { "bpf" };
    let mut cargo = tools.cargo("build");
    cargo.args(["--features", features]);
    progress::shown(
        &format!("building the eBPF programs with {}", tools.toolchain.title()),
        &mut cargo,
    )?;
    publish(features)
}

/// Clippy over the programs, whose entry points only compile for the BPF target.
///
/// # Errors
/// As for [`build`], or clippy found something.
pub fn clippy() -> Result<()> {
    let mut cargo = Tools::ready()?.cargo("clippy");
    cargo.args(["--features", "bpf", "--", "-D", "warnings"]);
    progress::shown("clippy over the eBPF programs", &mut cargo)
}

struct Tools {
    toolchain: Toolchain,
    linker: Linker,
}

impl Tools {
    fn ready() -> Result<Self> {
        let toolchain = Toolchain::ready()?;
        let linker = Linker::ready(&toolchain)?;
        Ok(Self { toolchain, linker })
    }

    fn cargo(&self, command: &str) -> Command {
        let mut cargo = self.toolchain.cargo();
        cargo
            .args([
                command,
                "--profile",
                "bpf",
                "-Z",
                "build-std=core",
                "--target",
                TARGET,
                "--target-dir",
            ])
            .arg(tree::target().join("ebpf"))
            .args(["--package", "netpath-ebpf", "--bin", "netpath-bpf"])
            .env("RUSTFLAGS", FLAGS)
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.linker.path)
            .env("LD_LIBRARY_PATH", &self.linker.libraries);
        cargo
    }
}

/// Copies the object to where netpath-agent looks, unless it is there already: a new time alone would rebuild the agent.
fn publish(features: &str) -> Result<()> {
    let built = tree::target().join("ebpf").join(TARGET).join("bpf/netpath-bpf");
    let bytes = fs::read(&built).with_context(|| format!("reading {} (features {features})", built.display()))?;
    let place = tree::object();
    match fs::read(&place) {
        Ok(present) if present == bytes => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("reading {}", place.display())),
    }
    let fresh = place.with_extension(format!("o.{}", std::process::id()));
    fs::write(&fresh, &bytes).with_context(|| format!("writing {}", fresh.display()))?;
    fs::rename(&fresh, &place).with_context(|| format!("creating {}", place.display()))
}
