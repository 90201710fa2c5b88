//! Datagrams to a backend that is gone: their connections are forgotten, so that the next packet chooses among those that
//! remain. A TCP connection ends by itself, and its peer's next SYN chooses anew; UDP has nothing of the kind.

use std::collections::BTreeSet;

use netpath_common::abi::{
    conntrack::{
        DIRECTION_ORIGINAL,
        v4::{Connection, Tuple},
    },
    service::v4::Frontend,
};

use crate::datapath::{error::Result, maps::Table};

/// IP protocol number of UDP.
pub const UDP: u8 = 17;

/// Backends that frontends no longer have: each frontend with an address and a port.
pub type Gone = BTreeSet<(Frontend, [u8; 4], u16)>;

/// Removes both directions of every connection over a frontend to a backend that it no longer has. Returns how many
/// connections went.
///
/// # Errors
/// [`crate::datapath::error::Error::Map`].
pub fn forget(connections: &mut Table<Tuple, Connection>, gone: &Gone) -> Result<usize> {
    let mut forgotten = 0;
    for (tuple, connection) in connections.entries()? {
        let frontend = Frontend {
            address: tuple.destination,
            port: tuple.destination_port,
            protocol: tuple.protocol,
            reserved: 0,
        };
        let to = (frontend, connection.destination, connection.destination_port);
        if connection.direction != DIRECTION_ORIGINAL || !gone.contains(&to) {
            continue;
        }
        // The way there first: without it the answers' entry finds no packet any more.
        connections.remove(&tuple)?;
        connections.remove(&answers(&tuple, &connection))?;
        forgotten += 1;
    }
    Ok(forgotten)
}

/// The tuple of a connection's answers, as its backend sends them.
fn answers(tuple: &Tuple, connection: &Connection) -> Tuple {
    Tuple {
        source: connection.destination,
        destination: connection.source,
        source_port: connection.destination_port,
        destination_port: connection.source_port,
        protocol: tuple.protocol,
        reserved: [0; 3],
    }
}
