//! What an agent keeps on disk, and its lock. Of the state folder it uses `.agent` alone: every other name there is a
//! network of the CNI plugin's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// The lock's file below the run folder.
pub const LOCK: &str = "agent.lock";

/// The agent's own folder below the state folder.
pub fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join(".agent")
}

/// Makes the agent's own folder.
///
/// # Errors
/// It cannot be made; the text names it.
pub fn prepare(state_dir: &Path) -> io::Result<PathBuf> {
    let folder = folder(state_dir);
    fs::create_dir_all(&folder).map_err(|error| named(error, "create", &folder, "--state-dir"))?;
    Ok(folder)
}

/// Held for as long as this agent runs: two on one node would undo each other's work. The kernel releases it with the
/// process, however that ends.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock below the run folder.
    ///
    /// # Errors
    /// Another agent has it, or it cannot be made; the text says what to do.
    pub fn take(run_dir: &Path) -> io::Result<Self> {
        let path = run_dir.join(LOCK);
        let failed = |error| named(error, "open", &path, "--run-dir");
        fs::create_dir_all(run_dir).map_err(failed)?;
        let mut open = OpenOptions::new();
        open.read(true).write(true).create(true).truncate(false);
        let mut file = open.open(&path).map_err(failed)?;
        let mut holder = String::new();
        file.read_to_string(&mut holder).map_err(failed)?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((_, Errno::EWOULDBLOCK)) => {
                let text = format!(
                    "another netpath-agent runs on this node (process {}, {}): stop it first, or give a second node its own \
                     --run-dir, --state-dir and --bpf-root",
                    holder.trim(),
                    path.display()
                );
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
            }
            Err((_, error)) => return Err(failed(error.into())),
        };
        file.set_len(0).map_err(failed)?;
        let process = format!("{}\n", std::process::id());
        // Appended at the offset that reading left, were it not for this.
        io::Seek::rewind(&mut *file).map_err(failed)?;
        file.write_all(process.as_bytes()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// The seed of the programs' hashes: random, and the same over restarts, so that backends are chosen alike.
///
/// # Errors
/// It can be neither read nor made; the text names the file.
pub fn hash_seed(folder: &Path) -> io::Result<u32> {
    let path = folder.join("hash-seed");
    match fs::read_to_string(&path).map(|text| text.trim().parse()) {
        Ok(Ok(seed)) => return Ok(seed),
        // Somebody wrote something else there: as good as nothing.
        Ok(Err(_)) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(named(error, "read", &path, "--state-dir")),
    }
    let mut bytes = [0; 4];
    let random = Path::new("/dev/urandom");
    let read = File::open(random).and_then(|mut random| random.read_exact(&mut bytes));
    read.map_err(|error| io::Error::new(error.kind(), format!("cannot read {}: {error}", random.display())))?;
    let seed = u32::from_ne_bytes(bytes);
    fs::write(&path, format!("{seed}\n")).map_err(|error| named(error, "write", &path, "--state-dir"))?;
    Ok(seed)
}

fn named(error: io::Error, action: &str, path: &Path, flag: &str) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("cannot {action} {}: {error}; see {flag}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_agent_holds_the_lock_and_the_next_is_told_who() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).unwrap();
        let error = Lock::take(folder.path()).unwrap_err().to_string();
        let holder = format!(
            "another netpath-agent runs on this node (process {}, ",
            std::process::id()
        );
        assert!(error.starts_with(&holder) && error.contains("--run-dir"), "{error}");
        drop(first);
        Lock::take(folder.path()).unwrap();
    }

    #[test]
    fn the_seed_stays() {
        let state = tempfile::tempdir().unwrap();
        let folder = prepare(state.path()).unwrap();
        let seed = hash_seed(&folder).unwrap();
        assert_eq!(hash_seed(&folder).unwrap(), seed);
        fs::write(folder.join("hash-seed"), "none").unwrap();
        let anew = hash_seed(&folder).unwrap();
        assert_eq!(hash_seed(&folder).unwrap(), anew);
    }

    #[test]
    fn a_folder_that_cannot_be_is_named() {
        let state = tempfile::tempdir().unwrap();
        let file = state.path().join("file");
        fs::write(&file, "").unwrap();
        let error = prepare(&file).unwrap_err().to_string();
        assert!(
            error.contains("file/.agent") && error.contains("--state-dir"),
            "{error}"
        );
        assert!(Lock::take(&file).unwrap_err().to_string().contains("--run-dir"));
    }
}
