//! The programs this build carries, and what they ask of their maps.

use std::collections::BTreeMap;

use aya_obj::Object;
use netpath_common::names;

use super::{
    error::{Error, Result, chain},
    sizes::Sizes,
};

/// Filled in by `build.rs`.
static OBJECT: Option<&[u8]> = include!(concat!(env!("OUT_DIR"), "/object.rs"));

/// The eBPF object that the build embedded.
///
/// # Errors
/// [`Error::NoObject`] if it was not built then.
pub fn object() -> Result<&'static [u8]> {
    OBJECT.ok_or(Error::NoObject)
}

/// What a map is, as far as the kernel holds two maps for interchangeable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `BPF_MAP_TYPE_*`.
    pub kind: u32,
    /// Bytes of a key.
    pub key: u32,
    /// Bytes of a value.
    pub value: u32,
    /// How many entries fit.
    pub entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
}

/// The layouts that an object asks for, of all maps in [`names::MAPS`], with the sizes that are set.
///
/// # Errors
/// [`Error::BadObject`] if it is none or lacks one of the maps.
pub fn layouts(object: &[u8], sizes: &Sizes) -> Result<BTreeMap<&'static str, Layout>> {
    let object = Object::parse(object).map_err(|error| Error::BadObject { reason: chain(&error) })?;
    let layout = |name: &&'static str| match object.maps.get(*name) {
        Some(map) => Ok((
            *name,
            Layout {
                kind: map.map_type(),
                key: map.key_size(),
                value: map.value_size(),
                entries: sizes.of(name).unwrap_or(map.max_entries()),
                flags: map.map_flags(),
            },
        )),
        None => Err(Error::BadObject {
            reason: format!("it has no map {name}"),
        }),
    };
    names::MAPS.iter().map(layout).collect()
}
