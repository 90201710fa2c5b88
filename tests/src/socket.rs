//! A socket's call on the host, for the packet logic's programs of sockets.

use netpath_ebpf::socket::Socket;

/// A call of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostSocket<A = [u8; 4]> {
    /// Its network namespace's cookie.
    pub netns: u64,
    /// Its own.
    pub cookie: u64,
    /// As `socket` was told.
    pub protocol: u32,
    /// Address and port that the call names, or is about to show.
    pub peer: (A, u16),
}

impl<A: Copy> Socket<A> for HostSocket<A> {
    fn netns_cookie(&self) -> u64 {
        self.netns
    }

    fn cookie(&self) -> [u32; 2] {
        [self.cookie as u32, (self.cookie >> 32) as u32]
    }

    fn protocol(&self) -> u32 {
        self.protocol
    }

    fn peer(&self) -> (A, u16) {
        self.peer
    }

    fn set_peer(&mut self, address: A, port: u16) {
        self.peer = (address, port);
    }
}
