//! cgroup recvmsg and getpeername: a socket of the node asks for its peer. Where that is a backend that it was led to, it is
//! shown the service.

use netpath_common::{abi::config::Config, reason::Reason};

use crate::{
    socket::{self, Socket},
    tables::Tables,
};

/// Takes a call to its verdict: such a call never fails.
#[inline(always)]
pub fn run<S: Socket<[u8; 4]>, T: Tables<[u8; 4]>>(socket: &mut S, tables: &T, config: &Config) -> Reason {
    if !socket::is_own(socket, config) {
        return Reason::ForeignSocket;
    }
    socket::show(socket, tables)
}
