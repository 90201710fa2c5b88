//! A map beside a copy of what it holds, so that a plan costs the kernel only what differs.

use std::collections::BTreeMap;

use bytemuck::Pod;

use super::report::Report;
use crate::{
    datapath::{
        error::{Error, Result},
        maps::Table,
    },
    packed::pack,
};

/// A map, or the part of one that nobody else writes.
pub struct Mirror<K, V> {
    name: &'static str,
    table: Table<K, V>,
    held: BTreeMap<K, V>,
}

impl<K: Pod + Ord, V: Pod + PartialEq> Mirror<K, V> {
    /// Reads what the map holds that is `ours`.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn adopt(name: &'static str, table: Table<K, V>, ours: impl Fn(&V) -> bool) -> Result<Self> {
        let entries = table.entries()?.into_iter();
        let held = entries.filter(|(_, value)| ours(value)).collect();
        Ok(Self { name, table, held })
    }

    /// What the map holds.
    pub fn held(&self) -> &BTreeMap<K, V> {
        &self.held
    }

    /// Adds an entry that others may have added: `false` if one of them has.
    ///
    /// # Errors
    /// [`Error::MapFull`], [`Error::Map`].
    pub fn claim(&mut self, key: K, value: V, report: &mut Report) -> Result<bool> {
        let added = self.table.insert_new(&key, &value)?;
        if added {
            self.held.insert(key, value);
            report.table(self.name).added += 1;
        }
        Ok(added)
    }

    /// Writes what the map lacks or holds otherwise: changes first, which need no room. Returns what was refused.
    pub fn put(&mut self, wanted: &BTreeMap<K, V>, report: &mut Report) -> Vec<(K, Error)> {
        let differs = |(key, value): &(&K, &V)| self.held.get(key) != Some(value);
        let differing = wanted.iter().filter(differs).map(|(key, value)| (*key, *value));
        let (changed, added): (Vec<_>, Vec<_>) = differing.partition(|(key, _)| self.held.contains_key(key));
        let (keys, values): (Vec<K>, Vec<V>) = changed.into_iter().chain(added).unzip();
        let mut refused = Vec::new();
        let mut start = 0;
        while start < keys.len() {
            let (written, error) = match self.table.insert_all(&keys[start..], &values[start..]) {
                Ok(()) => (keys.len() - start, None),
                Err((written, error)) => (written, Some(error)),
            };
            for (key, value) in keys.iter().zip(&values).skip(start).take(written) {
                match self.held.insert(*key, *value) {
                    None => report.table(self.name).added += 1,
                    Some(_) => report.table(self.name).changed += 1,
                }
            }
            start += written;
            pack(&mut self.held, written);
            if let (Some(error), Some(key)) = (error, keys.get(start)) {
                refused.push((*key, error));
                start += 1;
            }
        }
        refused
    }

    /// Removes every entry whose key is not wanted, and says how many.
    pub fn keep(&mut self, is_wanted: impl Fn(&K) -> bool, report: &mut Report) -> usize {
        let unwanted: Vec<K> = self.held.keys().filter(|key| !is_wanted(key)).copied().collect();
        self.remove(unwanted, report)
    }

    /// Removes entries, and says how many there were.
    pub fn remove(&mut self, keys: impl IntoIterator<Item = K>, report: &mut Report) -> usize {
        let mut removed = 0;
        for key in keys {
            if !self.held.contains_key(&key) {
                continue;
            }
            match self.table.remove(&key) {
                Ok(_) => {
                    self.held.remove(&key);
                    removed += 1;
                }
                Err(error) => report.fail(format!("an old entry of {}", self.name), &error),
            }
        }
        if removed > 0 {
            report.table(self.name).removed += removed;
        }
        removed
    }
}
