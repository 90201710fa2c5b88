//! Tells when something below the folder may have changed.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::mpsc,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

/// A watch on the folder, as long as the folder is the same.
pub(super) struct Tripwire {
    root: PathBuf,
    changes: mpsc::Sender<()>,
    /// Device and inode of the folder that is watched.
    watched: Option<((u64, u64), RecommendedWatcher)>,
}

impl Tripwire {
    /// Begins to watch.
    pub fn new(root: &Path, changes: mpsc::Sender<()>) -> Self {
        let mut tripwire = Self {
            root: root.to_owned(),
            changes,
            watched: None,
        };
        tripwire.set();
        tripwire
    }

    /// Watches anew if the folder is not the one that is watched. Without a watch changes are found too, only later: the
    /// folder is looked at from time to time.
    pub fn set(&mut self) {
        let now = fs::metadata(&self.root).ok().map(|meta| (meta.dev(), meta.ino()));
        if self.watched.as_ref().map(|(folder, _)| *folder) == now {
            return;
        }
        self.watched = now.and_then(|folder| match self.watch() {
            Ok(watcher) => Some((folder, watcher)),
            Err(error) => {
                let path = self.root.display();
                tracing::warn!(%path, %error, "changes of the folder are seen late: raise fs.inotify.max_user_watches");
                None
            }
        });
    }

    fn watch(&self) -> notify::Result<RecommendedWatcher> {
        let changes = self.changes.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let reading = event.as_ref().is_ok_and(|event| event.kind.is_access());
            if !reading {
                // The receiver is gone only when nobody wants to know any more.
                let _ = changes.send(());
            }
        })?;
        watcher.watch(&self.root, RecursiveMode::Recursive)?;
        Ok(watcher)
    }
}
