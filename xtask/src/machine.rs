//! What the machine itself must offer before anything runs on it: root, the BPF file system, a few Debian packages.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::unistd::geteuid;

use crate::progress;

const BPFFS: &str = "/sys/fs/bpf";

/// A program that is not ours, and why it is needed.
pub struct Need {
    /// The program, looked for on the PATH and where Debian keeps what root runs.
    pub program: &'static str,
    /// The Debian package that brings it.
    pub package: &'static str,
    /// What for.
    pub reason: &'static str,
}

/// Provides what namespaces, programs and maps take: root and the BPF file system, and the programs needed.
///
/// # Errors
/// Not root, the file system cannot be mounted, or a package cannot be installed; each says what to do.
pub fn ready(needs: &[Need]) -> Result<()> {
    root()?;
    bpffs()?;
    install(needs)
}

fn root() -> Result<()> {
    if !geteuid().is_root() {
        bail!(
            "this makes network namespaces and loads eBPF programs, so it needs root. Remedy: `sudo -E env PATH=\"$PATH\" cargo xtask …`"
        );
    }
    Ok(())
}

fn bpffs() -> Result<()> {
    if statfs(BPFFS).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC) {
        return Ok(());
    }
    progress::say(&format!(
        "mounting the BPF file system at {BPFFS}: pinned maps and programs live there"
    ));
    let none: Option<&str> = None;
    mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), none).with_context(|| {
        format!("mounting {BPFFS}: the kernel must have CONFIG_BPF_SYSCALL, and /sys must be mounted and writable")
    })
}

fn install(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !on_path(need.program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        progress::say(&format!(
            "{} is missing ({}): installing Debian's package {}",
            need.program, need.reason, need.package
        ));
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let remedy = || {
        let told = missing
            .iter()
            .map(|need| format!("{} ({})", need.program, need.reason))
            .collect::<Vec<_>>();
        format!(
            "missing on this machine: {}. Remedy: `apt-get install {}`",
            told.join(", "),
            packages.join(" ")
        )
    };
    let what = format!("apt-get install {}", packages.join(" "));
    if progress::watched(&what, apt_get("install").args(&packages)).is_err() {
        // Old or absent lists are the usual cause, on a fresh machine above all.
        progress::watched("apt-get update", &mut apt_get("update")).with_context(remedy)?;
        progress::watched(&what, apt_get("install").args(&packages)).with_context(remedy)?;
    }
    if missing.iter().all(|need| on_path(need.program)) {
        return Ok(());
    }
    bail!("apt-get installed {}, and yet it is {}", packages.join(" "), remedy())
}

fn apt_get(command: &str) -> Command {
    let mut apt_get = Command::new("apt-get");
    apt_get
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args([command, "--yes", "-o", "DPkg::Lock::Timeout=120"]);
    if command == "install" {
        apt_get.arg("--no-install-recommends");
    }
    apt_get
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let root_only = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(Into::into);
    let mut folders = std::env::split_paths(&path).chain(root_only);
    folders.any(|folder| Path::new(&folder).join(program).is_file())
}
