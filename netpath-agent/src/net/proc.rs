//! Sysctls as files below `/proc/sys/net`, which shows those of the reading thread's namespace.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Error, Result};

/// Whether the node forwards; a write makes every device follow.
pub(super) const FORWARD: &str = "ipv4/ip_forward";

pub(super) fn path(name: &str) -> PathBuf {
    Path::new("/proc/sys/net").join(name)
}

pub(super) fn read(name: &str) -> Result<String> {
    let text = fs::read_to_string(path(name)).map_err(|source| sysctl(name, source))?;
    Ok(text.trim().to_owned())
}

pub(super) fn write(name: &str, value: &str) -> Result<()> {
    // An empty list is written as a newline: a write of no bytes changes nothing.
    fs::write(path(name), format!("{value}\n")).map_err(|source| sysctl(name, source))
}

pub(super) fn sysctl(name: &str, source: std::io::Error) -> Error {
    Error::Sysctl {
        name: format!("net.{}", name.replace('/', ".")),
        source,
    }
}

pub(super) fn file(path: &Path, source: std::io::Error) -> Error {
    Error::Kernel {
        action: format!("file {}", path.display()),
        source,
    }
}
