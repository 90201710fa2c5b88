//! Ordered maps without room to spare. Entries that come in order leave each node of a map half full behind them, as it was when it
//! was split.

use std::{collections::BTreeMap, mem};

/// Packs a map's nodes, if so many entries have come that half of it may be such: that costs less than they did.
pub fn pack<K: Ord, V>(map: &mut BTreeMap<K, V>, come: usize) {
    if come * 2 > map.len() {
        *map = mem::take(map).into_iter().collect();
    }
}
