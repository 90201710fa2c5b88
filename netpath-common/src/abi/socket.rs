//! `np_socket4`, `np_socket6`: the node's own sockets that were led to a backend of a service, without a packet being
//! translated. An LRU hash. A socket that names its peer with every datagram has two entries for each service, the others
//! one.

use super::family::families;

/// From a frontend to the backend that the socket's datagrams to it go to.
pub const TO_BACKEND: u8 = 0;
/// From a backend to the frontend that the socket knows it by.
pub const TO_FRONTEND: u8 = 1;

families! {
    /// A socket and whom it sends to, or hears from.
    pub struct SocketKey {
        /// The kernel's cookie of the socket, low and high half: unique until the next boot.
        pub cookie: [u32; 2],
        /// The frontend's address, or the backend's.
        pub address: A,
        /// Its port.
        pub port: u16,
        /// [`TO_BACKEND`] or [`TO_FRONTEND`].
        pub direction: u8,
        /// Zero.
        pub reserved: u8,
    }
    sizes: 16, 28;

    /// What stands for it.
    pub struct SocketPeer {
        /// The backend's address, or the frontend's.
        pub address: A,
        /// Its port.
        pub port: u16,
        /// Zero.
        pub reserved: [u8; 2],
        /// The set of the frontend that had the backend when it was last looked for.
        pub set: u32,
    }
    sizes: 12, 24;
}
