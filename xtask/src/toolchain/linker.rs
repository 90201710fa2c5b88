//! bpf-linker: turns the compiler's LLVM bitcode into one BPF object. It must know the compiler's LLVM, so it is built
//! against the compiler's own libLLVM: no LLVM of the system is needed.

use std::ffi::OsString;
use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::Toolchain;
use crate::{progress, tree};

/// The version this project is built and tested with.
pub const VERSION: &str = "0.13.0";
/// Releases that are as good: those of the same minor version.
const ACCEPTED: &str = "bpf-linker 0.13.";
/// The major versions of LLVM it can be built against.
pub const LLVM: RangeInclusive<u32> = 21..=23;

/// Whether bpf-linker can be built against this LLVM.
pub fn knows_llvm(major: u32) -> bool {
    LLVM.contains(&major)
}

/// A bpf-linker that runs.
pub struct Linker {
    /// The program.
    pub path: PathBuf,
    /// `LD_LIBRARY_PATH` under which it finds the compiler's libLLVM.
    pub libraries: OsString,
}

impl Linker {
    /// Finds the linker on the PATH or in `target/tools`, or builds it there.
    ///
    /// # Errors
    /// It could not be downloaded or built; the error carries cargo's last lines.
    pub fn ready(toolchain: &Toolchain) -> Result<Self> {
        let libraries = libraries(&toolchain.sysroot.join("lib"));
        let built = tree::tools().join(format!("bpf-linker-{VERSION}-rustc-{}", toolchain.release));
        let own = built.join("bin/bpf-linker");
        for path in [PathBuf::from("bpf-linker"), own.clone()] {
            if accepted(&path, &libraries) {
                return Ok(Self { path, libraries });
            }
        }
        build(toolchain, &built)?;
        Ok(Self { path: own, libraries })
    }
}

/// The compiler's libraries first, then what was set already.
fn libraries(first: &Path) -> OsString {
    let mut libraries = first.as_os_str().to_owned();
    if let Some(set) = std::env::var_os("LD_LIBRARY_PATH").filter(|set| !set.is_empty()) {
        libraries.push(":");
        libraries.push(set);
    }
    libraries
}

fn accepted(path: &Path, libraries: &OsString) -> bool {
    let answer = Command::new(path)
        .arg("--version")
        .env("LD_LIBRARY_PATH", libraries)
        .stdin(Stdio::null())
        .output();
    answer.is_ok_and(|answer| answer.status.success() && answer.stdout.starts_with(ACCEPTED.as_bytes()))
}

fn build(toolchain: &Toolchain, place: &Path) -> Result<()> {
    let library = llvm(toolchain)?;
    // The linker remembers this folder as the place of its libLLVM, so it stays: by its usual name for building, by the
    // name the library gives itself for running.
    let libraries = place.join("lib");
    fs::create_dir_all(&libraries).with_context(|| format!("creating {}", libraries.display()))?;
    let own_name = library.file_name().context("libLLVM has no file name")?.to_owned();
    for name in [OsString::from("libLLVM.so"), own_name] {
        let link = libraries.join(name);
        fs::remove_file(&link).ok();
        symlink(&library, &link).with_context(|| format!("linking {}", link.display()))?;
    }
    let feature = format!("llvm-{}", toolchain.llvm);
    let what = format!(
        "building bpf-linker {VERSION} against the compiler's LLVM {} (2 minutes or so)",
        toolchain.llvm
    );
    let mut install = tree::cargo();
    install
        .args([
            "install",
            "bpf-linker",
            "--version",
            VERSION,
            "--locked",
            "--force",
            "--no-default-features",
        ])
        .args(["--features", &feature, "--root"])
        .arg(place)
        .env("LLVM_PREFIX", place)
        .env("CARGO_TARGET_DIR", tree::tools().join("build"))
        // Its release profile asks for full debug information, which only costs time here.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0");
    progress::watched(&what, &mut install)?;
    Ok(())
}

/// The compiler's libLLVM: a file whose name starts so and carries a version.
fn llvm(toolchain: &Toolchain) -> Result<PathBuf> {
    let folder = toolchain.sysroot.join("lib");
    let versioned = format!("libLLVM.so.{}.", toolchain.llvm);
    let entries = fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut names = entries.flatten().map(|entry| entry.file_name());
    let found = names.find(|name| name.to_string_lossy().starts_with(&versioned));
    let name = found.with_context(|| {
        format!(
            "{} has no {versioned}*: bpf-linker is built against the compiler's own LLVM. \
             Remedy: use rustup's toolchain, or put bpf-linker {VERSION} on the PATH",
            folder.display()
        )
    })?;
    Ok(folder.join(name))
}
