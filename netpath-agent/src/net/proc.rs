//! Sysctls as files below `/proc/sys/net`, which shows those of the reading thread's namespace.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use super::{Error, Result};

/// Where the kernel shows them.
pub const PROC_SYS_NET: &str = "/proc/sys/net";

/// Where this process finds them, if not there. One for the process, as the files are one for the namespace.
static MOUNTED: OnceLock<PathBuf> = OnceLock::new();

/// From now on sysctls are read and written below this folder: a container sees `/proc/sys` read-only, and the node's
/// [`PROC_SYS_NET`] where it is mounted for it. The first call counts.
pub fn mounted_at(folder: &Path) {
    let _ = MOUNTED.set(folder.to_owned());
}

pub(super) fn path(name: &str) -> PathBuf {
    MOUNTED
        .get()
        .map_or(Path::new(PROC_SYS_NET), PathBuf::as_path)
        .join(name)
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
