//! Tables over pinned maps, with the layouts of `netpath-common` and errors that name the map.

use std::{
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
};

use aya::maps::{HashMap, IterableMap, Map, MapData, MapError, PerCpuArray};
use bytemuck::Pod;
use netpath_common::{
    abi::counter::{self, Counter},
    hook::Hook,
    names,
    reason::Reason,
};
use nix::libc;

use super::{
    abi::Abi,
    error::{Error, Result, chain, errno},
    pins::Pins,
    sizes, sys,
};

/// `BPF_NOEXIST` of `linux/bpf.h`: add, never replace.
const NOEXIST: u64 = 1;

/// Which map an error is about.
#[derive(Clone, Debug)]
pub(super) struct Place {
    map: &'static str,
    path: PathBuf,
}

impl Place {
    pub(super) fn new(pins: &Pins, map: &'static str) -> Self {
        Self {
            map,
            path: pins.map(map),
        }
    }

    pub(super) fn open(&self) -> Result<MapData> {
        MapData::from_pin(&self.path).map_err(|error| match errno(&error) {
            Some(libc::ENOENT) => Error::MapMissing {
                map: self.map,
                path: self.path.clone(),
            },
            _ => self.error("open", error),
        })
    }

    pub(super) fn error(&self, action: &'static str, error: MapError) -> Error {
        let mut reason = chain(&error);
        if let Some(libc::EPERM | libc::EACCES) = errno(&error) {
            reason.push_str("; this needs root, or the capabilities CAP_BPF and CAP_NET_ADMIN");
        }
        Error::Map {
            action,
            map: self.map,
            path: self.path.clone(),
            reason,
        }
    }
}

/// A hash map, with or without least-recently-used eviction, or a trie, whose keys begin with how many bits count.
#[derive(Debug)]
pub struct Table<K, V> {
    map: HashMap<MapData, Abi<K>, Abi<V>>,
    place: Place,
    capacity: u32,
}

impl<K: Pod, V: Pod> Table<K, V> {
    /// Opens a pinned map by its name, one of [`netpath_common::names`].
    ///
    /// # Errors
    /// [`Error::MapMissing`]; [`Error::Map`] if it is of another layout.
    pub fn open(pins: &Pins, name: &'static str) -> Result<Self> {
        let place = Place::new(pins, name);
        let data = place.open()?;
        let capacity = data
            .info()
            .map_err(|error| place.error("look at", error))?
            .max_entries();
        // The kernel's calls are the same for tries, and `K` has the prefix length in it.
        let hash = |map| match map {
            Map::LpmTrie(data) => Map::HashMap(data),
            map => map,
        };
        let map = Map::from_map_data(data)
            .and_then(|map| HashMap::try_from(hash(map)))
            .map_err(|error| place.error("open", error))?;
        Ok(Self { map, place, capacity })
    }

    /// How many entries fit.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn get(&self, key: &K) -> Result<Option<V>> {
        match self.map.get(&Abi(*key), 0) {
            Ok(Abi(value)) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(self.place.error("read", error)),
        }
    }

    /// Adds or replaces an entry.
    ///
    /// # Errors
    /// [`Error::MapFull`], [`Error::Map`].
    pub fn insert(&mut self, key: &K, value: &V) -> Result<()> {
        self.update(key, value, 0)
    }

    /// Adds an entry and says `true`, or leaves the one of that key as it is and says `false`.
    ///
    /// # Errors
    /// [`Error::MapFull`], [`Error::Map`].
    pub fn insert_new(&mut self, key: &K, value: &V) -> Result<bool> {
        match self.map.insert(Abi(*key), Abi(*value), NOEXIST) {
            Ok(()) => Ok(true),
            Err(error) if errno(&error) == Some(libc::EEXIST) => Ok(false),
            Err(error) => Err(self.refused(error)),
        }
    }

    /// Removes an entry, if it is there, and says whether it was.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn remove(&mut self, key: &K) -> Result<bool> {
        match self.map.remove(&Abi(*key)) {
            Ok(()) => Ok(true),
            Err(error) if errno(&error) == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(self.place.error("remove an entry of", error)),
        }
    }

    /// Adds or replaces entries, in their order, at a fraction of the cost of doing so one by one.
    ///
    /// # Errors
    /// How many were written before the one that was refused, and why: [`Error::MapFull`], [`Error::Map`].
    pub fn insert_all(&mut self, keys: &[K], values: &[V]) -> Result<(), (usize, Error)> {
        let count = keys.len();
        let (keys, values) = (bytemuck::cast_slice(keys), bytemuck::cast_slice(values));
        let stored = sys::store(self.fd(), keys, values, count, 0);
        stored.map_err(|(written, error)| (written, self.refused(MapError::IoError(error))))
    }

    /// Every entry, in the order of the keys' bytes. Entries that others add or remove meanwhile may be in it or not.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn entries(&self) -> Result<Vec<(K, V)>> {
        let dumped = sys::dump(self.fd(), size_of::<K>(), size_of::<V>());
        let dumped = dumped.map_err(|error| self.place.error("read", MapError::IoError(error)))?;
        let keys = dumped.keys.chunks_exact(size_of::<K>());
        let mut entries: Vec<_> = keys.zip(dumped.values.chunks_exact(size_of::<V>())).collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        let read =
            |(key, value): (&[u8], &[u8])| (bytemuck::pod_read_unaligned(key), bytemuck::pod_read_unaligned(value));
        Ok(entries.into_iter().map(read).collect())
    }

    /// How many entries there are.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn count(&self) -> Result<usize> {
        let dumped = sys::dump(self.fd(), size_of::<K>(), size_of::<V>());
        let dumped = dumped.map_err(|error| self.place.error("read", MapError::IoError(error)))?;
        Ok(dumped.keys.len() / size_of::<K>())
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.map.map().fd().as_fd()
    }

    fn update(&mut self, key: &K, value: &V, flags: u64) -> Result<()> {
        let result = self.map.insert(Abi(*key), Abi(*value), flags);
        result.map_err(|error| self.refused(error))
    }

    /// E2BIG is how a hash says that it is full, ENOMEM how one without preallocation does, ENOSPC how a trie does.
    fn refused(&self, error: MapError) -> Error {
        match errno(&error) {
            Some(libc::E2BIG | libc::ENOMEM | libc::ENOSPC) => Error::MapFull {
                map: self.place.map,
                entries: self.capacity,
                setting: sizes::setting(self.place.map),
            },
            _ => self.place.error("write to", error),
        }
    }
}

