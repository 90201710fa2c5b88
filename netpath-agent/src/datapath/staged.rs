//! Pins that are made ready beside those in force, and take their places only when all of them are there.

use std::{
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::{
    error::{Error, Result},
    pins::{self, Pins},
};

/// What a path has at its end until it takes its place.
const SUFFIX: &str = ":new";

/// Pins that stand beside those they are to replace, as `<name>:new`. Those that have not taken their place are removed in
/// the end.
#[derive(Debug, Default)]
pub struct Staged(Vec<PathBuf>);

impl Staged {
    /// Nothing yet. What a broken attempt left beside maps and programs is removed.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn begin(pins: &Pins) -> Result<Self> {
        for folder in [pins.maps_dir(), pins.programs_dir()] {
            let failed = |reason| Error::File {
                action: "list",
                path: folder.clone(),
                reason,
            };
            for entry in fs::read_dir(&folder).map_err(failed)? {
                let path = entry.map_err(failed)?.path();
                if path.as_os_str().as_bytes().ends_with(SUFFIX.as_bytes()) {
                    pins::remove(&path)?;
                }
            }
        }
        Ok(Self::default())
    }

    /// Where to pin what is to take a path's place.
    pub fn beside(&mut self, path: &Path) -> PathBuf {
        self.0.push(path.to_owned());
        Self::name(path)
    }

    /// Puts all in their places, in the order in which they were staged.
    ///
    /// # Errors
    /// [`Error::File`]; what has its place keeps it.
    pub fn commit(&mut self) -> Result<()> {
        while let Some(path) = self.0.first() {
            fs::rename(Self::name(path), path).map_err(|reason| Error::File {
                action: "replace",
                path: path.clone(),
                reason,
            })?;
            self.0.remove(0);
        }
        Ok(())
    }

    /// The name of what is to take a path's place.
    pub fn name(path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(SUFFIX);
        name.into()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        for path in &self.0 {
            // What cannot be removed here is removed by the next attempt, which says why it cannot.
            let _ = pins::remove(&Self::name(path));
        }
    }
}
