//! The binaries that must lie on the node itself: the plugin, which the container runtime runs, and the operator's command.
//! A container with the node's folder mounted puts them there, from beside its own, and notes for the agent where the kubelet
//! finds the API server ([`server`]).

pub mod server;

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// What is installed.
pub const BINARIES: [&str; 2] = ["netpath-cni", "netpath"];

/// What became of a binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it had to be written.
    pub written: bool,
}

/// Brings the [`BINARIES`] from one folder to another. Each is written beside its place and renamed: a runtime that starts the
/// plugin meanwhile has the old one or the new one, whole. One that is there already is left as it is.
///
/// # Errors
/// A file cannot be read or written; the text names it. Those before it are in place.
pub fn install(from: &Path, to: &Path) -> io::Result<Vec<Installed>> {
    fs::create_dir_all(to).map_err(|error| named(error, "create the folder", to))?;
    BINARIES.iter().map(|name| one(&from.join(name), to, name)).collect()
}

fn one(source: &Path, to: &Path, name: &str) -> io::Result<Installed> {
    let path = to.join(name);
    if same(source, &path).map_err(|error| named(error, "read", source))? {
        return Ok(Installed { path, written: false });
    }
    // Runtimes look for plugins by their names, and none has this one.
    let beside = to.join(format!(".{name}.new"));
    let write = || {
        let mut file = File::create(&beside)?;
        io::copy(&mut File::open(source)?, &mut file)?;
        file.set_permissions(fs::Permissions::from_mode(0o755))?;
        file.flush()?;
        // After a crash the name must not stand for an empty file.
        file.sync_all()?;
        fs::rename(&beside, &path)
    };
    write().map_err(|error| {
        // A full disk must not keep half a binary as well.
        let _ = fs::remove_file(&beside);
        named(error, "write", &path)
    })?;
    Ok(Installed { path, written: true })
}

/// Whether two files have the same bytes, and the second may be run by all.
fn same(source: &Path, path: &Path) -> io::Result<bool> {
    let mut source = File::open(source)?;
    let Ok(mut present) = File::open(path) else {
        return Ok(false);
    };
    let (wanted, found) = (source.metadata()?, present.metadata()?);
    if !found.is_file() || found.len() != wanted.len() || found.permissions().mode() & 0o777 != 0o755 {
        return Ok(false);
    }
    let (mut one, mut other) = (Vec::new(), Vec::new());
    source.read_to_end(&mut one)?;
    present.read_to_end(&mut other)?;
    Ok(one == other)
}

fn named(error: io::Error, action: &str, path: &Path) -> io::Error {
    let text = format!("cannot {action} {}: {error}", path.display());
    io::Error::new(error.kind(), text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn folders() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("image"), folder.path().join("opt/cni/bin"));
        fs::create_dir(&from).unwrap();
        for name in BINARIES {
            fs::write(from.join(name), format!("this is {name}")).unwrap();
        }
        (folder, from, to)
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn binaries_are_written_whole_and_once() {
        let (_folder, from, to) = folders();
        fs::create_dir_all(&to).unwrap();
        fs::write(to.join("bridge"), "a stranger").unwrap();
        fs::write(to.join("netpath-cni"), "an older one").unwrap();
        // A runtime that runs the older one keeps it: its file is another than the new one's.
        let running = File::open(to.join("netpath-cni")).unwrap();
        let written = |installed: Vec<Installed>| installed.iter().map(|one| one.written).collect::<Vec<_>>();
        assert_eq!(written(install(&from, &to).unwrap()), [true, true]);
        assert_eq!(names(&to), ["bridge", "netpath", "netpath-cni"]);
        let present = fs::metadata(to.join("netpath-cni")).unwrap();
        assert_eq!(present.permissions().mode() & 0o777, 0o755);
        assert_ne!(present.ino(), running.metadata().unwrap().ino());
        assert_eq!(
            fs::read_to_string(to.join("netpath-cni")).unwrap(),
            "this is netpath-cni"
        );

        assert_eq!(written(install(&from, &to).unwrap()), [false, false]);
        assert_eq!(fs::metadata(to.join("netpath-cni")).unwrap().ino(), present.ino());
        fs::set_permissions(to.join("netpath"), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(written(install(&from, &to).unwrap()), [false, true]);
    }

    #[test]
    fn what_fails_is_named_and_leaves_the_old_one() {
        let (_folder, from, to) = folders();
        install(&from, &to).unwrap();
        fs::write(from.join("netpath-cni"), "a newer one").unwrap();
        // In the way of the file that is written first.
        fs::create_dir(to.join(".netpath-cni.new")).unwrap();
        let error = install(&from, &to).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot write {}/netpath-cni: ", to.display())),
            "{error}"
        );
        assert_eq!(
            fs::read_to_string(to.join("netpath-cni")).unwrap(),
            "this is netpath-cni"
        );
        fs::remove_file(from.join("netpath-cni")).unwrap();
        let error = install(&from, &to).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot read {}/netpath-cni: ", from.display())),
            "{error}"
        );
    }
}
