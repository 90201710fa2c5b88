//! Pins that are made ready beside those in force, and take their places only when all of them are there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    error::{Error, Result},
    pins,
};

/// Pins that stand beside those they are to replace, as `<name>:new`. Those that have not taken their place are removed in
/// the end.
#[derive(Debug, Default)]
pub struct Staged(Vec<PathBuf>);

impl Staged {
    /// Where to pin what is to take a path's place. What a broken attempt left there is removed.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn beside(&mut self, path: &Path) -> Result<PathBuf> {
        let beside = Self::name(path);
        pins::remove(&beside)?;
        self.0.push(path.to_owned());
        Ok(beside)
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
        name.push(":new");
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
