//! Datagrams to a backend that stopped serving: their connections are forgotten, so that the next packet chooses among
//! those that serve, and the node's own sockets that were led there are aborted. A connection of TCP or SCTP ends by itself, and
//! its peer's next SYN or INIT chooses anew; UDP has nothing of the kind.
//!
//! A backend that is no longer chosen but still answers, such as one on its way out, keeps its flows. So does each whose
//! frontend now has another traffic policy.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    iter,
    sync::Arc,
};

use netpath_common::abi::{
    conntrack::{Connection, DIRECTION_REPLY, Tuple},
    service::{Backend, Frontend, HOST_PORT_SETS},
};

use super::sockets;
use crate::{
    datapath::{error::Result, maps::Table},
    family::Family,
    plan::FamilyPlan,
};

/// IP protocol number of UDP.
pub const UDP: u8 = 17;

/// The flows that a plan lets stay.
pub struct Datagrams<F: Family> {
    /// The frontends of UDP, each with whoever answers.
    serving: BTreeMap<F::Frontend, Arc<[F::Backend]>>,
    /// The node's own addresses.
    own: Vec<F>,
}

/// The protocol of a frontend.
fn protocol<F: Family>(frontend: &F::Frontend) -> u8 {
    let Frontend { protocol, .. } = (*frontend).into();
    protocol
}

impl<F: Family> Datagrams<F> {
    /// Those of a plan.
    pub fn of(plan: &FamilyPlan<F>) -> Self {
        let services = plan.services.iter();
        let datagrams = services.filter(|(frontend, _)| protocol::<F>(frontend) == UDP);
        Self {
            serving: datagrams
                .map(|(frontend, service)| (*frontend, Arc::clone(&service.serving)))
                .collect(),
            own: plan.endpoints.keys().copied().collect(),
        }
    }

    /// Whether a flow that may have begun before cannot stay.
    pub fn end_some_of(&self, before: &Self) -> bool {
        let frontends = self.serving.keys().chain(before.serving.keys());
        let at = |datagrams: &Self, frontend| datagrams.serving.get(frontend).cloned();
        frontends
            .into_iter()
            .any(|frontend| may_end::<F>(at(before, frontend).as_deref(), at(self, frontend).as_deref()))
    }

    /// Takes up what a plan says of some frontends, and says whether a flow that may have begun before cannot stay.
    pub fn follow(&mut self, plan: &FamilyPlan<F>, frontends: &BTreeSet<F::Frontend>) -> bool {
        let mut some_end = false;
        for frontend in frontends.iter().filter(|frontend| protocol::<F>(frontend) == UDP) {
            let now = plan.services.get(frontend).map(|service| Arc::clone(&service.serving));
            let before = match &now {
                Some(now) => self.serving.insert(*frontend, Arc::clone(now)),
                None => self.serving.remove(frontend),
            };
            some_end |= may_end::<F>(before.as_deref(), now.as_deref());
        }
        some_end
    }

    /// Removes both directions of every connection that cannot stay. Returns how many went.
    ///
    /// # Errors
    /// [`crate::datapath::error::Error::Map`].
    pub fn forget(&self, connections: &mut Table<F::Tuple, F::Connection>) -> Result<usize> {
        let stay: HashSet<(&F::Frontend, &F::Backend)> = self
            .serving
            .iter()
            .flat_map(|(frontend, serving)| serving.iter().map(move |backend| (frontend, backend)))
            .collect();
        forget::<F>(connections, |frontend, backend, set| {
            // What no service translated concerns us only where a service answers by now. Those of hostPorts are the CNI
            // plugin's.
            let by_service = (1..HOST_PORT_SETS).contains(&set) || self.serving.contains_key(frontend);
            // What another node relayed was chosen at the frontend without an address.
            let anywhere = || Frontend::<F>::anywhere(&(*frontend).into()).into();
            let stays = || stay.contains(&(frontend, backend)) || stay.contains(&(&anywhere(), backend));
            protocol::<F>(frontend) == UDP && by_service && !stays()
        })
    }

    /// Aborts every connected socket of the node that was led to a backend and cannot stay there. Returns how many that were.
    ///
    /// # Errors
    /// As [`sockets::abort`].
    pub fn abort(&self, led: &Table<F::SocketKey, F::SocketPeer>) -> Result<usize> {
        // Those of hostPorts are the CNI plugin's.
        sockets::abort::<F>(led, |asked, backend, set| {
            (1..HOST_PORT_SETS).contains(&set) && !self.leads(asked, backend)
        })
    }

