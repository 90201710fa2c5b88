//! Entries of the services' maps in few words, of either family.

use netpath_common::abi::{
    Layouts,
    service::{Backend, Frontend, Service},
};

/// The frontend of an address, a port and an IP protocol.
pub fn frontend<A: Layouts>(address: A, port: u16, protocol: u8) -> A::Frontend {
    let frontend = Frontend {
        address,
        port,
        protocol,
        reserved: 0,
    };
    frontend.into()
}

/// The backend of an address and a port.
pub fn backend<A: Layouts>(address: A, port: u16) -> A::Backend {
    let backend = Backend {
        address,
        port,
        reserved: [0; 2],
    };
    backend.into()
}

/// A service whose backends are those of one set, wherever a connection comes from.
pub fn service(set: u32, count: u32) -> Service {
    Service {
        set,
        count,
        outside_set: set,
        outside_count: count,
        ..Service::default()
    }
}
