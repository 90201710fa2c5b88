//! Addresses: who has which. `<stateDir>/<network>/` holds one file for each address in use, named by the address, with the
//! attachment that has it inside; a pod with an address of each family has one file under two names. There is no daemon and no index: the folder is the truth, and the file system decides
//! races.
//!
//! A file is written under another name and then linked to its own: `link` fails if there is one, and a file that exists is
//! complete. Only under the folder's lock is a file ever removed. Each file records the boot it belongs to; after a reboot
//! no pod is left, and whatever another boot wrote is free. A file that cannot be read was torn by a loss of power, so it
//! is another boot's, too.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    net::IpAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    error::{Code, Error},
    names::Attachment,
    pool::{Pool, candidates, exhausted, families},
    record::Record,
};

/// The last address of each family that was given out: the next one comes after it, so that an address rests before it is
/// used again. They are the target of a symbolic link that leads nowhere: a file that is replaced is written to the disk first, and that can
/// take longer than all the rest.
const LAST: &str = ".last";
/// The folder's lock: whoever removes files holds it.
const LOCK: &str = ".lock";
/// Files under way, until they are linked to their names: `.new-<device>-<process>-<what>`.
const NEW: &str = ".new-";
/// More than a record can be long; what is longer was not written by the plugin.
const MAX_RECORD: u64 = 64 << 10;

/// The addresses of a network.
#[derive(Clone, Debug)]
pub struct Addresses {
    folder: PathBuf,
    boot_id: String,
}

/// Addresses that were just given out, one of each family. As long as it is held, [`Addresses::is_under_way`] says so to
/// other processes.
#[derive(Debug)]
pub struct Reservation {
    /// Each address, with the subnet that it is of.
    pub given: Vec<(Pool, IpAddr)>,
    _held: File,
}

impl Reservation {
    /// The addresses.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.given.iter().map(|(_, address)| *address).collect()
    }
}

/// The kernel's name for the time since it started.
///
/// # Errors
/// [`Code::Io`].
pub fn boot_id() -> Result<String, Error> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = fs::read_to_string(path).map_err(|error| failed("read", path, &error))?;
    Ok(text.trim().to_owned())
}

impl Addresses {
    /// The addresses of a network, which need not have any yet. `network` must be an identifier. Nothing is touched.
    pub fn new(state_dir: &Path, network: &str, boot_id: impl Into<String>) -> Self {
        Self {
            folder: state_dir.join(network),
            boot_id: boot_id.into(),
        }
    }

    /// Gives out an address of each family to `record`, whose boot is set.
    ///
    /// # Errors
    /// [`Code::TryAgain`] if a family has none that is free: the condition passes when a pod goes. [`Code::Io`]. Nothing is
    /// given out then.
    pub fn reserve(&self, pools: &[Pool], mut record: Record) -> Result<Reservation, Error> {
        fs::create_dir_all(&self.folder).map_err(|error| failed("create", &self.folder, &error))?;
        record.boot_id.clone_from(&self.boot_id);
        let last = self.last();
        if last.as_ref().is_none_or(|(boot_id, _)| *boot_id != self.boot_id) {
            self.forget_other_boots()?;
        }
        let attachment = record.attachment();
        let (staged, held) = Staged::write(self.staged(&attachment, "address"), &record)?;
        let last = last.map(|(_, addresses)| addresses).unwrap_or_default();
        let mut given = Vec::new();
        for pools in families(pools) {
            let last = last.iter().find(|last| last.is_ipv4() == pools[0].gateway.is_ipv4());
            let found = self.give(&pools, last.copied(), &staged.0).and_then(|found| {
                let none = || {
                    Error::new(Code::TryAgain, exhausted(&pools))
                        .details("delete pods on this node, or give the node a larger or a second pod subnet")
                };
                found.ok_or_else(none)
            });
            match found {
                Ok(found) => given.push(found),
                Err(error) => {
                    let given: Vec<IpAddr> = given.into_iter().map(|(_, address)| address).collect();
                    self.take_back(&attachment, &given)?;
                    return Err(error);
                }
            }
        }
        let reservation = Reservation { given, _held: held };
        self.remember(&reservation.addresses(), &attachment);
        Ok(reservation)
    }

