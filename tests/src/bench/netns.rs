//! Network namespaces without names: a descriptor keeps one alive, so nothing is left behind however the process ends.

use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    path::PathBuf,
    thread,
};

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns, unshare};

use super::netlink::Netlink;

/// A network namespace and a connection to its routing socket.
pub struct Namespace {
    file: File,
    /// Devices, addresses and routes in it.
    pub net: Netlink,
}

impl Namespace {
    /// A fresh namespace with its loopback up.
    ///
    /// # Errors
    /// Without the right to make one (CAP_SYS_ADMIN).
    pub fn new() -> Result<Self> {
        let file = own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .context("cannot make a network namespace: run as root, where CONFIG_NET_NS is on")?;
            File::open("/proc/thread-self/ns/net").context("cannot open the new namespace under /proc")
        })?;
        let namespace = Self::hold(file)?;
        namespace.net.up(1)?;
        Ok(namespace)
    }

    /// A namespace that someone else made.
    ///
    /// # Errors
    /// When it cannot be entered.
    pub fn open(file: &File) -> Result<Self> {
        Self::hold(file.try_clone().context("cannot hold a network namespace")?)
    }

    fn hold(file: File) -> Result<Self> {
        let net = own_thread(|| {
            setns(&file, CloneFlags::CLONE_NEWNET).context("cannot enter a network namespace")?;
            Netlink::connect()
        })?;
        Ok(Self { file, net })
    }

    /// Puts the calling thread into the namespace. Sockets it has already opened stay where they are.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN.
    pub fn enter(&self) -> Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).context("cannot enter a network namespace")
    }

    /// Runs `work` inside the namespace, on a thread of its own; processes it starts are born there.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        own_thread(|| {
            self.enter()?;
            work()
        })
    }

    /// Writes a setting below `/proc/sys/net`, for example `ipv4/ip_forward`.
    ///
    /// # Errors
    /// When the kernel does not have it.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        self.run(|| {
            let path = PathBuf::from("/proc/sys/net").join(name);
            std::fs::write(&path, value).with_context(|| format!("cannot set {} to {value}", path.display()))
        })
    }

    /// A path under which other processes can open the namespace while this one lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }

    /// The descriptor's number, as netlink takes it.
    pub fn raw(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A namespace belongs to a thread, and so does a choice of CPUs: work that changes them gets a thread to throw away.
///
/// # Errors
/// Those of `work`.
pub fn own_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| scope.spawn(work).join())
        .map_err(|_| anyhow!("the thread that measures or sets up panicked"))?
}
