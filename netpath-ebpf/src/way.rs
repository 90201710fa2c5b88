//! Where a packet comes from, and where its destination is: on this node, on another, or outside the cluster.

use netpath_common::abi::{
    Mac,
    config::Config,
    endpoint::KIND_POD,
    route::{Route, RouteKey, VIA_DIRECT, VIA_SERVICE, VIA_TUNNEL},
};

use crate::{
    family::{Address, Family},
    scratch::Notes,
    tables::Tables,
};

/// Where a packet comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A pod of this node.
    Pod,
    /// The uplink, as it is.
    Wire,
    /// Another node's tunnel.
    Tunnel,
    /// This node's stack.
    Host,
}

impl Origin {
    /// Whether it is this node itself or a pod of it.
    #[inline(always)]
    pub fn is_inside(self) -> bool {
        matches!(self, Self::Pod | Self::Host)
    }
}

/// Where a way ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// A pod behind a port of the bridge.
    Pod,
    /// The node itself.
    Host,
    /// A node on the segment, or a pod there.
    Direct,
    /// A node behind a router, or a pod there.
    Tunnel,
    /// None of ours.
    #[default]
    Outside,
    /// An address of this node's own subnets that nobody has.
    Vacant,
    /// An address of the services' range.
    Service,
    /// Another node's address, to which that node may not have been the first to get the packet: see [`crate::relay`].
    Relayed,
}

/// The way to a destination. All fields have a value at every end: variants of an enum would leave some unset, and the
/// verifier refuses what the compiler then makes of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way<A> {
    /// Where it ends.
    pub end: End,
    /// [`End::Pod`]: the port.
    pub ifindex: u32,
    /// [`End::Pod`]: the pod's MAC address.
    pub mac: Mac,
    /// [`End::Direct`] and [`End::Tunnel`]: the node, by its own address or by its tunnel's end.
    pub node: A,
    /// The same: whether the destination is a node's own address, and no pod's there.
    pub is_node: bool,
    /// The same: the next hop on the way there; all zero if it is not known.
    pub next_hop: A,
    /// [`End::Tunnel`]: what the tunnel adds to a packet, in bytes.
    pub room: u32,
}

/// Finds the way to the destination of `to`.
#[inline(never)]
pub fn find<F: Family, T: Tables<F::Addr>>(tables: &T, config: &Config, notes: &mut Notes<F::Addr>) {
    let Notes { to, way, .. } = notes;
    way.end = End::Outside;
    if let Some(endpoint) = tables.endpoint(&to.destination) {
        way.end = if endpoint.kind == KIND_POD { End::Pod } else { End::Host };
        way.ifindex = endpoint.ifindex;
        way.mac = endpoint.mac;
    } else if let Some((route, prefix_len)) = route::<F, T>(tables, config, to.destination) {
        way.end = match route.via {
            VIA_DIRECT => End::Direct,
            VIA_TUNNEL => End::Tunnel,
            VIA_SERVICE => End::Service,
            _ => End::Vacant,
        };
        way.node = route.node;
        way.is_node = prefix_len == whole::<F::Addr>();
        way.next_hop = route.next_hop;
        if route.via == VIA_TUNNEL {
            way.room = F::tunnel_room(&way.node);
        }
    }
}

/// The length of a prefix that is an address.
const fn whole<A>() -> u32 {
    8 * size_of::<A>() as u32
}

/// The route that has the address, and the length of its prefix.
#[inline(always)]
fn route<F: Family, T: Tables<F::Addr>>(
    tables: &T,
    config: &Config,
    address: F::Addr,
) -> Option<(Route<F::Addr>, u32)> {
    for prefix_len in F::route_prefixes(config) {
        if prefix_len == 0 {
            break;
        }
        let key = RouteKey {
            address: address.masked(prefix_len),
            prefix_len: u32::from(prefix_len),
        };
        if let Some(route) = tables.route(key) {
            return Some((route, key.prefix_len));
        }
    }
    None
}

/// How the address is reached, if it is an address of the cluster beyond this node: one of `VIA_*`.
#[inline(always)]
pub fn via<F: Family, T: Tables<F::Addr>>(tables: &T, config: &Config, address: F::Addr) -> Option<u8> {
    route::<F, T>(tables, config, address).map(|(route, _)| route.via)
}

/// Whether the address is that of another node.
#[inline(always)]
pub fn is_node<A: Address, T: Tables<A>>(tables: &T, address: &A) -> bool {
    let key = RouteKey {
        address: *address,
        prefix_len: whole::<A>(),
    };
    tables
        .route(key)
        .is_some_and(|route| matches!(route.via, VIA_DIRECT | VIA_TUNNEL))
}
