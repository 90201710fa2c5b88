//! What sysctls were before netpath changed them: written down before the first change, for the day when netpath leaves the
//! node. A record holds for one network namespace of one boot, since another begins with values of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use netpath_common::names::{BRIDGE_DEVICE, OVERLAY_DEVICE};
use serde::{Deserialize, Serialize};

use super::proc::{file, read, sysctl, write};
use super::{Error, Result};
use crate::family::{Family, V4, V6};

/// What makes every device of its family follow.
const FORWARD: [&str; 2] = [V4::FORWARD, V6::FORWARD];

/// A sysctl and the value it is given.
pub(super) type Setting = (String, &'static str);

/// The record, as it is in the file.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// The namespace that the values are of.
    namespace: String,
    /// By name below `/proc/sys/net`.
    changes: BTreeMap<String, Change>,
}

/// A sysctl's change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    before: String,
    since: String,
}

/// A sysctl that is not as it was before netpath, or would not be after the way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    name: String,
    /// Its value before.
    pub before: String,
    /// Whether it has that value now, and would lose it only with the way back.
    pub same: bool,
}

impl Changed {
    /// The sysctl's name, with dots.
    pub fn name(&self) -> String {
        format!("net.{}", self.name.replace('/', "."))
    }
}

/// Writes down what these settings are about to change, and was not changed before; of followers, which lose their values
/// once more on the way back, also what stays as it is. A sysctl that is not there, such as one of a device that has just
/// gone, is left out.
pub(super) fn remember(settings: &[Setting], followers: &[Setting], state: &Path) -> Result<()> {
    let mut record = recorded(state)?;
    let known = record.changes.len();
    for (name, value) in settings.iter().chain(followers).filter(|(name, _)| !is_own(name)) {
        let before = match read(name) {
            Err(Error::Sysctl { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
            before => before?,
        };
        let follows = followers.iter().any(|(follower, _)| follower == name);
        if (before != *value || follows) && !record.changes.contains_key(name) {
            let since = (*value).to_owned();
            record.changes.insert(name.clone(), Change { before, since });
        }
    }
    if record.changes.len() == known {
        return Ok(());
    }
    let path = path(state);
    let beside = path.with_extension("new");
    let text = serde_json::to_string_pretty(&record).map_err(|error| file(&path, error.into()))?;
    let written = fs::write(&beside, text + "\n").and_then(|()| fs::rename(&beside, &path));
    written.map_err(|error| file(&path, error))
}

/// The sysctls of this namespace that still have the values that netpath gave them, and had others before; those that
/// others follow first. What somebody else has changed since is left to them.
///
/// # Errors
/// The record or a sysctl cannot be read.
pub fn changed(state: &Path) -> Result<Vec<Changed>> {
    let mut changed = Vec::new();
    for (name, Change { before, since }) in recorded(state)?.changes {
        match read(&name) {
            Ok(present) if present == since => {
                let same = present == before;
                changed.push(Changed { name, before, same });
            }
            Err(Error::Sysctl { source, .. }) if source.kind() != io::ErrorKind::NotFound => {
                return Err(sysctl(&name, source));
            }
            _ => {}
        }
    }
    let is_first = |change: &Changed| FORWARD.contains(&change.name.as_str());
    changed.sort_by_key(|change| !is_first(change));
    let first = changed.iter().filter(|change| is_first(change));
    let follow: Vec<String> = first.map(|change| stack(&change.name).to_owned()).collect();
    changed.retain(|change| !change.same || follow.iter().any(|stack_of| *stack_of == stack(&change.name)));
    Ok(changed)
}

/// The family's folder that a sysctl is in.
fn stack(name: &str) -> &str {
    name.split('/').next().unwrap_or_default()
}

/// Gives a sysctl back the value that it had.
///
/// # Errors
/// It cannot be written.
pub fn restore(change: &Changed) -> Result<()> {
    write(&change.name, &change.before)
}

/// The file of the record.
fn path(state: &Path) -> PathBuf {
    state.join("sysctls.json")
}

/// The record of the calling thread's namespace; an empty one if there is none that is understood.
fn recorded(state: &Path) -> Result<Record> {
    let path = path(state);
    let namespace = namespace()?;
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        text => text.map_err(|error| file(&path, error))?,
    };
    let mut record: Record = serde_json::from_slice(&text).unwrap_or_default();
    if record.namespace != namespace {
        record = Record {
            namespace,
            changes: BTreeMap::new(),
        };
    }
    // A name leads to a file that is written to: none that was not made here.
    record
        .changes
        .retain(|name, _| [V4::SYSCTLS, V6::SYSCTLS].contains(&stack(name)) && !name.contains(".."));
    Ok(record)
}

/// What the calling thread's network namespace is called, in this boot alone.
fn namespace() -> Result<String> {
    let boot = Path::new("/proc/sys/kernel/random/boot_id");
    let link = Path::new("/proc/thread-self/ns/net");
    let id = fs::read_to_string(boot).map_err(|error| file(boot, error))?;
    let namespace = fs::read_link(link).map_err(|error| file(link, error))?;
    Ok(format!("{} {}", id.trim(), namespace.display()))
}

/// Whether the sysctl goes with a device of netpath's.
fn is_own(name: &str) -> bool {
    name.split('/')
        .any(|part| part == BRIDGE_DEVICE || part == OVERLAY_DEVICE)
}
