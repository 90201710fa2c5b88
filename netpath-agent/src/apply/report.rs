//! What an apply did, for the log and for whoever asks why something is missing.

use std::{collections::BTreeMap, fmt};

use crate::datapath::error::Error;

/// The changes of one map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Entries that are new.
    pub added: usize,
    /// Entries with another value.
    pub changed: usize,
    /// Entries that are gone.
    pub removed: usize,
}

/// An object that did not get its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The object.
    pub object: String,
    /// Why, and what helps.
    pub reason: String,
}

/// What an apply did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The maps that changed, by name.
    pub tables: BTreeMap<&'static str, Changes>,
    /// The node's own sockets that lost their peer, a backend that is gone.
    pub aborted: usize,
    /// The objects that failed; all others have what they asked for.
    pub errors: Vec<Failure>,
}

impl Report {
    /// Whether nothing changed and nothing failed.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.aborted == 0 && self.errors.is_empty()
    }

    /// The changes of all maps together.
    pub fn total(&self) -> Changes {
        self.tables.values().fold(Changes::default(), |sum, one| Changes {
            added: sum.added + one.added,
            changed: sum.changed + one.changed,
            removed: sum.removed + one.removed,
        })
    }

    /// A map's line, made if need be. Only what is about to change it may ask.
    pub(super) fn table(&mut self, map: &'static str) -> &mut Changes {
        self.tables.entry(map).or_default()
    }

    pub(super) fn fail(&mut self, object: String, error: &Error) {
        self.refuse(object, error.to_string());
    }

    pub(super) fn refuse(&mut self, object: String, reason: String) {
        self.errors.push(Failure { object, reason });
    }
}

/// One line: `np_route4 +2 ~0 -1, np_service4 +1 ~0 -0; 3 failed, the first: service …`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tables.is_empty() {
            f.write_str("nothing changed")?;
        }
        for (place, (map, changes)) in self.tables.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(
                f,
                "{comma}{map} +{} ~{} -{}",
                changes.added, changes.changed, changes.removed
            )?;
        }
        if self.aborted > 0 {
            write!(f, "; {} sockets lost their peer", self.aborted)?;
        }
        match self.errors.as_slice() {
            [] => Ok(()),
            [first, ..] => {
                let count = self.errors.len();
                write!(f, "; {count} failed, the first: {}: {}", first.object, first.reason)
            }
        }
    }
}
