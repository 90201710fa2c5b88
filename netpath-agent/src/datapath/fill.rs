//! How full the maps are.

use std::os::fd::AsFd;

use aya::maps::MapType;
use netpath_common::names;

use super::{
    carry,
    error::{Error, Result},
    pins::Pins,
    sizes, sys,
};

/// A map's fill level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// The map's name.
    pub map: &'static str,
    /// How many entries it holds.
    pub entries: usize,
    /// How many fit.
    pub capacity: u32,
    /// Whether the entry longest unused makes room for a new one; otherwise a new one is refused.
    pub evicts: bool,
    /// The agent's setting that raises the capacity.
    pub setting: &'static str,
}

/// The fill levels of all maps whose size is a setting.
///
/// # Errors
/// [`Error::MapMissing`], [`Error::Map`].
pub fn levels(pins: &Pins) -> Result<Vec<Fill>> {
    let mut levels = Vec::new();
    for map in names::MAPS.iter().copied() {
        let path = pins.map(map);
        let Some((data, layout)) = carry::pinned_layout(map, &path)? else {
            return Err(Error::MapMissing { map, path });
        };
        let evicts = layout.kind == MapType::LruHash as u32;
        let fills = [MapType::Hash, MapType::LpmTrie].map(|kind| kind as u32);
        if !evicts && !fills.contains(&layout.kind) {
            continue;
        }
        let key = layout.key as usize;
        let dumped = sys::dump(data.fd().as_fd(), key, layout.value as usize);
        let dumped = dumped.map_err(|error| Error::Map {
            action: "count",
            map,
            path,
            reason: error.to_string(),
        })?;
        levels.push(Fill {
            map,
            entries: dumped.keys.len() / key,
            capacity: layout.entries,
            evicts,
            setting: sizes::setting(map),
        });
    }
    Ok(levels)
}
