//! What netpath needs of the kernel and of its own rights, checked before anything is touched.

use std::fs;

use aya::util::KernelVersion;

use super::error::{Error, Result};

/// The capabilities that loading and attaching need, as bits of `linux/capability.h`.
const NEEDED: &[(u32, &str)] = &[(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];
/// The capability that stands for the last two.
const SYS_ADMIN: u32 = 21;

/// Checks the kernel's version and this process's capabilities.
///
/// # Errors
/// [`Error::Kernel`] with what is missing.
pub fn check() -> Result<()> {
    let version = KernelVersion::current().map_err(|error| Error::Kernel {
        what: format!("the kernel's version cannot be read: {error}"),
    })?;
    if version.code() < KernelVersion::new(6, 6, 0).code() {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        return Err(Error::Kernel {
            what: format!(
                "the kernel is Linux {}, and links of programs to devices (tcx) came with 6.6: start the node with that or a newer one",
                release.trim()
            ),
        });
    }
    let path = "/proc/self/status";
    let status = fs::read_to_string(path).map_err(|reason| Error::File {
        action: "read",
        path: path.into(),
        reason,
    })?;
    let missing = missing_capabilities(effective(&status).unwrap_or_default());
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Kernel {
        what: format!(
            "this process lacks {}: run it as root, or in a container that is given them, as in deploy/netpath.yaml",
            missing.join(", ")
        ),
    })
}

/// The effective capabilities that a `/proc/<pid>/status` names.
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn missing_capabilities(effective: u64) -> Vec<&'static str> {
    let has = |bit: u32| effective >> bit & 1 == 1;
    let granted = |bit: u32| has(bit) || (bit > SYS_ADMIN && has(SYS_ADMIN));
    NEEDED
        .iter()
        .filter(|(bit, _)| !granted(*bit))
        .map(|(_, name)| *name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_capability_is_named() {
        let status = "Name:\tx\nCapPrm:\tffffffffffffffff\nCapEff:\t0000000000001000\nCapBnd:\t0000000000000000\n";
        assert_eq!(effective(status), Some(1 << 12));
        assert_eq!(missing_capabilities(1 << 12), ["CAP_PERFMON", "CAP_BPF"]);
        assert_eq!(missing_capabilities(0), ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]);
        assert_eq!(missing_capabilities(1 << 12 | 1 << SYS_ADMIN), [""; 0]);
        assert_eq!(missing_capabilities(1 << 12 | 1 << 38 | 1 << 39), [""; 0]);
    }
}
