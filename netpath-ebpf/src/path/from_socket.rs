//! cgroup connect and sendmsg: a socket of the node names its peer. Where that is a service, it gets a backend instead.

use netpath_common::{abi::config::Config, reason::Reason};

use crate::{
    socket::{self, Keeps, Socket},
    tables::Tables,
    v4::V4,
};

/// Takes a call to its verdict: why it goes on, or why it fails.
///
/// # Errors
/// It fails: [`Reason::Refused`], [`Reason::NoBackend`].
#[inline(always)]
pub fn run<S: Socket<[u8; 4]>, T: Tables<[u8; 4]>>(
    socket: &mut S,
    tables: &mut T,
    config: &Config,
    keeps: Keeps,
) -> Result<Reason, Reason> {
    if !socket::is_own(socket, config) {
        return Ok(Reason::ForeignSocket);
    }
    socket::lead::<V4, S, T>(socket, tables, config, keeps)
}
