//! `np_source4` and `np_source6`: the lists of clients that may connect to frontends that not everyone may, from services'
//! `loadBalancerSourceRanges`.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
};

use ipnet::IpNet;
use netpath_common::abi::source::{ADMITTED, SOURCES_BITS, SourceKey};

use crate::{family::Family, fnv};

/// The lists that services have in a family.
#[derive(Default)]
pub(super) struct Lists<F: Family> {
    /// What each holds, and how many services have it.
    given: HashMap<u32, (Vec<F::Net>, usize)>,
    /// Whether a list has come or gone since [`Self::news`] was asked.
    changed: bool,
}

impl<F: Family> Lists<F> {
    /// The number of the list that has exactly these ranges of the family; 0 where everyone may connect. It follows from the
    /// ranges, so that a changed list has another one and a restart finds the same; where another list has it, the next
    /// one that is free.
    pub fn give(&mut self, ranges: Option<&[IpNet]>) -> u32 {
        let Some(ranges) = ranges else { return 0 };
        let of_family = ranges.iter().copied().filter_map(F::net);
        let ranges = F::aggregate(of_family.collect());
        if ranges.iter().any(|range| F::prefix_len(*range) == 0) {
            return 0;
        }
        let mut bytes = Vec::new();
        for range in &ranges {
            bytes.extend_from_slice(F::octets(F::first(*range)).as_ref());
            bytes.push(F::prefix_len(*range));
        }
        let mut number = fnv::hash32(bytes).max(1);
        while self.given.get(&number).is_some_and(|(other, _)| *other != ranges) {
            number = number.checked_add(1).unwrap_or(1);
        }
        let (_, services) = self.given.entry(number).or_insert((ranges, 0));
        *services += 1;
        self.changed |= *services == 1;
        number
    }

    /// Takes a list back from one of the services that have it.
    pub fn free(&mut self, number: u32) {
        if let Some((_, services)) = self.given.get_mut(&number) {
            *services -= 1;
            if *services == 0 {
                self.given.remove(&number);
                self.changed = true;
            }
        }
    }

    /// What the map must hold of them, if that is not as it was when this was asked before.
    pub fn news(&mut self) -> Option<BTreeMap<F::SourceKey, u32>> {
        mem::take(&mut self.changed).then(|| self.entries())
    }

    /// What the map must hold of them.
    fn entries(&self) -> BTreeMap<F::SourceKey, u32> {
        let entry = |number: u32, range: F::Net| {
            let key = SourceKey {
                prefix_len: SOURCES_BITS + u32::from(F::prefix_len(range)),
                sources: number,
                address: F::octets(F::first(range)),
            };
            (key.into(), ADMITTED)
        };
        let lists = self.given.iter();
        lists
            .flat_map(|(number, (ranges, _))| ranges.iter().map(move |range| entry(*number, *range)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use netpath_common::abi::source::v4;

    use super::*;
    use crate::family::V4;

    fn nets<const N: usize>(texts: [&str; N]) -> Vec<IpNet> {
        texts.map(|text| text.parse().unwrap()).to_vec()
    }

    #[test]
    fn lists_of_the_same_clients_are_one_whoever_writes_them() {
        let mut lists = Lists::<V4>::default();
        let one = lists.give(Some(&nets(["10.1.0.0/16", "10.2.0.0/17"])));
        let same = nets([
            "10.2.64.0/18",
            "fd00::/8",
            "10.1.0.0/17",
            "10.1.128.0/17",
            "10.2.0.0/18",
            "10.1.7.0/24",
        ]);
        assert_eq!(lists.give(Some(&same)), one);
        let key = |prefix_len, address| v4::SourceKey {
            prefix_len,
            sources: one,
            address,
        };
        let entries = [(key(48, [10, 1, 0, 0]), 1), (key(49, [10, 2, 0, 0]), 1)];
        assert_eq!(lists.entries(), BTreeMap::from(entries));
        assert_ne!(lists.give(Some(&nets(["10.1.0.0/16"]))), one);
        assert_eq!(lists.entries().len(), 3);
        lists.free(one);
        assert_eq!(lists.entries().len(), 3, "one service has it still");
        lists.free(one);
        assert_eq!(lists.entries().len(), 1);
    }

    #[test]
    fn everyone_is_no_list_and_nobody_is_one() {
        let mut lists = Lists::<V4>::default();
        assert_eq!(lists.give(None), 0);
        assert_eq!(lists.give(Some(&nets(["10.0.0.0/8", "0.0.0.0/0"]))), 0);
        assert_eq!(lists.give(Some(&nets(["0.0.0.0/1", "128.0.0.0/1"]))), 0);
        let nobody = lists.give(Some(&[]));
        assert_eq!(nobody, 0x811c_9dc5, "FNV-1a of nothing");
        assert_eq!(lists.give(Some(&nets(["::/0"]))), nobody);
        assert_eq!(lists.entries(), BTreeMap::new());
    }

    /// Whoever comes to a number that another list has takes the next.
    #[test]
    fn a_number_is_given_once() {
        let list = nets(["10.1.0.0/16"]);
        let first = Lists::<V4>::default().give(Some(&list));
        let mut lists = Lists::<V4>::default();
        lists.given.insert(first, (vec![], 1));
        assert_eq!(lists.give(Some(&list)), first + 1);
    }
}
