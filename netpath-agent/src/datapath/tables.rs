//! The maps by their meaning: each with the layout that its file in [`netpath_common::abi`] gives it.

use netpath_common::{
    abi::{
        affinity::v4::{Affinity, Client},
        bridge::Port,
        conntrack::v4::{Connection, Tuple},
        endpoint::Endpoint,
        route::v4::{Route, RouteKey},
        service::{
            BackendKey, Service,
            v4::{Backend, Frontend},
        },
        socket::v4::{SocketKey, SocketPeer},
        source::v4::SourceKey,
    },
    names,
};

use super::{config::NodeConfig, error::Result, maps::Table, pins::Pins};

macro_rules! tables {
    ($($name:ident: $kind:ident<$($layout:ty),+> = $map:path;)*) => {
        $(
            #[doc = concat!("Opens the map that is pinned as [`", stringify!($map), "`].")]
            ///
            /// # Errors
            /// [`super::error::Error::MapMissing`]; [`super::error::Error::Map`] if it is of another layout.
            pub fn $name(pins: &Pins) -> Result<$kind<$($layout),+>> {
                $kind::open(pins, $map)
            }
        )*
    };
}

/// Opens the node's configuration.
///
/// # Errors
/// [`super::error::Error::MapMissing`]; [`super::error::Error::Map`] if it is of another layout.
pub fn config(pins: &Pins) -> Result<NodeConfig> {
    NodeConfig::open(pins)
}

tables! {
    bridge: Table<u32, Port> = names::BRIDGE;
    endpoint4: Table<[u8; 4], Endpoint> = names::ENDPOINT4;
    route4: Table<RouteKey, Route> = names::ROUTE4;
    service4: Table<Frontend, Service> = names::SERVICE4;
    backend4: Table<BackendKey, Backend> = names::BACKEND4;
    source4: Table<SourceKey, u32> = names::SOURCE4;
    affinity4: Table<Client, Affinity> = names::AFFINITY4;
    socket4: Table<SocketKey, SocketPeer> = names::SOCKET4;
    conntrack4: Table<Tuple, Connection> = names::CONNTRACK4;
}
