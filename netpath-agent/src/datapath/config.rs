//! `np_config`, read and written so that a packet sees one configuration, whole, for as long as a program works on it.

use aya::maps::{Array, Map, MapData};
use netpath_common::{abi::config::Config, names};

use super::{abi::Abi, error::Result, maps::Place, pins::Pins, sys};

/// How often both entries are looked at before it is said that none is in force.
const LOOKS: usize = 4;

/// The node's configuration, in its two entries: see [`netpath_common::abi::config::CONFIG_ENTRIES`].
pub struct NodeConfig {
    map: Array<MapData, Abi<Config>>,
    place: Place,
}

impl NodeConfig {
    /// Opens the pinned map.
    ///
    /// # Errors
    /// [`super::error::Error::MapMissing`]; [`super::error::Error::Map`] if it is of another layout.
    pub fn open(pins: &Pins) -> Result<Self> {
        let place = Place::new(pins, names::CONFIG);
        let map = Map::from_map_data(place.open()?)
            .and_then(Array::try_from)
            .map_err(|error| place.error("open", error))?;
        Ok(Self { map, place })
    }

    /// The configuration in force; all zero before anyone wrote it.
    ///
    /// # Errors
    /// [`super::error::Error::Map`].
    pub fn get(&self) -> Result<Config> {
        // While one takes another's place, the first entry may be out of force when it is looked at, and the second again by
        // the time that it is.
        for entry in [0, 1].repeat(LOOKS) {
            let config = self.read(entry)?;
            if config.abi_version != 0 {
                return Ok(config);
            }
        }
        Ok(Config::default())
    }

    /// Puts a configuration in force. Takes some grace periods of the kernel's, each of which ends when every program has
    /// that found the entries as they were before. Whoever is killed meanwhile leaves one of both configurations in force.
    ///
    /// # Errors
    /// [`super::error::Error::Map`].
    pub fn set(&mut self, config: &Config) -> Result<()> {
        let off = |config: Config| Config {
            abi_version: 0,
            ..config
        };
        let first = self.read(0)?;
        if first.abi_version != 0 {
            self.write(1, off(*config))?;
            self.write(1, *config)?;
            self.write(0, off(first))?;
        }
        self.write(0, off(*config))?;
        self.write(0, *config)?;
        self.write(1, Config::default())
    }

    fn read(&self, entry: u32) -> Result<Config> {
        match self.map.get(&entry, 0) {
            Ok(Abi(config)) => Ok(config),
            Err(error) => Err(self.place.error("read", error)),
        }
    }

    /// Writes an entry, and returns when no program goes on that found it otherwise.
    fn write(&mut self, entry: u32, config: Config) -> Result<()> {
        let written = self.map.set(entry, Abi(config), 0);
        written.map_err(|error| self.place.error("write to", error))?;
        sys::grace_period();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use netpath_common::abi::config::CONFIG_ENTRIES;

    use super::*;
    use crate::datapath::scratch::Scratch;

    /// A configuration whose bytes all are `byte`, but for the version.
    fn all(byte: u8) -> Config {
        Config {
            abi_version: 1,
            ..bytemuck::cast([byte; size_of::<Config>()])
        }
    }

    fn pinned(scratch: &Scratch) -> NodeConfig {
        let map: Array<MapData, Abi<Config>> = Array::create(CONFIG_ENTRIES as u32, 0).expect("a new map");
        map.pin(scratch.0.map(names::CONFIG)).expect("pinned");
        NodeConfig::open(&scratch.0).expect("opened")
    }

    #[test]
    fn whoever_looks_finds_one_configuration_whole() {
        let scratch = Scratch::fresh();
        let mut config = pinned(&scratch);
        assert_eq!(config.get().expect("read"), Config::default());
        config.set(&all(1)).expect("written");
        let (reader, done) = (NodeConfig::open(&scratch.0).expect("opened"), AtomicBool::new(false));
        thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let mut seen = [0u64; 2];
                while !done.load(Ordering::Relaxed) {
                    let found = reader.get().expect("read");
                    let which = [all(1), all(2)].iter().position(|config| *config == found);
                    seen[which.unwrap_or_else(|| panic!("neither: {found:?}"))] += 1;
                }
                seen
            });
            for round in 0..8 {
                config.set(&all(2 - round % 2)).expect("written");
            }
            done.store(true, Ordering::Relaxed);
            let seen = reading.join().expect("no panic");
            assert!(seen.iter().all(|times| *times > 0), "{seen:?}");
        });
        assert_eq!(config.get().expect("read"), all(1));
        assert_eq!(config.read(1).expect("read"), Config::default());
    }

    #[test]
    fn a_change_that_was_broken_off_is_made_up_for() {
        let scratch = Scratch::fresh();
        let mut config = pinned(&scratch);
        // The writer was killed when the second entry had just come into force.
        let off = Config {
            abi_version: 0,
            ..all(1)
        };
        config.write(1, all(2)).expect("written");
        config.write(0, off).expect("written");
        assert_eq!(config.get().expect("read"), all(2));
        config.set(&all(3)).expect("written");
        assert_eq!(config.read(0).expect("read"), all(3));
        assert_eq!(config.read(1).expect("read"), Config::default());
    }
}