/// The counters of verdicts, summed over the processors.
pub struct Counters {
    map: PerCpuArray<MapData, Abi<Counter>>,
    place: Place,
}

impl Counters {
    /// Opens `np_counter`.
    ///
    /// # Errors
    /// [`Error::MapMissing`]; [`Error::Map`] if it is of another layout.
    pub fn open(pins: &Pins) -> Result<Self> {
        let place = Place::new(pins, names::COUNTER);
        let map = Map::from_map_data(place.open()?)
            .and_then(PerCpuArray::try_from)
            .map_err(|error| place.error("open", error))?;
        Ok(Self { map, place })
    }

    /// How often a hook gave a reason.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn get(&self, hook: Hook, reason: Reason) -> Result<Counter> {
        let values = match self.map.get(&counter::index(hook, reason), 0) {
            Ok(values) => values,
            Err(error) => return Err(self.place.error("read", error)),
        };
        Ok(values.iter().fold(Counter::default(), |sum, Abi(value)| Counter {
            packets: sum.packets.wrapping_add(value.packets),
            bytes: sum.bytes.wrapping_add(value.bytes),
        }))
    }
}

#[cfg(test)]
mod tests {
    use netpath_common::abi::endpoint::{Endpoint, KIND_POD};

    use super::*;
    use crate::datapath::scratch::Scratch;

    type Key = [u8; 4];

    /// A table of the endpoints' layout, with room for `entries`.
    fn endpoints(scratch: &Scratch, entries: u32) -> Table<Key, Endpoint> {
        let map: HashMap<MapData, Abi<Key>, Abi<Endpoint>> = HashMap::create(entries, 0).expect("a new map");
        map.pin(scratch.0.map(names::ENDPOINT4)).expect("pinned");
        Table::open(&scratch.0, names::ENDPOINT4).expect("opened")
    }

    fn pod(ifindex: u32) -> Endpoint {
        Endpoint {
            ifindex,
            mac: [2, 0, 0, 0, 0, 1],
            kind: KIND_POD,
        }
    }

    #[test]
    fn entries_come_and_go() {
        let scratch = Scratch::fresh();
        let mut table = endpoints(&scratch, 8);
        assert_eq!(table.capacity(), 8);
        table.insert(&[10, 0, 0, 2], &pod(2)).expect("room");
        assert!(table.insert_new(&[10, 0, 0, 1], &pod(1)).expect("room"));
        assert!(!table.insert_new(&[10, 0, 0, 1], &pod(9)).expect("an answer"));
        assert_eq!(
            table.entries().expect("read"),
            [([10, 0, 0, 1], pod(1)), ([10, 0, 0, 2], pod(2))]
        );
        assert!(table.remove(&[10, 0, 0, 1]).expect("an answer"));
        assert!(!table.remove(&[10, 0, 0, 1]).expect("an answer"));
        assert_eq!(table.get(&[10, 0, 0, 1]).expect("an answer"), None);
        assert_eq!(table.get(&[10, 0, 0, 2]).expect("an answer"), Some(pod(2)));
    }

    #[test]
    fn a_full_map_names_itself_and_the_setting() {
        let scratch = Scratch::fresh();
        let mut table = endpoints(&scratch, 1);
        table.insert(&[10, 0, 0, 1], &pod(1)).expect("room");
        let error = table.insert(&[10, 0, 0, 2], &pod(2)).expect_err("full").to_string();
        assert_eq!(
            error,
            "map np_endpoint4 is full with 1 entries: raise --max-endpoints and restart netpath-agent"
        );
        table.insert(&[10, 0, 0, 1], &pod(3)).expect("a change needs no room");
    }

    #[test]
    fn a_missing_map_names_its_path_and_the_remedy() {
        let scratch = Scratch::fresh();
        let error = Table::<Key, Endpoint>::open(&scratch.0, names::ENDPOINT4).expect_err("not there");
        assert_eq!(
            error.to_string(),
            format!(
                "map np_endpoint4 is not pinned at {}: start netpath-agent on this node, which creates it",
                scratch.0.map(names::ENDPOINT4).display()
            )
        );
    }

    #[test]
    fn another_layout_is_refused() {
        let scratch = Scratch::fresh();
        drop(endpoints(&scratch, 8));
        let error = Table::<Key, [u8; 16]>::open(&scratch.0, names::ENDPOINT4).expect_err("another value");
        assert!(
            error.to_string().contains("invalid value size 16, expected 12"),
            "{error}"
        );
    }
}
