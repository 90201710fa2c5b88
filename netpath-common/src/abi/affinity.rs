//! `np_affinity4`, `np_affinity6`: which backend a client of a service with session affinity was sent to. An LRU hash from
//! [`Client`] to [`Affinity`].
//!
//! A backend is kept by its address and port: those outlive the numbers of sets and the places in them. It counts only
//! while it is in the set that the frontend names, see [`super::service`].

use super::family::families;

families! {
    /// A client of a service port.
    pub struct Client {
        /// The client's address, as its packets have it.
        pub address: A,
        /// [`super::service::Service::affinity`].
        pub affinity: u32,
    }
    sizes: 8, 20;

    /// Whom its connections go to.
    pub struct Affinity {
        /// The backend's address.
        pub address: A,
        /// The backend's port.
        pub port: u16,
        /// Zero.
        pub reserved: [u8; 2],
        /// When the client last opened a connection, in seconds of the kernel's coarse monotonic clock.
        pub last_used: u32,
    }
    sizes: 12, 24;
}
