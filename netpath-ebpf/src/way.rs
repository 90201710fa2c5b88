//! Where a destination is: on this node, on another, or outside the cluster.

use netpath_common::{
    abi::{
        Mac,
        config::Config,
        endpoint::KIND_POD,
        route::{Route, RouteKey, VIA_DIRECT, VIA_LOCAL, VIA_SERVICE, VIA_TUNNEL},
    },
    reason::Reason,
};

use crate::{
    family::{Address, Family},
    tables::Tables,
};

/// The way to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way<A> {
    /// A pod behind a port of the bridge.
    Pod {
        /// The port.
        ifindex: u32,
        /// The pod's address.
        mac: Mac,
    },
    /// The node itself.
    Host,
    /// A node on the segment, or a pod there.
    Direct {
        /// The node.
        node: A,
        /// The next hop, if known.
        next_hop: Option<A>,
    },
    /// A node behind a router, or a pod there.
    Tunnel {
        /// The node.
        node: A,
        /// The next hop on the way to the node, if known.
        next_hop: Option<A>,
    },
    /// None of ours.
    Outside,
}

/// Finds the way.
///
/// # Errors
/// [`Reason::NoEndpoint`] and [`Reason::NoFrontend`] for addresses of ours that nobody has, [`Reason::NoRoute`].
#[inline(always)]
pub fn find<F: Family, T: Tables<F::Addr>>(
    tables: &T,
    config: &Config,
    destination: F::Addr,
) -> Result<Way<F::Addr>, Reason> {
    if let Some(endpoint) = tables.endpoint(destination) {
        return Ok(match endpoint.kind {
            KIND_POD => Way::Pod {
                ifindex: endpoint.ifindex,
                mac: endpoint.mac,
            },
            _ => Way::Host,
        });
    }
    let Some(route) = route::<F, T>(tables, config, destination) else {
        return Ok(Way::Outside);
    };
    let next_hop = if route.next_hop == F::Addr::default() {
        None
    } else {
        Some(route.next_hop)
    };
    match route.via {
        VIA_DIRECT => Ok(Way::Direct {
            node: route.node,
            next_hop,
        }),
        VIA_TUNNEL => Ok(Way::Tunnel {
            node: route.node,
            next_hop,
        }),
        VIA_LOCAL => Err(Reason::NoEndpoint),
        VIA_SERVICE => Err(Reason::NoFrontend),
        _ => Err(Reason::NoRoute),
    }
}

/// The route with the longest prefix that has the address.
#[inline(always)]
fn route<F: Family, T: Tables<F::Addr>>(tables: &T, config: &Config, address: F::Addr) -> Option<Route<F::Addr>> {
    for prefix_len in F::route_prefixes(config) {
        if prefix_len == 0 {
            break;
        }
        let key = RouteKey {
            address: address.masked(prefix_len),
            prefix_len: u32::from(prefix_len),
        };
        if let Some(route) = tables.route(key) {
            return Some(route);
        }
    }
    None
}

/// How the address is reached, if it is an address of the cluster beyond this node: one of `VIA_*`.
#[inline(always)]
pub fn via<F: Family, T: Tables<F::Addr>>(tables: &T, config: &Config, address: F::Addr) -> Option<u8> {
    route::<F, T>(tables, config, address).map(|route| route.via)
}

/// Whether the address is that of another node.
#[inline(always)]
pub fn is_node<A: Address, T: Tables<A>>(tables: &T, address: A) -> bool {
    let prefix_len = 8 * size_of::<A>() as u32;
    tables
        .route(RouteKey { address, prefix_len })
        .is_some_and(|route| matches!(route.via, VIA_DIRECT | VIA_TUNNEL))
}
