//! What a machine must have for a cluster, asked before half an hour is lost: what cannot be installed here is named with its remedy.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::sys::statvfs::statvfs;

use crate::machine;

use super::Lab;

const GIB: u64 = 1 << 30;
/// What building and a cluster of three nodes take in memory, with tests running.
const MEMORY: u64 = 4 * GIB;
/// What is built takes 11 GiB.
const DISK_TO_BUILD: u64 = 12 * GIB;
/// A cluster alone: three copies of the images, and its state.
const DISK_TO_RUN: u64 = 4 * GIB;
/// Since this release Go fetches by itself the newer one that a module asks for.
const GO: (u32, u32) = (1, 21);

/// For a cluster on this machine, made of these parts.
///
/// # Errors
/// Something is missing; the error says what, and what to do.
pub fn cluster(lab: &Lab, parts: &[&str]) -> Result<()> {
    machine::ready(&[])?;
    cgroups()?;
    memory()?;
    let built = lab.is_built(parts);
    disk(&lab.folder, if built { DISK_TO_RUN } else { DISK_TO_BUILD })?;
    if built { Ok(()) } else { go() }
}

/// For the tests alone, of the cluster of this kubeconfig.
///
/// # Errors
/// Something is missing; the error says what, and what to do.
pub fn tests(lab: &Lab, kubeconfig: &Path) -> Result<()> {
    // Like $KUBECONFIG, it may be a list.
    if !std::env::split_paths(kubeconfig).any(|file| file.is_file()) {
        bail!("KUBECONFIG={} names no file", kubeconfig.display());
    }
    if lab.is_built(&["tests"]) {
        return Ok(());
    }
    disk(&lab.folder, DISK_TO_BUILD)?;
    memory()?;
    go()
}

/// The nodes' cgroups hang below the caller's own, with processes at every level: cgroup2 with controllers does not have that.
fn cgroups() -> Result<()> {
    let folder = "/sys/fs/cgroup";
    let found = statfs(folder).with_context(|| format!("looking at {folder}"))?;
    if found.filesystem_type() == CGROUP2_SUPER_MAGIC {
        bail!(
            "{folder} is cgroup2 alone, and the cluster's nodes need cgroup v1. Remedy: start the machine with \
             systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=0, or test a cluster of yours: KUBECONFIG=…"
        );
    }
    Ok(())
}

fn memory() -> Result<()> {
    let path = "/proc/meminfo";
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let available = available(&text).with_context(|| format!("{path} has no line `MemAvailable: … kB`"))?;
    if available < MEMORY {
        bail!("{} of memory available, and {} are needed", gib(available), gib(MEMORY));
    }
    Ok(())
}

/// Bytes that /proc/meminfo calls available.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn disk(folder: &Path, needed: u64) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("making the lab's folder {}", folder.display()))?;
    let found = statvfs(folder).with_context(|| format!("looking at the disk of {}", folder.display()))?;
    let free = found.blocks_available() * found.fragment_size();
    if free < needed {
        bail!(
            "{} free in {}, and {} are needed. Remedy: name a folder on another disk, NETPATH_LAB=…",
            gib(free),
            folder.display(),
            gib(needed)
        );
    }
    Ok(())
}

fn gib(bytes: u64) -> String {
    format!("{}.{} GiB", bytes / GIB, bytes % GIB * 10 / GIB)
}

fn go() -> Result<()> {
    let remedy = format!(
        "Kubernetes and its tests are built by Go {}.{} or newer. Remedy: `apt-get install golang` from Debian 13 on, else https://go.dev/dl",
        GO.0, GO.1
    );
    let Ok(output) = Command::new("go").arg("version").output() else {
        bail!("there is no `go` on the PATH. {remedy}");
    };
    let text = String::from_utf8_lossy(&output.stdout);
    match go_release(&text) {
        Some(release) if release >= GO => Ok(()),
        _ => bail!("`go version` says `{}`. {remedy}", text.trim()),
    }
}

/// Major and minor of a line like `go version go1.26.8 linux/amd64`.
fn go_release(line: &str) -> Option<(u32, u32)> {
    let release = line.split_whitespace().nth(2)?.strip_prefix("go")?;
    let mut numbers = release.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_tells_its_release() {
        assert_eq!(go_release("go version go1.26.8 linux/amd64\n"), Some((1, 26)));
        assert_eq!(go_release("go version go1.19 linux/arm64"), Some((1, 19)));
        assert_eq!(go_release("go: unknown command"), None);
    }

    #[test]
    fn the_kernel_tells_what_memory_is_available() {
        let text = "MemTotal:       24616232 kB\nMemFree:         1024 kB\nMemAvailable:   2048 kB\n";
        assert_eq!(available(text), Some(2 << 20));
        assert_eq!(available("MemTotal: 1 kB"), None);
    }

    #[test]
    fn sizes_are_told_as_people_say_them() {
        assert_eq!(gib(12 * GIB), "12.0 GiB");
        assert_eq!(gib(GIB * 3 / 2), "1.5 GiB");
    }
}
