//! A network namespace with a name under `/run/netns`, where `ip netns` and `nsenter --net=` find it. The name goes when the
//! guard is dropped; the kernel takes the namespace down with the last process in it.

use std::{
    fs::{self, File, OpenOptions},
    future::Future,
    io::ErrorKind,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result, anyhow};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};
use rtnetlink::{Handle, LinkUnspec};

const NETNS: &str = "/run/netns";

/// A network namespace.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Makes one, with the loopback device up.
    ///
    /// # Errors
    /// A namespace of that name exists, or the kernel refuses.
    pub fn create(name: &str) -> Result<Self> {
        fs::create_dir_all(NETNS).with_context(|| format!("cannot create {NETNS}"))?;
        let path = path(name);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .with_context(|| {
                format!(
                    "cannot create the network namespace {name} ({} is in use: `ip netns del {name}`?)",
                    path.display()
                )
            })?;
        let made = Self::bind(&path).and_then(|()| {
            Ok(Self {
                name: name.to_owned(),
                file: File::open(&path)?,
            })
        });
        let namespace = match made {
            Ok(namespace) => namespace,
            Err(error) => {
                remove(&path)?;
                return Err(error.context(format!("cannot create the network namespace {name}")));
            }
        };
        namespace.netlink(async |handle| {
            handle
                .link()
                .set(LinkUnspec::new_with_name("lo").up().build())
                .execute()
                .await?;
            Ok(())
        })?;
        Ok(namespace)
    }

    fn bind(path: &Path) -> Result<()> {
        let path = path.to_owned();
        on_thread(move || {
            unshare(CloneFlags::CLONE_NEWNET).context("unshare")?;
            mount(
                Some("/proc/thread-self/ns/net"),
                &path,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .context("mount")
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that `nsenter --net=` takes.
    pub fn path(&self) -> PathBuf {
        path(&self.name)
    }

    /// The open file, for `setns` and for moving devices here.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Runs a function on a thread of its own inside the namespace. Sockets made there stay there.
    ///
    /// # Errors
    /// Entering failed, the function failed, or it panicked.
    pub fn run<T: Send>(&self, function: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter {}", self.name))?;
            function()
        })
    }

    /// Runs a function with a netlink connection into the namespace.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn netlink<T: Send, F: Future<Output = Result<T>>>(
        &self,
        function: impl FnOnce(Handle) -> F + Send,
    ) -> Result<T> {
        self.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection()?;
                let connection = tokio::spawn(connection);
                let result = function(handle).await;
                connection.abort();
                result
            })
        })
    }

    /// Sets a kernel parameter below `/proc/sys/net`, `ipv4/ip_forward` for one.
    ///
    /// # Errors
    /// The parameter does not exist or refuses the value.
    pub fn set(&self, parameter: &str, value: &str) -> Result<()> {
        self.run(|| {
            let path = Path::new("/proc/sys/net").join(parameter);
            fs::write(&path, value).with_context(|| format!("cannot write {}", path.display()))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path()) {
            eprintln!("{error:#}");
        }
    }
}

/// Removes every namespace whose name begins with `prefix`.
///
/// # Errors
/// The first that would not go; the others are removed all the same.
pub fn remove_all(prefix: &str) -> Result<()> {
    let entries = match fs::read_dir(NETNS) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("cannot list {NETNS}"))?,
    };
    let mut result = Ok(());
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            result = result.and(remove(&entry.path()));
        }
    }
    result
}

fn path(name: &str) -> PathBuf {
    Path::new(NETNS).join(name)
}

fn remove(path: &Path) -> Result<()> {
    // EINVAL: nothing is mounted there, because making it failed half way.
    match umount2(path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::errno::Errno::EINVAL) => {}
        Err(nix::errno::Errno::ENOENT) => return Ok(()),
        Err(errno) => return Err(errno).with_context(|| format!("cannot unmount {}", path.display())),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn on_thread<T: Send>(function: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("namespace".into())
            .spawn_scoped(scope, function)?;
        thread.join().map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            anyhow!(
                "panicked: {}",
                text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
            )
        })?
    })
}