    /// Whether a socket that asked for an address and port may be at a backend.
    fn leads(&self, asked: &Frontend<F>, backend: &F::Backend) -> bool {
        // A port that is on all addresses of the node is asked for on more of them than have a frontend.
        let asks_node = sockets::is_loopback(asked.address) || self.own.contains(&asked.address);
        let own = self.own.iter().filter(|_| asks_node);
        let own = own.map(|own| Frontend {
            address: *own,
            ..*asked
        });
        iter::once(*asked).chain(own).any(|frontend| {
            let serving = self.serving.get(&frontend.into());
            serving.is_some_and(|serving| serving.contains(backend))
        })
    }
}

/// Whether a flow to a frontend cannot stay, of those who answered there before and do now: a backend or the frontend is gone, or
/// it is new, so that datagrams to it may have gone past it.
fn may_end<F: Family>(before: Option<&[F::Backend]>, now: Option<&[F::Backend]>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => before != now && before.iter().any(|backend| !now.contains(backend)),
        (None, None) => false,
        _ => true,
    }
}

/// Removes both directions of every connection that `goes`, which is asked with the connection's frontend, its backend and
/// the set that this was chosen from. Returns how many went.
///
/// # Errors
/// [`crate::datapath::error::Error::Map`].
pub fn forget<F: Family>(
    connections: &mut Table<F::Tuple, F::Connection>,
    goes: impl Fn(&F::Frontend, &F::Backend, u32) -> bool,
) -> Result<usize> {
    let mut forgotten = 0;
    for (found, connection) in connections.entries()? {
        let (tuple, connection): (Tuple<F>, Connection<F>) = (found.into(), connection.into());
        if connection.direction == DIRECTION_REPLY {
            continue;
        }
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
        if !goes(&frontend.into(), &backend.into(), connection.set) {
            continue;
        }
        // The way there first: without it the answers' entry finds no packet any more. What is relayed has no such entry.
        connections.remove(&found)?;
        connections.remove(&answers(&tuple, &connection).into())?;
        forgotten += 1;
    }
    Ok(forgotten)
}

/// The tuple of a connection's answers, as its backend sends them.
fn answers<A: Copy>(tuple: &Tuple<A>, connection: &Connection<A>) -> Tuple<A> {
    Tuple {
        source: connection.destination,
        destination: connection.source,
        source_port: connection.destination_port,
        destination_port: connection.source_port,
        protocol: tuple.protocol,
        reserved: [0; 3],
    }
}

#[cfg(test)]
mod tests {
    use netpath_common::abi::{
        endpoint::{Endpoint, KIND_HOST},
        service::{FLAG_NODE_PORT, v4},
    };

    use super::*;
    use crate::{family::V4, plan::ServicePlan};

    #[test]
    fn a_socket_may_be_where_the_address_that_it_asked_for_leads() {
        const NODE: V4 = [192, 0, 2, 1];
        const GATEWAY: V4 = [10, 244, 1, 1];
        const CLUSTER_IP: V4 = [10, 96, 0, 10];
        let backend = |last| v4::Backend {
            address: [10, 244, 1, last],
            port: 53,
            reserved: [0; 2],
        };
        let asked = |address, port| Frontend {
            address,
            port,
            protocol: UDP,
            reserved: 0,
        };
        let host = Endpoint {
            kind: KIND_HOST,
            ..Endpoint::default()
        };
        let node_port = ServicePlan::alike(FLAG_NODE_PORT, vec![backend(2)]);
        let cluster_ip = ServicePlan {
            serving: [backend(3), backend(4)].into(),
            ..ServicePlan::alike(0, vec![backend(3)])
        };
        let datagrams = Datagrams::of(&FamilyPlan::<V4> {
            endpoints: [(NODE, host), (GATEWAY, host)].into(),
            services: [
                (asked(NODE, 30_053).into(), node_port),
                (asked(CLUSTER_IP, 53).into(), cluster_ip),
            ]
            .into(),
            ..FamilyPlan::default()
        });
        let stay = [
            (NODE, 30_053, 2),
            (GATEWAY, 30_053, 2),
            ([127, 0, 0, 9], 30_053, 2),
            ([0; 4], 30_053, 2),
            (CLUSTER_IP, 53, 3),
            (CLUSTER_IP, 53, 4),
        ];
        let go = [
            (NODE, 30_053, 3),
            ([127, 0, 0, 1], 53, 2),
            (CLUSTER_IP, 53, 2),
            (CLUSTER_IP, 30_053, 2),
            ([198, 51, 100, 1], 30_053, 2),
        ];
        for (cases, stays) in [(&stay[..], true), (&go, false)] {
            for &(address, port, last) in cases {
                let leads = datagrams.leads(&asked(address, port), &backend(last));
                assert_eq!(leads, stays, "{address:?}:{port} to {last}");
            }
        }
    }
}
