//! A folder of Kubernetes objects as YAML, for one machine without an API server: read wholly, then watched.
//!
//! Nothing that was there is lost by a mistake: a file that breaks keeps what it said before, an object that breaks keeps
//! its earlier self, and a folder that vanishes or is emptied keeps everything. To take objects away, remove them from a
//! file that has others, or remove the file.
//!
//! What a file said before is known only while the agent lives. One that has been broken ever since says nothing, and is
//! named in [`Cluster::unread`]: a node that serves already is then left as it is.
//!
//! A file ought to be replaced by renaming, as editors and `kubectl` do: one that is written slowly in place may be read
//! half.

mod files;
mod merge;
mod tripwire;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use self::{files::Files, tripwire::Tripwire};
use crate::{heap, model::Cluster};

/// How long the folder must be quiet before it is read again.
const QUIET: Duration = Duration::from_millis(50);
/// How long changes that do not end may put that off.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often the folder is looked at without having been told of a change: the kernel's queue of changes may overflow, and
/// a folder that is made anew is not the one that was watched.
const LOOK: Duration = Duration::from_secs(2);

/// Why a folder cannot be a source.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It is not there, or not readable.
    #[error("cannot read the folder of objects {}: {error}; create it, or correct --folder", path.display())]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// No thread could be started.
    #[error("cannot start a thread that watches {}: {error}; raise the limit of processes", path.display())]
    Thread {
        /// The folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Reads the folder, then watches it for as long as somebody holds the receiver. What is wrong with files and objects is
/// in [`Cluster::problems`].
///
/// # Errors
/// The folder is missing or not readable. Once it was read it may come and go.
pub fn watch(path: &Path) -> Result<watch::Receiver<Arc<Cluster>>, FolderError> {
    let path = path.to_owned();
    // Watching begins before the first reading: a change between the two would be missed otherwise.
    let (changes, changed) = mpsc::channel();
    let mut tripwire = Tripwire::new(&path, changes);
    let mut files = Files::open(&path).map_err(|error| FolderError::Unreadable {
        path: path.clone(),
        error,
    })?;
    let (sender, receiver) = watch::channel(Arc::new(merge::merge(&files)));
    thread::Builder::new()
        .name("folder".into())
        .spawn(move || {
            while !sender.is_closed() {
                wait(&changed);
                tripwire.set();
                if files.read_again() {
                    let cluster = merge::merge(&files);
                    sender.send_if_modified(|current| {
                        let news = **current != cluster;
                        if news {
                            *current = Arc::new(cluster);
                        }
                        news
                    });
                }
                // Of a file most is not kept.
                if files.have_been_read {
                    heap::give_back();
                }
            }
        })
        .map_err(|error| FolderError::Thread { path, error })?;
    Ok(receiver)
}

/// Returns when a burst of changes is over, or when it is time to look anyway.
fn wait(changed: &mpsc::Receiver<()>) {
    if changed.recv_timeout(LOOK).is_err() {
        return;
    }
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until && changed.recv_timeout(QUIET).is_ok() {}
}

#[cfg(test)]
mod tests;
