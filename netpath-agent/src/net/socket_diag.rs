//! The UDP sockets of the calling thread's network namespace that are connected, and their end from outside: sock_diag(7), and
//! `linux/inet_diag.h`. It takes Linux 4.9 with CONFIG_INET_UDP_DIAG and CONFIG_INET_DIAG_DESTROY, and CAP_NET_ADMIN.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use bytemuck::{Pod, Zeroable};
use nix::{libc, sys::socket::SockProtocol};

use super::exchange::{ACT, DUMP, Exchange};

/// `SOCK_DIAG_BY_FAMILY` of `linux/sock_diag.h`.
const BY_FAMILY: u16 = 20;
/// `SOCK_DESTROY`.
const DESTROY: u16 = 21;
/// The state of a UDP socket that has a peer, `TCP_ESTABLISHED` of `net/tcp_states.h`, as a mask of states has it.
const CONNECTED: u32 = 1 << 1;
const IPV4: u8 = libc::AF_INET as u8;
const IPV6: u8 = libc::AF_INET6 as u8;

/// `struct inet_diag_sockid`: addresses and ports in network byte order; an address of IPv4 has the first four bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct Id {
    source_port: [u8; 2],
    peer_port: [u8; 2],
    source: [u8; 16],
    peer: [u8; 16],
    device: u32,
    cookie: [u32; 2],
}

/// `struct inet_diag_req_v2`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Request {
    family: u8,
    protocol: u8,
    extensions: u8,
    reserved: u8,
    states: u32,
    id: Id,
}

/// The beginning of `struct inet_diag_msg`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Found {
    family: u8,
    state: u8,
    timer: u8,
    retransmits: u8,
    id: Id,
}

const _: () = assert!(size_of::<Id>() == 48 && size_of::<Request>() == 56 && size_of::<Found>() == 52);

/// A UDP socket that had a peer when it was listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The socket's own: one of IPv6 may have a peer of IPv4.
    family: u8,
    id: Id,
}

impl Connected {
    /// The kernel's cookie of the socket, low and high half: unique until the next boot.
    pub fn cookie(&self) -> [u32; 2] {
        self.id.cookie
    }

    /// The peer's address and port. An IPv4-mapped address is one of IPv4 here.
    pub fn peer(&self) -> (IpAddr, u16) {
        let [a, b, c, d, ..] = self.id.peer;
        let address = match self.family {
            IPV4 => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            _ => Ipv6Addr::from(self.id.peer).to_canonical(),
        };
        (address, u16::from_be_bytes(self.id.peer_port))
    }
}

/// Where the kernel is asked about sockets.
#[derive(Debug)]
pub struct SocketDiag(Exchange);

impl SocketDiag {
    /// Opens it, in the calling thread's network namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<Self> {
        Exchange::open(SockProtocol::NetlinkSockDiag).map(Self)
    }

    /// Every UDP socket that is connected, of both families.
    ///
    /// # Errors
    /// ENOENT if the kernel cannot list UDP sockets; others of its.
    pub fn connected_udp(&self) -> io::Result<Vec<Connected>> {
        let mut sockets = Vec::new();
        for family in [IPV4, IPV6] {
            let request = request(family, CONNECTED, Id::default());
            self.0
                .ask(BY_FAMILY, DUMP, bytemuck::bytes_of(&request), |kind, message| {
                    if kind == BY_FAMILY {
                        sockets.extend(connected(message));
                    }
                })?;
        }
        Ok(sockets)
    }

    /// Takes a socket's peer away: whoever waits at it, or calls it next, gets ECONNABORTED, once, and can connect it again. `false` if
    /// it was closed or has another peer by now.
    ///
    /// # Errors
    /// EOPNOTSUPP if the kernel can do that to no socket, EPERM; others of its.
    pub fn abort(&self, socket: &Connected) -> io::Result<bool> {
        // It is looked for by its addresses, and must have the cookie.
        let request = request(socket.family, 0, socket.id);
        match self.0.ask(DESTROY, ACT, bytemuck::bytes_of(&request), |_, _| {}) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether an error says that the kernel has no means to list or to end sockets, or none for us: there is nothing to try again.
pub fn is_shortcoming(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EPERM)
    )
}

/// Why connected UDP sockets cannot be ended here, what comes of it, and the remedy; nothing where they can. No socket is touched.
pub fn shortcoming() -> Option<String> {
    let nobody = Connected {
        family: IPV4,
        id: Id::default(),
    };
    let tried = SocketDiag::open().and_then(|diag| {
        diag.connected_udp()?;
        diag.abort(&nobody)
    });
    let error = tried.err()?;
    Some(format!(
        "connected UDP sockets cannot be ended: {error}: a process of the node that keeps one to a service sends on to its backend \
         when that has stopped serving; use a kernel with CONFIG_INET_UDP_DIAG and CONFIG_INET_DIAG_DESTROY, and give \
         netpath-agent CAP_NET_ADMIN"
    ))
}

fn request(family: u8, states: u32, id: Id) -> Request {
    Request {
        family,
        protocol: libc::IPPROTO_UDP as u8,
        extensions: 0,
        reserved: 0,
        states,
        id,
    }
}

fn connected(message: &[u8]) -> Option<Connected> {
    let found = message.first_chunk::<{ size_of::<Found>() }>()?;
    let Found { family, id, .. } = bytemuck::pod_read_unaligned(found);
    Some(Connected { family, id })
}
