//! Datagrams to a backend that stopped serving: their connections are forgotten, so that the next packet chooses among
//! those that serve. A TCP connection ends by itself, and its peer's next SYN chooses anew; UDP has nothing of the kind.
//!
//! A backend that is no longer chosen but still answers, such as one on its way out, keeps its flows. So does each whose
//! frontend now has another traffic policy.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use netpath_common::abi::{
    conntrack::{
        DIRECTION_ORIGINAL,
        v4::{Connection, Tuple},
    },
    service::{
        HOST_PORT_SETS,
        v4::{Backend, Frontend},
    },
};

use crate::{
    datapath::{error::Result, maps::Table},
    plan::Plan,
};

/// IP protocol number of UDP.
const UDP: u8 = 17;

/// The flows that a plan lets stay: the frontends of UDP, each with whoever answers.
pub struct Datagrams(BTreeMap<Frontend, Arc<[Backend]>>);

impl Datagrams {
    /// Those of a plan.
    pub fn of(plan: &Plan) -> Self {
        let services = plan.services4.iter();
        let datagrams = services.filter(|(frontend, _)| frontend.protocol == UDP);
        Self(
            datagrams
                .map(|(frontend, service)| (*frontend, Arc::clone(&service.serving)))
                .collect(),
        )
    }

    /// Whether a flow that may have begun before cannot stay: a backend or a frontend is gone, or a frontend is new, so that
    /// datagrams to it may have gone past it.
    pub fn end_some_of(&self, before: &Self) -> bool {
        let is_new = |frontend| !before.0.contains_key(frontend);
        let has_lost = |(frontend, old): (&Frontend, &Arc<[Backend]>)| match self.0.get(frontend) {
            Some(now) => now != old && old.iter().any(|backend| !now.contains(backend)),
            None => true,
        };
        self.0.keys().any(is_new) || before.0.iter().any(has_lost)
    }

    /// Removes both directions of every connection that cannot stay. Returns how many went.
    ///
    /// # Errors
    /// [`crate::datapath::error::Error::Map`].
    pub fn forget(&self, connections: &mut Table<Tuple, Connection>) -> Result<usize> {
        let stay: HashSet<(&Frontend, &Backend)> = self
            .0
            .iter()
            .flat_map(|(frontend, serving)| serving.iter().map(move |backend| (frontend, backend)))
            .collect();
        forget(connections, |frontend, backend, connection| {
            // What no service translated concerns us only where a service answers by now. Those of hostPorts are the CNI
            // plugin's.
            let by_service = (1..HOST_PORT_SETS).contains(&connection.set) || self.0.contains_key(frontend);
            frontend.protocol == UDP && by_service && !stay.contains(&(frontend, backend))
        })
    }
}

/// Removes both directions of every connection that `goes`, which is asked with the connection's frontend and backend.
/// Returns how many went.
///
/// # Errors
/// [`crate::datapath::error::Error::Map`].
pub fn forget(
    connections: &mut Table<Tuple, Connection>,
    goes: impl Fn(&Frontend, &Backend, &Connection) -> bool,
) -> Result<usize> {
    let mut forgotten = 0;
    for (tuple, connection) in connections.entries()? {
        let frontend = Frontend {
            address: tuple.destination,
            port: tuple.destination_port,
            protocol: tuple.protocol,
            reserved: 0,
        };
        let backend = Backend {
            address: connection.destination,
            port: connection.destination_port,
            reserved: [0; 2],
        };
        if connection.direction != DIRECTION_ORIGINAL || !goes(&frontend, &backend, &connection) {
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
