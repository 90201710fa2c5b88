//! Another network namespace, entered on a thread of its own: a thread that has been elsewhere is never used again.

use std::{
    fs::{self, File, OpenOptions},
    future::Future,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    thread,
};

use nix::{
    libc,
    sched::{CloneFlags, setns},
    sys::statfs::{NSFS_MAGIC, fstatfs},
};

use super::{Error, Netlink, Result};

/// A network namespace, kept alive as long as this is.
#[derive(Debug)]
pub struct Namespace {
    path: PathBuf,
    file: File,
}

impl Namespace {
    /// Opens the file that stands for a namespace.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no such file, or it is none of a namespace.
    pub fn open(path: &Path) -> Result<Self> {
        let missing = |why: String| Error::Missing {
            object: format!("network namespace {}", path.display()),
            remedy: why,
        };
        // Not blocking: the path comes from outside, and may be a pipe that nobody writes to.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let file = file.map_err(|error| missing(error.to_string()))?;
        let kind = fstatfs(&file)
            .map_err(|error| missing(error.to_string()))?
            .filesystem_type();
        if kind != NSFS_MAGIC {
            return Err(missing("the file is not a namespace".into()));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Whether this is the namespace that the calling thread is in.
    ///
    /// # Errors
    /// [`Error::Namespace`].
    pub fn is_current(&self) -> Result<bool> {
        let same = || -> io::Result<bool> {
            let (this, current) = (self.file.metadata()?, fs::metadata("/proc/thread-self/ns/net")?);
            Ok((this.dev(), this.ino()) == (current.dev(), current.ino()))
        };
        same().map_err(|error| self.error(error))
    }

    /// The open file, for moving devices there.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Runs a function inside the namespace, with netlink. Everything it opens stays there.
    ///
    /// # Errors
    /// [`Error::Namespace`] if the namespace cannot be entered, and what the function returns.
    pub fn netlink<T, E, F>(&self, function: impl FnOnce(Netlink) -> F + Send) -> Result<T, E>
    where
        T: Send,
        E: From<Error> + Send,
        F: Future<Output = Result<T, E>>,
    {
        let inside = || {
            setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|error| self.error(error.into()))?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
            runtime
                .map_err(Error::Socket)?
                .block_on(async { function(Netlink::connect()?).await })
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new()
                .name("namespace".into())
                .spawn_scoped(scope, inside);
            let thread = thread.map_err(|error| self.error(error))?;
            thread
                .join()
                .unwrap_or_else(|_| Err(self.error(io::Error::other("a thread in it panicked")).into()))
        })
    }

    fn error(&self, source: io::Error) -> Error {
        Error::Namespace {
            path: self.path.clone(),
            source,
        }
    }
}
