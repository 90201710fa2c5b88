//! cgroup connect and sendmsg: a socket of the node names its peer. Where that is a service, it gets a backend instead.

use netpath_common::{abi::config::Config, reason::Reason};

use crate::{
    family::Family,
    socket::{self, Keeps, Mapped, Socket},
    tables::{BothTables, Tables},
    v4::V4,
    v6::V6,
};

/// Takes a call whose peer has an address of the family to its verdict: why it goes on, or why it fails. The kernel takes a
/// datagram of a socket of IPv6 to an IPv4-mapped address for one of IPv4 before it asks.
///
/// # Errors
/// It fails: [`Reason::Refused`], [`Reason::NoBackend`].
#[inline(always)]
pub fn run<F: Family, S: Socket<F::Addr>, T: Tables<F::Addr>>(
    socket: &mut S,
    tables: &mut T,
    config: &Config,
    keeps: Keeps,
) -> Result<Reason, Reason> {
    if !socket::is_own(socket, config) {
        return Ok(Reason::ForeignSocket);
    }
    socket::lead::<F, S, T>(socket, tables, config, keeps)
}

/// The same of a socket of IPv6 that connects, whose peer may have an IPv4 address.
///
/// # Errors
/// As [`run`].
#[inline(always)]
pub fn run_either<S: Socket<[u8; 16]>, T: BothTables>(
    socket: &mut S,
    tables: &mut T,
    config: &Config,
    keeps: Keeps,
) -> Result<Reason, Reason> {
    match Mapped::of(socket) {
        Some(mut mapped) => run::<V4, _, T>(&mut mapped, tables, config, keeps),
        None => run::<V6, S, T>(socket, tables, config, keeps),
    }
}
