//! The services' sets of backends in `np_backend4` and `np_backend6`. A set never changes: its number follows from what it holds, so that frontends
//! with the same backends share one, a changed list gets another, and a restart finds the same numbers again.

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

use bytemuck::Pod;
use netpath_common::abi::service::{BackendKey, HOST_PORT_SETS};

use super::report::Report;
use crate::{
    datapath::{
        error::{Error, Result},
        maps::Table,
    },
    family::Family,
    fnv,
};

/// What a set may hold, with the number that it would have first.
#[derive(Clone, PartialEq, Eq)]
pub struct List<B> {
    backends: Arc<[B]>,
    first: u32,
}

impl<B: Pod> From<&Arc<[B]>> for List<B> {
    fn from(backends: &Arc<[B]>) -> Self {
        Self {
            backends: Arc::clone(backends),
            first: hash(backends),
        }
    }
}

impl<B: Eq> Hash for List<B> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.first.hash(state);
    }
}

impl<B> Deref for List<B> {
    type Target = Arc<[B]>;

    fn deref(&self) -> &Arc<[B]> {
        &self.backends
    }
}

/// The map of a family and the sets in it.
pub struct Sets<F: Family> {
    table: Table<BackendKey, F::Backend>,
    by_number: BTreeMap<u32, Arc<[F::Backend]>>,
}

impl<F: Family> Sets<F> {
    /// Reads what the map holds. A set that a broken write left without its first places counts as one to be removed.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn adopt(table: Table<BackendKey, F::Backend>) -> Result<Self> {
        let mut slots: BTreeMap<u32, BTreeMap<u32, F::Backend>> = BTreeMap::new();
        let entries = table.entries()?.into_iter();
        for (key, backend) in entries.filter(|(key, _)| key.set < HOST_PORT_SETS) {
            slots.entry(key.set).or_default().insert(key.slot, backend);
        }
        let mut sets = Self {
            table,
            by_number: BTreeMap::new(),
        };
        for (number, slots) in slots {
            let whole = slots.keys().copied().eq(0..slots.len() as u32);
            if !whole {
                for slot in slots.into_keys() {
                    sets.table.remove(&BackendKey { set: number, slot })?;
                }
                continue;
            }
            sets.by_number.insert(number, slots.into_values().collect());
        }
        Ok(sets)
    }

    /// The number of a set that holds exactly these; 0 for none at all. `None` if none is found: there may be one still, where
    /// another that had its first number is gone.
    pub fn number(&self, list: &List<F::Backend>) -> Option<u32> {
        if list.is_empty() {
            return Some(0);
        }
        let mut number = list.first;
        while let Some(held) = self.by_number.get(&number) {
            if *held == **list {
                return Some(number);
            }
            number = next(number);
        }
        None
    }

    /// Writes the sets that are not there yet, each whole or not at all. Returns why the last of those that failed did.
    pub fn add<'a>(&mut self, lists: impl Iterator<Item = &'a List<F::Backend>>, report: &mut Report) -> Option<Error> {
        let mut new: Vec<(u32, Arc<[F::Backend]>)> = Vec::new();
        let mut taken: BTreeMap<u32, Arc<[F::Backend]>> = BTreeMap::new();
        for list in lists {
            if let Some(number) = self.number(list) {
                // What was read from the map is held once more than what is planned: one of the two is enough.
                self.by_number.insert(number, Arc::clone(list));
                continue;
            }
            let mut number = list.first;
            while self.by_number.contains_key(&number) || taken.get(&number).is_some_and(|other| other != &**list) {
                number = next(number);
            }
            if taken.insert(number, Arc::clone(list)).is_none() {
                new.push((number, Arc::clone(list)));
            }
        }
        // The shortest first: where the room ends, as many services as can have theirs.
        new.sort_by_key(|(_, list)| list.len());
        let keys: Vec<BackendKey> = new.iter().flat_map(|(number, list)| keys(*number, list)).collect();
        let values: Vec<F::Backend> = new.iter().flat_map(|(_, list)| list.iter().copied()).collect();
        let (written, error) = match self.table.insert_all(&keys, &values) {
            Ok(()) => (keys.len(), None),
            Err((written, error)) => (written, Some(error)),
        };
        let mut end = 0;
        for (number, list) in new {
            end += list.len();
            if end <= written {
                report.table(F::NAMES.backend).added += list.len();
                self.by_number.insert(number, list);
            }
        }
        self.undo(&keys[..written], report);
        error
    }

    /// The numbers of all sets.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        self.by_number.keys().copied()
    }

    /// Removes sets, each from its end, so that what an interruption leaves is a set still.
    pub fn remove(&mut self, numbers: &[u32], report: &mut Report) {
        for number in numbers {
            let Some(list) = self.by_number.remove(number) else {
                continue;
            };
            let keys: Vec<BackendKey> = keys(*number, &list).collect();
            self.delete(&keys, report);
        }
    }

    /// Removes the written part of a set that did not fit.
    fn undo(&mut self, written: &[BackendKey], report: &mut Report) {
        let broken = written.iter().filter(|key| !self.by_number.contains_key(&key.set));
        let broken: Vec<BackendKey> = broken.copied().collect();
        for key in broken.iter().rev() {
            if let Err(error) = self.table.remove(key) {
                report.fail(format!("place {} of set {}", key.slot, key.set), &error);
            }
        }
    }

    fn delete(&mut self, keys: &[BackendKey], report: &mut Report) {
        for key in keys.iter().rev() {
            match self.table.remove(key) {
                Ok(_) => report.table(F::NAMES.backend).removed += 1,
                Err(error) => report.fail(format!("place {} of set {}", key.slot, key.set), &error),
            }
        }
    }
}

/// The keys of a set's places.
fn keys<B>(set: u32, list: &[B]) -> impl Iterator<Item = BackendKey> {
    (0..list.len() as u32).map(move |slot| BackendKey { set, slot })
}

/// A set's first choice of a number: FNV-1a over its backends, below those of hostPorts, and never 0.
fn hash<B: Pod>(list: &[B]) -> u32 {
    let bytes: &[u8] = bytemuck::cast_slice(list);
    (fnv::hash32(bytes.iter().copied()) % HOST_PORT_SETS).max(1)
}

/// The number after one that is taken.
fn next(number: u32) -> u32 {
    ((number + 1) % HOST_PORT_SETS).max(1)
}
