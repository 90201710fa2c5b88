//! State carried from a map to its successor when a map's size or layout changes. It happens twice: before the programs
//! move, so that the new ones find every pod, and after, for what the CNI plugin wrote in between; with another version of
//! the layouts also for what the old programs did.

use std::{collections::HashSet, io, os::fd::AsFd, path::Path};

use aya::maps::{MapData, MapType};
use nix::libc;

use super::{
    error::{Error, Result, chain, errno},
    object::Layout,
    sizes,
    sys::{self, Entries},
};

/// The layout of the map that is pinned at a path; `None` if none is.
///
/// # Errors
/// [`Error::Map`] if something else is there.
pub fn pinned_layout(map: &'static str, path: &Path) -> Result<Option<(MapData, Layout)>> {
    let failed = |error| Error::Map {
        action: "look at",
        map,
        path: path.to_owned(),
        reason: chain(&error),
    };
    let data = match MapData::from_pin(path) {
        Ok(data) => data,
        Err(error) if errno(&error) == Some(libc::ENOENT) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let info = data.info().map_err(failed)?;
    let layout = Layout {
        kind: info.map_type().map_err(failed)? as u32,
        key: info.key_size(),
        value: info.value_size(),
        entries: info.max_entries(),
        flags: info.map_flags(),
    };
    Ok(Some((data, layout)))
}

/// Whether a pinned map serves the new programs too: nothing differs, or nothing but the room in a map that programs write
/// to, which are those that evict.
pub fn serves_on(found: &Layout, wanted: &Layout) -> bool {
    let entries = match wanted.kind {
        kind if kind == MapType::LruHash as u32 => found.entries,
        _ => wanted.entries,
    };
    *found == Layout { entries, ..*wanted }
}

/// Whether what a map holds means the same in another: all but the room is equal. Per-CPU maps hold counters alone, which
/// start anew.
pub fn is_successor(old: &Layout, new: &Layout) -> bool {
    let plain = [MapType::Array, MapType::Hash, MapType::LruHash, MapType::LpmTrie].map(|kind| kind as u32);
    old.key == new.key && old.value == new.value && plain.contains(&old.kind) && plain.contains(&new.kind)
}

/// A map and its successor.
pub struct Carry {
    map: &'static str,
    old: MapData,
    new: MapData,
    layout: Layout,
    first: Entries,
}

impl Carry {
    /// Copies all that the old map holds.
    ///
    /// # Errors
    /// [`Error::TooSmall`], [`Error::Map`].
    pub fn begin(map: &'static str, old: MapData, new: &Path, layout: Layout) -> Result<Self> {
        let opened = MapData::from_pin(new).map_err(|error| Error::Map {
            action: "open",
            map,
            path: new.to_owned(),
            reason: chain(&error),
        })?;
        let mut carry = Self {
            map,
            old,
            new: opened,
            layout,
            first: Entries::default(),
        };
        carry.first = carry.dump()?;
        let (key, _) = carry.widths();
        let held = carry.first.keys.len() / key;
        let written = sys::store(carry.new.fd().as_fd(), &carry.first.keys, &carry.first.values, held, 0);
        written.map_err(|(_, error)| carry.refused(held, &error))?;
        Ok(carry)
    }

    /// How many entries the old map held.
    pub fn len(&self) -> usize {
        self.first.keys.len() / self.widths().0
    }

    /// Brings over what came and went since the beginning. An entry that only changed meanwhile keeps its old value: of a
    /// connection that is its age, which its next packet sets right.
    ///
    /// # Errors
    /// [`Error::TooSmall`], [`Error::Map`].
    pub fn finish(self) -> Result<()> {
        let (key, value) = self.widths();
        let now = self.dump()?;
        let before: HashSet<&[u8]> = self.first.keys.chunks_exact(key).collect();
        for (key, value) in now.keys.chunks_exact(key).zip(now.values.chunks_exact(value)) {
            if before.contains(key) {
                continue;
            }
            match sys::store(self.new.fd().as_fd(), key, value, 1, 1) {
                // The new programs know it already.
                Err((_, error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
                written => written.map_err(|(_, error)| self.refused(now.keys.len() / key.len(), &error))?,
            }
        }
        let after: HashSet<&[u8]> = now.keys.chunks_exact(key).collect();
        for key in before.difference(&after) {
            match sys::delete(self.new.fd().as_fd(), key) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.failed(&error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn widths(&self) -> (usize, usize) {
        (self.layout.key as usize, self.layout.value as usize)
    }

    fn dump(&self) -> Result<Entries> {
        let (key, value) = self.widths();
        sys::dump(self.old.fd().as_fd(), key, value).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> Error {
        Error::Load {
            what: format!("what map {} held before", self.map),
            reason: error.to_string(),
        }
    }

    /// The new map does not take what the old one holds.
    fn refused(&self, held: usize, error: &io::Error) -> Error {
        match error.raw_os_error() {
            Some(libc::E2BIG | libc::ENOMEM | libc::ENOSPC) => Error::TooSmall {
                map: self.map,
                held,
                entries: self.layout.entries,
                setting: sizes::setting(self.map),
            },
            _ => self.failed(error),
        }
    }
}