    /// Gives the file the name of an address of one family; `None` if none is free.
    fn give(&self, pools: &[Pool], last: Option<IpAddr>, file: &Path) -> Result<Option<(Pool, IpAddr)>, Error> {
        match self.link_first(pools, last, file)? {
            // Files that another boot tore or left since the last address was given out.
            None if self.forget_other_boots()? > 0 => self.link_first(pools, last, file),
            found => Ok(found),
        }
    }

    /// Links the file to the first address after `last` that nobody has.
    fn link_first(&self, pools: &[Pool], last: Option<IpAddr>, file: &Path) -> Result<Option<(Pool, IpAddr)>, Error> {
        let taken: HashSet<IpAddr> = self.names()?.into_iter().collect();
        for (pool, address) in candidates(pools, last) {
            if taken.contains(&address) {
                continue;
            }
            let path = self.path(address);
            match fs::hard_link(file, &path) {
                Ok(()) => return Ok(Some((pool, address))),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("create", &path, &error)),
            }
        }
        Ok(None)
    }

    /// Every address in use, with whose it is, in order. What another boot left is not in it.
    ///
    /// # Errors
    /// [`Code::Io`].
    pub fn records(&self) -> Result<Vec<(IpAddr, Record)>, Error> {
        let mut records = Vec::new();
        for address in self.names()? {
            match self.read(address)? {
                Some(record) if record.boot_id == self.boot_id => records.push((address, record)),
                _ => {}
            }
        }
        records.sort_by_key(|(address, _)| *address);
        Ok(records)
    }

    /// The addresses of an attachment: one of each family, or none.
    ///
    /// # Errors
    /// [`Code::Io`].
    pub fn of(&self, attachment: &Attachment) -> Result<Vec<(IpAddr, Record)>, Error> {
        Ok(self
            .records()?
            .into_iter()
            .filter(|(_, record)| record.attachment() == *attachment)
            .collect())
    }

    /// Takes every address of an attachment back, and what an ADD of it that was killed has left.
    ///
    /// # Errors
    /// [`Code::Io`].
    pub fn release(&self, attachment: &Attachment) -> Result<(), Error> {
        if !self.folder.exists() {
            return Ok(());
        }
        let _lock = self.lock()?;
        for address in self.names()? {
            if self
                .read(address)?
                .is_some_and(|record| record.attachment() == *attachment)
            {
                remove(&self.path(address))?;
            }
        }
        let under_way = staged_prefix(attachment);
        for name in self.files()? {
            if name.starts_with(&under_way) {
                remove(&self.folder.join(name))?;
            }
        }
        Ok(())
    }

    /// Takes back addresses that an ADD of this attachment has just been given.
    ///
    /// # Errors
    /// [`Code::Io`].
    pub fn take_back(&self, attachment: &Attachment, addresses: &[IpAddr]) -> Result<(), Error> {
        let _lock = self.lock()?;
        for address in addresses {
            if self
                .read(*address)?
                .is_some_and(|record| record.attachment() == *attachment)
            {
                remove(&self.path(*address))?;
            }
        }
        Ok(())
    }

    /// How many addresses of a family are free. Reads no more than it must: STATUS asks every few seconds.
    ///
    /// # Errors
    /// [`Code::Io`].
    pub fn free(&self, pools: &[Pool]) -> Result<u128, Error> {
        let all: u128 = pools.iter().map(Pool::capacity).sum();
        let ours = |address: &IpAddr| pools.iter().any(|pool| pool.gives(*address));
        let in_use = self.names()?.iter().filter(|address| ours(address)).count() as u128;
        if in_use < all {
            return Ok(all - in_use);
        }
        let in_use = self.records()?.iter().filter(|(address, _)| ours(address)).count() as u128;
        Ok(all.saturating_sub(in_use))
    }

    /// Whether an ADD that has this address is still running.
    ///
    /// # Errors
    /// [`Code::Io`].
    pub fn is_under_way(&self, address: IpAddr) -> Result<bool, Error> {
        let path = self.path(address);
        match File::open(&path) {
            Ok(file) => match file.try_lock() {
                Ok(()) => Ok(false),
                Err(fs::TryLockError::WouldBlock) => Ok(true),
                Err(fs::TryLockError::Error(error)) => Err(failed("lock", &path, &error)),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("open", &path, &error)),
        }
    }

    /// Removes what other boots left, and says how much it was.
    fn forget_other_boots(&self) -> Result<usize, Error> {
        let _lock = self.lock()?;
        let mut forgotten = 0;
        for address in self.names()? {
            if self.read(address)?.is_none_or(|record| record.boot_id != self.boot_id) {
                remove(&self.path(address))?;
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }

    /// The boot and the addresses that were last given out, if that is known. It is a hint: nothing breaks without it.
    fn last(&self) -> Option<(String, Vec<IpAddr>)> {
        let target = fs::read_link(self.folder.join(LAST)).ok()?;
        let (boot_id, addresses) = target.to_str()?.rsplit_once('/')?;
        let addresses = addresses.split(',').map(str::parse).collect::<Result<_, _>>();
        Some((boot_id.to_owned(), addresses.ok()?))
    }

    /// Without the hint an address may be used again sooner than need be, and that is all: errors do not matter.
    fn remember(&self, addresses: &[IpAddr], attachment: &Attachment) {
        let staged = Staged(self.staged(attachment, "last"));
        let _ = fs::remove_file(&staged.0);
        let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        let target = format!("{}/{}", self.boot_id, addresses.join(","));
        if symlink(target, &staged.0).is_ok() {
            let _ = fs::rename(&staged.0, self.folder.join(LAST));
        }
    }

    /// The addresses that have a file, complete or not.
    fn names(&self) -> Result<Vec<IpAddr>, Error> {
        Ok(self.files()?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn files(&self) -> Result<Vec<String>, Error> {
        let listed = |error| failed("list", &self.folder, &error);
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(listed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(listed)?;
            if entry.file_type().is_ok_and(|kind| !kind.is_dir()) {
                names.extend(entry.file_name().into_string().ok());
            }
        }
        Ok(names)
    }

    /// An address's record; none if it has no file, or one that is torn.
    fn read(&self, address: IpAddr) -> Result<Option<Record>, Error> {
        let path = self.path(address);
        match read_bounded(&path) {
            Ok(json) => Ok(serde_json::from_slice(&json).ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path, &error)),
        }
    }

    fn path(&self, address: IpAddr) -> PathBuf {
        self.folder.join(address.to_string())
    }

    fn staged(&self, attachment: &Attachment, what: &str) -> PathBuf {
        self.folder
            .join(format!("{}{}-{what}", staged_prefix(attachment), std::process::id()))
    }

    /// Whoever removes addresses, or writes hostPorts, holds this; none if the network has never had an address.
    ///
    /// # Errors
    /// [`Code::Io`].
    pub fn lock_if_any(&self) -> Result<Option<File>, Error> {
        self.folder.exists().then(|| self.lock()).transpose()
    }

    fn lock(&self) -> Result<File, Error> {
        let path = self.folder.join(LOCK);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|error| failed("open", &path, &error))?;
        file.lock().map_err(|error| failed("lock", &path, &error))?;
        Ok(file)
    }
}

/// A name for files under way. The name goes when this is dropped; what it was linked to stays.
struct Staged(PathBuf);

impl Staged {
    /// Writes a complete file under a name that nobody looks at. Whoever has the file open holds its lock.
    fn write(path: PathBuf, content: &impl Serialize) -> Result<(Self, File), Error> {
        // A process of the same number may have been killed here: its file is nobody's.
        remove(&path)?;
        let json = serde_json::to_vec(content).map_err(|error| Error::new(Code::Internal, error.to_string()))?;
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let mut file = file.map_err(|error| failed("create", &path, &error))?;
        let staged = Self(path);
        // Nobody else knows the file yet, so the lock is there before anyone could ask for it.
        let written = file.lock_shared().and_then(|()| file.write_all(&json));
        written.map_err(|error| failed("write", &staged.0, &error))?;
        Ok((staged, file))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // DEL removes what stays.
        let _ = fs::remove_file(&self.0);
    }
}

/// What the names of an attachment's files under way begin with.
fn staged_prefix(attachment: &Attachment) -> String {
    format!("{NEW}{}-", attachment.device())
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(MAX_RECORD).read_to_end(&mut content)?;
    Ok(content)
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path, &error)),
        _ => Ok(()),
    }
}

fn failed(action: &str, path: &Path, error: &std::io::Error) -> Error {
    let remedy = match error.kind() {
        ErrorKind::PermissionDenied => "; the plugin must run as root",
        ErrorKind::ReadOnlyFilesystem => "; name a writable folder as stateDir",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; make room on that file system",
        _ => "",
    };
    Error::new(Code::Io, format!("cannot {action} {}", path.display())).details(format!("{error}{remedy}"))
}

#[cfg(test)]
mod tests;
