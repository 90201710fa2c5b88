//! cgroup recvmsg and getpeername: a socket of the node asks for its peer. Where that is a backend that it was led to, it is
//! shown the service.

use netpath_common::{abi::config::Config, reason::Reason};

use crate::{
    family::Address,
    socket::{self, Mapped, Socket},
    tables::{BothTables, Tables},
};

/// Takes a call whose peer has an address of the family to its verdict: such a call never fails.
#[inline(always)]
pub fn run<A: Address, S: Socket<A>, T: Tables<A>>(socket: &mut S, tables: &T, config: &Config) -> Reason {
    if !socket::is_own(socket, config) {
        return Reason::ForeignSocket;
    }
    socket::show(socket, tables)
}

/// The same of a socket of IPv6, whose peer may have an IPv4 address.
#[inline(always)]
pub fn run_either<S: Socket<[u8; 16]>, T: BothTables>(socket: &mut S, tables: &T, config: &Config) -> Reason {
    match Mapped::of(socket) {
        Some(mut mapped) => run::<[u8; 4], _, T>(&mut mapped, tables, config),
        None => run::<[u8; 16], S, T>(socket, tables, config),
    }
}
