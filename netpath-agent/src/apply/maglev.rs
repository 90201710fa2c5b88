//! The tables in `np_maglev4` and `np_maglev6` by which every node chooses alike among a set's backends. A table follows from its set
//! alone: sets that stay have the right one, and a restart finds it there.

use std::collections::{BTreeMap, BTreeSet};

use bytemuck::Pod;
use netpath_common::abi::maglev::{BLOCK, MOST_BACKENDS, MaglevBlock, MaglevKey, bits};

use super::report::Report;
use crate::{
    datapath::{
        error::{Error, Result},
        maps::Table,
    },
    fnv,
};

/// The map of a family, and how large the tables in it are.
pub struct Maglev {
    name: &'static str,
    table: Table<MaglevKey, MaglevBlock>,
    /// The binary logarithm of each one's places, by set.
    held: BTreeMap<u32, u8>,
}

impl Maglev {
    /// Reads what the map holds. A table that a broken write left incomplete is removed.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn adopt(name: &'static str, mut table: Table<MaglevKey, MaglevBlock>) -> Result<Self> {
        let mut blocks: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for (key, _) in table.entries()? {
            blocks.entry(key.set).or_default().insert(key.block);
        }
        let mut held = BTreeMap::new();
        for (set, blocks) in blocks {
            let count = blocks.len();
            let whole = count.is_power_of_two() && blocks.iter().copied().eq(0..count as u32);
            if whole {
                held.insert(set, (count * BLOCK).ilog2() as u8);
                continue;
            }
            for block in blocks {
                table.remove(&MaglevKey { set, block })?;
            }
        }
        Ok(Self { name, table, held })
    }

    /// What a frontend says of a set's table: the binary logarithm of its places, 0 if it has none.
    pub fn bits(&self, set: u32) -> u8 {
        self.held.get(&set).copied().unwrap_or_default()
    }

    /// Writes the tables that are not there yet, of sets with their numbers, each whole or not at all. Sets of more than
    /// [`MOST_BACKENDS`] get none. Returns why the last of those that failed did.
    pub fn add<'a, B: Pod>(
        &mut self,
        sets: impl IntoIterator<Item = (u32, &'a [B])>,
        report: &mut Report,
    ) -> Option<Error> {
        let mut failed = None;
        for (set, backends) in sets {
            let fits = (1..=MOST_BACKENDS as usize).contains(&backends.len());
            if !fits || self.held.contains_key(&set) {
                continue;
            }
            let blocks = blocks(&fill(backends));
            let keys: Vec<_> = (0..blocks.len() as u32).map(|block| MaglevKey { set, block }).collect();
            match self.table.insert_all(&keys, &blocks) {
                Ok(()) => {
                    report.table(self.name).added += keys.len();
                    self.held.insert(set, bits(backends.len() as u32));
                }
                Err((written, error)) => {
                    self.delete(&keys[..written], report);
                    failed = Some(error);
                }
            }
        }
        failed
    }

    /// The sets with a table that are not wanted.
    pub fn without(&self, wanted: &BTreeSet<u32>) -> Vec<u32> {
        self.held.keys().filter(|set| !wanted.contains(set)).copied().collect()
    }

    /// Removes the tables of sets.
    pub fn remove(&mut self, sets: &[u32], report: &mut Report) {
        for set in sets {
            let Some(bits) = self.held.remove(set) else { continue };
            let keys: Vec<_> = (0..(1 << bits) / BLOCK as u32)
                .map(|block| MaglevKey { set: *set, block })
                .collect();
            let removed = self.delete(&keys, report);
            report.table(self.name).removed += removed;
        }
    }

    fn delete(&mut self, keys: &[MaglevKey], report: &mut Report) -> usize {
        let mut removed = 0;
        for key in keys {
            match self.table.remove(key) {
                Ok(_) => removed += 1,
                Err(error) => report.fail(format!("block {} of set {}", key.block, key.set), &error),
            }
        }
        removed
    }
}

fn blocks(places: &[u16]) -> Vec<MaglevBlock> {
    let (blocks, _) = places.as_chunks::<BLOCK>();
    blocks.iter().map(|slots| MaglevBlock { slots: *slots }).collect()
}

/// Gives each place of a table a slot of the set: in turn, each backend takes the first free place of an order of its own, until
/// all are taken. With a power of two of places any odd step leads through all of them.
fn fill<B: Pod>(backends: &[B]) -> Vec<u16> {
    let places = 1u32 << bits(backends.len() as u32);
    let mut table: Vec<Option<u16>> = vec![None; places as usize];
    let mut orders: Vec<(u32, u32)> = backends
        .iter()
        .map(|backend| (order(backend, 0), order(backend, 1) | 1))
        .collect();
    let mut left = places;
    while left > 0 {
        for (slot, (place, step)) in (0..).zip(&mut orders) {
            let free = loop {
                let at = (*place % places) as usize;
                *place = place.wrapping_add(*step);
                if table[at].is_none() {
                    break at;
                }
            };
            table[free] = Some(slot);
            left -= 1;
            if left == 0 {
                break;
            }
        }
    }
    table.into_iter().flatten().collect()
}

/// Where a backend's order begins, or its step. What FNV leaves alike in the bits that count is mixed (the finalizer of MurmurHash3).
fn order<B: Pod>(backend: &B, which: u8) -> u32 {
    let bytes = bytemuck::bytes_of(backend).iter().copied();
    let mut hash = fnv::hash32(std::iter::once(which).chain(bytes));
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use netpath_common::abi::service::v4::Backend;

    use super::fill;

    fn backends(count: u8) -> Vec<Backend> {
        let address = |last| [10, 244, 1, last];
        (0..count)
            .map(|last| Backend {
                address: address(last),
                port: 8080,
                reserved: [0; 2],
            })
            .collect()
    }

    #[test]
    fn every_backend_gets_its_share_to_a_hundredth() {
        for count in [1, 2, 3, 7, 100] {
            let table = fill(&backends(count));
            let mut shares = vec![0usize; count.into()];
            for slot in &table {
                shares[usize::from(*slot)] += 1;
            }
            let (least, most) = (shares.iter().min(), shares.iter().max());
            assert!(most <= least.map(|least| least + 1).as_ref(), "{count}: {shares:?}");
        }
    }

    /// Where one of ten goes, its places change owner, and of the others' hardly any: the paper's figure 12 has some 2 of 100 for
    /// tables a hundred times as large as the set. Both sets here have tables of one size.
    #[test]
    fn a_backend_that_goes_takes_hardly_any_place_of_others_along() {
        let all = backends(10);
        let (before, gone) = (fill(&all), 4);
        let mut rest = all.clone();
        rest.remove(gone);
        let after = fill(&rest);
        assert_eq!(before.len(), after.len());
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| {
                let (before, after) = (all[usize::from(**before)], rest[usize::from(**after)]);
                before != all[gone] && before != after
            })
            .count();
        assert!(moved * 100 < before.len() * 10, "{moved} of {}", before.len());
    }

    #[test]
    fn the_order_of_places_is_that_of_the_backend_and_of_nothing_else() {
        let (few, many) = (fill(&backends(10)), fill(&backends(9)));
        let same = few.iter().zip(&many).filter(|(few, many)| few == many).count();
        assert!(same * 100 > few.len() * 80, "{same} of {}", few.len());
    }
}
