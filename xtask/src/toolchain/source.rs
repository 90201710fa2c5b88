//! The standard library's source, of exactly the compiler's version: rustup's component, else Debian's package of it.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Toolchain, debian};
use crate::progress;

/// Sees to it that the toolchain has its source.
///
/// # Errors
/// Neither way worked. The error says what each of them answered, and the command that would mend it.
pub fn provide(toolchain: &Toolchain) -> Result<()> {
    if toolchain.has_source() {
        return Ok(());
    }
    let from_rustup = component();
    if toolchain.has_source() {
        return Ok(());
    }
    let refused = match from_rustup {
        Ok(()) => anyhow::anyhow!(
            "it says it is installed, but {} is not there",
            toolchain.source().display()
        ),
        Err(error) => error,
    };
    progress::say("rustup has no rust-src component to give here: trying Debian's package rust-src");
    let from_debian = package(toolchain);
    if toolchain.has_source() {
        return Ok(());
    }
    let failed = match from_debian {
        Ok(()) => anyhow::anyhow!("its content is not what was expected"),
        Err(error) => error,
    };
    bail!(
        "the standard library's source for rustc {version} is missing at {place}: \
         the eBPF programs need it to build core.\n\
         rustup component add rust-src: {refused:#}\n\
         Debian's package rust-src {version}: {failed:#}\n\
         Remedy: run `rustup component add rust-src`, or copy the folder `library` of Rust's source {version} there.",
        version = toolchain.release,
        place = toolchain.source().display(),
    )
}

fn component() -> Result<()> {
    let mut rustup = Command::new("rustup");
    progress::watched(
        "rustup component add rust-src",
        rustup.args(["component", "add", "rust-src"]).env("RUST_BACKTRACE", "0"),
    )?;
    Ok(())
}

fn package(toolchain: &Toolchain) -> Result<()> {
    // A release such as 1.97.0-nightly has no package of its own.
    if toolchain.release.contains('-') {
        bail!("Debian has released versions only");
    }
    let unpacked = debian::unpack("rust-src", &toolchain.release)?;
    let library = unpacked
        .content()
        .join(format!("usr/src/rustc-{}/library", toolchain.release));
    let place = toolchain.source();
    let parent = place.parent().context("the sysroot has no folder for sources")?;
    fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    // Copied beside its place and renamed: whoever looks meanwhile sees all of it or nothing.
    let fresh = parent.join(format!("library.{}", std::process::id()));
    let mut copy = Command::new("cp");
    let copied = progress::watched(
        "copying the standard library's source",
        copy.arg("-a").arg(&library).arg(&fresh),
    );
    let moved =
        copied.and_then(|_| fs::rename(&fresh, &place).with_context(|| format!("creating {}", place.display())));
    if moved.is_err() {
        fs::remove_dir_all(&fresh).ok();
    }
    moved
}
