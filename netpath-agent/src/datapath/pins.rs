//! Where the kernel's state is pinned: `maps/<name>`, `programs/<hook>` and `links/<device>-<hook>`, with `cgroup` for the device
//! of sockets' hooks, below a root on a bpf filesystem.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use netpath_common::{hook::Hook, names};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::error::{Error, Result};

/// A root and the paths below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    root: PathBuf,
}

impl Default for Pins {
    fn default() -> Self {
        Self::new(names::BPF_ROOT)
    }
}

impl Pins {
    /// The paths below a root. Nothing is touched.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a map is pinned.
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps_dir().join(name)
    }

    /// Where a hook's program is pinned.
    pub fn program(&self, hook: Hook) -> PathBuf {
        self.programs_dir().join(hook.name())
    }

    /// Where the link of a hook's program to a device is pinned. A bpf filesystem takes no dot in a name, and a device no
    /// colon: the one stands for the other.
    pub fn link(&self, device: &str, hook: Hook) -> PathBuf {
        self.links_dir()
            .join(format!("{}-{}", device.replace('.', ":"), hook.name()))
    }

    /// The folder of the maps.
    pub fn maps_dir(&self) -> PathBuf {
        self.root.join(names::MAPS_DIR)
    }

    /// The folder of the programs.
    pub fn programs_dir(&self) -> PathBuf {
        self.root.join(names::PROGRAMS_DIR)
    }

    /// The folder of the links.
    pub fn links_dir(&self) -> PathBuf {
        self.root.join(names::LINKS_DIR)
    }

    /// Every link that is pinned, by device and hook, in that order. Other files are left out.
    ///
    /// # Errors
    /// [`Error::File`] if the folder is there and cannot be read.
    pub fn links(&self) -> Result<Vec<(String, Hook)>> {
        let files = files(&self.links_dir())?;
        let mut links: Vec<_> = files.iter().filter_map(|name| parse_link(name)).collect();
        links.sort();
        Ok(links)
    }

    /// The programs and links of hooks that this version does not have: another one's.
    ///
    /// # Errors
    /// [`Error::File`] if a folder is there and cannot be read.
    pub fn of_other_versions(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for folder in [self.programs_dir(), self.links_dir()] {
            let names = files(&folder)?.into_iter().filter(|name| is_unknown(name));
            found.extend(names.map(|name| folder.join(name)));
        }
        Ok(found)
    }

    /// Creates the folders.
    ///
    /// # Errors
    /// [`Error::NoBpffs`] if the root is elsewhere than on a bpf filesystem; [`Error::File`] if a folder cannot be made.
    pub fn prepare(&self) -> Result<()> {
        self.require_bpffs()?;
        for path in [self.maps_dir(), self.programs_dir(), self.links_dir()] {
            fs::create_dir_all(&path).map_err(|reason| Error::File {
                action: "create folder",
                path,
                reason,
            })?;
        }
        Ok(())
    }

    /// Checks that the root, or the nearest folder above it that exists, is on a bpf filesystem.
    ///
    /// # Errors
    /// [`Error::NoBpffs`], [`Error::File`].
    pub fn require_bpffs(&self) -> Result<()> {
        let existing = self.root.ancestors().find(|path| path.exists());
        let path = existing.unwrap_or(Path::new("/"));
        let failed = |error: nix::Error| Error::File {
            action: "look at",
            path: path.to_owned(),
            reason: error.into(),
        };
        if statfs(path).map_err(failed)?.filesystem_type() == BPF_FS_MAGIC {
            Ok(())
        } else {
            Err(Error::NoBpffs {
                root: self.root.clone(),
            })
        }
    }
}

/// The names of a folder's files; none if there is no such folder.
fn files(folder: &Path) -> Result<Vec<String>> {
    let failed = |reason| Error::File {
        action: "list",
        path: folder.to_owned(),
        reason,
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    Ok(names)
}

/// Whether a file is named as those of hooks are, but after none of ours. One with more behind a colon is on its way to its place.
fn is_unknown(name: &str) -> bool {
    let hook = name.rsplit_once('-').map_or(name, |(_, hook)| hook);
    let is_word = hook.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_word && Hook::ALL.iter().all(|known| known.name() != hook)
}

/// The device and hook that a link's file name says.
fn parse_link(name: &str) -> Option<(String, Hook)> {
    let (device, hook) = name.rsplit_once('-')?;
    let hook = Hook::ALL.iter().find(|candidate| candidate.name() == hook)?;
    (!device.is_empty()).then(|| (device.replace(':', "."), *hook))
}

/// Removes a pin, if it is there, and says whether it was.
///
/// # Errors
/// [`Error::File`].
pub fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(reason) => Err(Error::File {
            action: "remove",
            path: path.to_owned(),
            reason,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_s_name_leads_back_to_device_and_hook() {
        let pins = Pins::new("/sys/fs/bpf/x");
        for device in ["eth0", "netpath-vx", "bond0.100", "a-from_pod", "np0123456789a"] {
            for hook in Hook::ALL {
                let path = pins.link(device, *hook);
                let name = path.file_name().and_then(|name| name.to_str()).expect("a plain name");
                assert!(!name.contains('.'), "{name}");
                assert_eq!(parse_link(name), Some((device.to_owned(), *hook)));
            }
        }
    }

    #[test]
    fn other_files_are_no_links() {
        for name in ["", "eth0", "-from_pod", "eth0-from_pod:new", "eth0-nowhere"] {
            assert_eq!(parse_link(name), None, "{name}");
        }
    }

    #[test]
    fn what_another_version_pinned_is_told_apart() {
        for name in ["to_pod", "eth0-to_pod", "bond0:100-to_pod", "a-from_pod-to_pod"] {
            assert!(is_unknown(name), "{name}");
        }
        for name in [
            "from_pod",
            "eth0-from_pod",
            "eth0-from_pod:new",
            "to_pod:new",
            "cgroup-connect4",
        ] {
            assert!(!is_unknown(name), "{name}");
        }
    }

    #[test]
    fn a_root_elsewhere_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pins = Pins::new(folder.path().join("not/yet"));
        let error = pins.prepare().expect_err("not a bpf filesystem").to_string();
        assert!(error.contains("mount -t bpf bpf /sys/fs/bpf"), "{error}");
        assert!(error.contains(&pins.root().display().to_string()), "{error}");
        assert!(!pins.root().exists());
    }
}
