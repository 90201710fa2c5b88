//! The compiler that builds the programs: which one, and whether it has all it needs.
//!
//! The BPF target comes without a compiled core library, so core is built along (`-Z build-std`). That takes a nightly
//! compiler, or a stable one told to behave as one, and the standard library's source of exactly the compiler's version.

mod debian;
mod linker;
mod source;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{progress, tree};

pub use linker::Linker;

/// A compiler, with what decides how it is used.
pub struct Toolchain {
    /// A toolchain rustup knows by this name; `None` is the compiler that builds everything else.
    rustup_name: Option<&'static str>,
    sysroot: PathBuf,
    /// Such as `1.95.0` or `1.97.0-nightly`.
    release: String,
    /// LLVM's major version, which the linker must not be older than.
    llvm: u32,
}

impl Toolchain {
    /// Chooses the compiler for the programs and provides the standard library's source for it.
    ///
    /// A nightly that has the `rust-src` component needs nothing more, so it comes first; else it is the default compiler.
    ///
    /// # Errors
    /// No usable compiler, or its source could not be had; the error says what to install.
    pub fn ready() -> Result<Self> {
        if let Some(nightly) = Self::probe(Some("nightly")).ok().filter(Self::has_source) {
            if linker::knows_llvm(nightly.llvm) {
                return Ok(nightly);
            }
            progress::say(&format!(
                "{} is passed over: bpf-linker {} does not know its LLVM {}",
                nightly.release,
                linker::VERSION,
                nightly.llvm
            ));
        }
        let own = Self::probe(None).context("the eBPF programs need a Rust compiler")?;
        if !linker::knows_llvm(own.llvm) {
            bail!(
                "rustc {} is built on LLVM {}, but bpf-linker {} knows LLVM {} to {}: choose another Rust (rustup default …)",
                own.release,
                own.llvm,
                linker::VERSION,
                linker::LLVM.start(),
                linker::LLVM.end()
            );
        }
        source::provide(&own)?;
        Ok(own)
    }

    /// Such as `rustc 1.95.0`, for people.
    pub fn title(&self) -> String {
        match self.rustup_name {
            None => format!("rustc {}", self.release),
            Some(name) => format!("rustc {} (rustup's {name})", self.release),
        }
    }

    /// A cargo command for the workspace that may use what only a nightly compiler allows.
    pub fn cargo(&self) -> Command {
        match self.rustup_name {
            None => {
                let mut command = tree::cargo();
                command.env("RUSTC_BOOTSTRAP", "1");
                command
            }
            Some(name) => {
                let mut command = Command::new("rustup");
                command.args(["run", name, "cargo"]);
                tree::in_workspace(&mut command);
                command
            }
        }
    }

    fn probe(rustup_name: Option<&'static str>) -> Result<Self> {
        let verbose = rustc(rustup_name, &["--version", "--verbose"])?;
        let field = |name: &str| {
            let line = verbose.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim)
                .with_context(|| format!("`rustc --version --verbose` has no line `{name}`"))
        };
        let llvm = field("LLVM version:")?;
        Ok(Self {
            rustup_name,
            sysroot: rustc(rustup_name, &["--print", "sysroot"])?.trim().into(),
            release: field("release:")?.to_owned(),
            llvm: llvm
                .split('.')
                .next()
                .unwrap_or(llvm)
                .parse()
                .with_context(|| format!("LLVM version `{llvm}`"))?,
        })
    }

    /// The folder the standard library's source belongs in.
    fn source(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust/library")
    }

    fn has_source(&self) -> bool {
        self.source().join("core/src/lib.rs").is_file()
    }
}

/// What rustc answers; with a name, the rustc of that toolchain of rustup's.
fn rustc(rustup_name: Option<&str>, arguments: &[&str]) -> Result<String> {
    let mut command = match rustup_name {
        None => Command::new("rustc"),
        Some(name) => {
            let mut command = Command::new("rustup");
            // Asking after a toolchain must not download it.
            command.args(["run", name, "rustc"]).env("RUSTUP_AUTO_INSTALL", "0");
            command
        }
    };
    let output = command
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output();
    let output = output.with_context(|| format!("cannot start `{}`", command.get_program().display()))?;
    if !output.status.success() {
        bail!(
            "rustc {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
