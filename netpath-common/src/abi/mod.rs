//! The maps: one file a map, with its key, its value and the layout both sides rely on.
//!
//! Conventions: every type is `#[repr(C)]` without implicit padding (`bytemuck::Pod` refuses it); addresses are byte
//! arrays in network order; ports, indices and counters are integers in host order; MAC addresses are six bytes as on the
//! wire. A change of any layout raises [`ABI_VERSION`].

pub mod affinity;
pub mod bridge;
pub mod config;
pub mod conntrack;
pub mod counter;
pub mod endpoint;
mod family;
pub mod fragment;
pub mod held;
mod layouts;
pub mod maglev;
pub mod route;
pub mod service;
pub mod socket;
pub mod source;

pub use layouts::{Entry, Layouts};

/// The version of all layouts in this module. It is part of the configuration entry, so that an agent knows whether it
/// may adopt the maps that it finds pinned.
pub const ABI_VERSION: u32 = 5;

/// A MAC address, as on the wire.
pub type Mac = [u8; 6];
