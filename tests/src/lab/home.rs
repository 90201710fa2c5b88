//! A lab's name and all that is filed under it: namespaces `<name>-…`, `/sys/fs/bpf/lab-<name>`, a folder in `/run`. A lock
//! tells a running lab from one that was killed, whose remains the next lab takes away.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Seek, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::statfs::{BPF_FS_MAGIC, statfs},
    unistd::geteuid,
};

use super::{interrupt, namespace};

const LABS: &str = "/run/netpath-lab";
const BPFFS: &str = "/sys/fs/bpf";
/// Without a dash, so that no lab's namespaces `<name>-…` look like another's.
const LONGEST_NAME: usize = 20;

/// Labs of this process, for [`abandon`].
static LIVE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// A claimed name. Dropping it removes everything that is filed under it.
#[derive(Debug)]
pub struct Home {
    name: String,
    _lock: Flock<File>,
}

impl Home {
    /// Claims `name`, and takes away what labs that were killed have left.
    ///
    /// # Errors
    /// Not root, no BPF file system, or another lab runs under this name.
    pub fn claim(name: &str) -> Result<Self> {
        if name.is_empty()
            || name.len() > LONGEST_NAME
            || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        {
            bail!("`{name}` cannot name a lab: take 1 to {LONGEST_NAME} letters a-z and digits");
        }
        if !geteuid().is_root() {
            bail!("the lab makes network namespaces and loads BPF programs: run it as root");
        }
        let bpffs = statfs(BPFFS).with_context(|| format!("{BPFFS} is not there"))?;
        if bpffs.filesystem_type() != BPF_FS_MAGIC {
            bail!("no BPF file system at {BPFFS}: mount -t bpf bpf {BPFFS}");
        }
        interrupt::listen()?;
        let lock = match lock(name)? {
            Ok(lock) => lock,
            Err(holder) => bail!(
                "a lab named {name} runs already (process {holder}), with the namespaces {name}-n1, …: stop that one \
                 first, or give this one a name of its own with --name"
            ),
        };
        // Registered before the first thing is made, so that a signal in between leaves nothing.
        live().insert(name.to_owned());
        let home = Self {
            name: name.to_owned(),
            _lock: lock,
        };
        sweep_dead(name)?;
        fs::create_dir_all(home.folder()).with_context(|| format!("cannot create {}", home.folder().display()))?;
        Ok(home)
    }

    /// Claims a name that no other lab has: `np<process>x<count>`.
    ///
    /// # Errors
    /// As [`Self::claim`].
    pub fn unique() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        Self::claim(&format!(
            "np{}x{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        ))
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A folder for files.
    pub fn folder(&self) -> PathBuf {
        folder(&self.name)
    }

    /// Where this lab's maps, programs and links are pinned, a folder a node.
    pub fn bpf_root(&self) -> PathBuf {
        bpf_root(&self.name)
    }

    /// The name of a namespace of this lab.
    pub fn namespace(&self, short: &str) -> String {
        format!("{}-{short}", self.name)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(error) = sweep(&self.name) {
            eprintln!("lab {}: {error:#}", self.name);
        }
        live().remove(&self.name);
    }
}

/// Removes all labs of this process, whatever holds them. For the way out on a signal, where no destructor runs.
pub fn abandon() {
    for name in live().iter() {
        if let Err(error) = sweep(name) {
            eprintln!("lab {name}: {error:#}");
        }
    }
}

fn live() -> std::sync::MutexGuard<'static, BTreeSet<String>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn folder(name: &str) -> PathBuf {
    Path::new(LABS).join(name)
}

fn lock_file(name: &str) -> PathBuf {
    Path::new(LABS).join(format!("{name}.lock"))
}

fn bpf_root(name: &str) -> PathBuf {
    Path::new(BPFFS).join(format!("lab-{name}"))
}

/// Takes the lock of a name, or tells the process that has it.
fn lock(name: &str) -> Result<Result<Flock<File>, String>> {
    let path = lock_file(name);
    let mut patience = 10;
    loop {
        // The last lab to end removes the folder.
        fs::create_dir_all(LABS).with_context(|| format!("cannot create {LABS}"))?;
        let file = match OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
        {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            file => file.with_context(|| format!("cannot open {}", path.display()))?,
        };
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut held) => {
                // The lab that had it may have removed the file between our open and our lock.
                match fs::metadata(&path) {
                    Ok(there) if there.ino() == held.metadata()?.ino() => {}
                    _ => continue,
                }
                held.set_len(0)?;
                held.rewind()?;
                write!(held, "{}", std::process::id())?;
                return Ok(Ok(held));
            }
            // A lab that starts looks for dead ones, and holds for a moment a lock that nobody had taken yet.
            Err((_, Errno::EWOULDBLOCK)) if patience > 0 => {
                patience -= 1;
                thread::sleep(Duration::from_millis(20));
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder)?;
                return Ok(Err(holder));
            }
            Err((_, errno)) => return Err(errno).with_context(|| format!("cannot lock {}", path.display())),
        }
    }
}

/// Removes the remains of labs whose process is gone, and those of `mine`.
fn sweep_dead(mine: &str) -> Result<()> {
    for entry in fs::read_dir(LABS).with_context(|| format!("cannot list {LABS}"))? {
        let file_name = entry?.file_name();
        let Some(name) = file_name.to_str().and_then(|name| name.strip_suffix(".lock")) else {
            continue;
        };
        if name != mine
            && let Ok(_dead) = lock(name)?
        {
            sweep(name)?;
        }
    }
    remove(contents(mine))
}

fn contents(name: &str) -> [Result<()>; 3] {
    [
        namespace::remove_all(&format!("{name}-")),
        remove_folder(&bpf_root(name)),
        remove_folder(&folder(name)),
    ]
}

/// Removes everything under a name whose lock the caller holds, the lock last.
fn sweep(name: &str) -> Result<()> {
    remove(contents(name))?;
    match fs::remove_file(lock_file(name)) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", lock_file(name).display()))
        }
        _ => {
            // Only the last lab gets it empty.
            let _ = fs::remove_dir(LABS);
            Ok(())
        }
    }
}

/// Goes on past an error and reports the first.
fn remove<const N: usize>(results: [Result<()>; N]) -> Result<()> {
    results.into_iter().collect()
}

fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
