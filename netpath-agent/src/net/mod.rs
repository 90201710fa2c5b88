//! The node's devices, addresses, routes and sysctls, over netlink and `/proc/sys`. On an event's way this stands beside
//! the maps: what the kernel's own stack must know of the plan. Everything here is idempotent, and touches only what is
//! netpath's.

pub mod before;
pub mod bridge;
pub mod chains;
mod encapsulation;
mod exchange;
pub mod link;
pub mod namespace;
pub mod neighbour;
pub mod overlay;
pub mod ports;
mod proc;
pub mod route;
pub mod socket_diag;
pub mod sysctl;
pub mod uplink;
pub mod veth;
pub mod watch;

use std::io;

pub use proc::{PROC_SYS_NET, mounted_at};

/// A failure, with the object it is about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No netlink socket could be opened.
    #[error("cannot open a netlink socket: {0}; the agent needs CAP_NET_ADMIN and AF_NETLINK")]
    Socket(#[source] io::Error),
    /// The kernel refused a request.
    #[error("{action}: {source}{}", remedy(source))]
    Kernel {
        /// What was asked for, with the object's name.
        action: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Something of that name, address or port is there already and belongs to someone else. Nothing was changed.
    #[error("{object} is in the way: {found}; {remedy}")]
    Taken {
        /// What netpath wants to have.
        object: String,
        /// What is there instead.
        found: String,
        /// What to do.
        remedy: String,
    },
    /// Something that must be there is not.
    #[error("{object} is missing; {remedy}")]
    Missing {
        /// What is not there.
        object: String,
        /// What to do.
        remedy: String,
    },
    /// A file below `/proc/sys` cannot be read or written.
    #[error("sysctl {name}: {source}{}", remedy(source))]
    Sysctl {
        /// The sysctl's name, with dots.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another network namespace cannot be entered.
    #[error("network namespace {}: {source}{}", path.display(), remedy(source))]
    Namespace {
        /// The file that stands for it.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What may help against an answer of the kernel that says little by itself.
fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(nix::libc::EPERM | nix::libc::EACCES | nix::libc::EROFS) => {
            "; run as root, or with CAP_NET_ADMIN and a writable /proc/sys"
        }
        Some(nix::libc::EOPNOTSUPP) => "; this kernel was built without that device or encapsulation",
        _ => "",
    }
}

/// What functions of this module return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A netlink socket in the network namespace of the thread that opened it.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: rtnetlink::Handle,
}

impl Netlink {
    /// Opens the socket and leaves its driver to the current runtime, which must run on this thread.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn connect() -> Result<Self> {
        // Strict checking makes the kernel honour the filters of a dump, rather than send every route there is.
        let (connection, handle, _) = rtnetlink::new_connection_with_strict_check().map_err(Error::Socket)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// The handle for requests that this module has no function for.
    pub fn handle(&self) -> &rtnetlink::Handle {
        &self.handle
    }
}

/// Turns an answer into an error that says what was asked for.
pub(crate) fn kernel(action: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Error {
    move |error| Error::Kernel {
        action: action.into(),
        source: reason(error),
    }
}

/// The kernel's error number, where there is one.
fn reason(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}

/// Whether the kernel answered with this error number.
pub(crate) fn is_errno(error: &rtnetlink::Error, errno: i32) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -errno)
}
