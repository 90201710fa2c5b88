//! The maps by their meaning: each with the layout that its file in [`netpath_common::abi`] gives it. Those of a family are
//! opened by its address: `tables::routes::<[u8; 4]>(pins)`.

use netpath_common::{
    abi::{
        Layouts,
        bridge::Port,
        endpoint::Endpoint,
        maglev::{MaglevBlock, MaglevKey},
        service::{BackendKey, Service},
    },
    names,
};

use super::{config::NodeConfig, error::Result, maps::Table, pins::Pins};

macro_rules! tables {
    ($($name:ident: <$key:ty, $value:ty> = $map:ident;)*) => {
        $(
            #[doc = concat!("Opens the family's map that is pinned as [`names::Names::", stringify!($map), "`].")]
            ///
            /// # Errors
            /// [`super::error::Error::MapMissing`]; [`super::error::Error::Map`] if it is of another layout.
            pub fn $name<A: Layouts>(pins: &Pins) -> Result<Table<$key, $value>> {
                Table::open(pins, A::NAMES.$map)
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

/// Opens the bridge's ports.
///
/// # Errors
/// As [`config`].
pub fn bridge(pins: &Pins) -> Result<Table<u32, Port>> {
    Table::open(pins, names::BRIDGE)
}

tables! {
    endpoints: <A, Endpoint> = endpoint;
    routes: <A::RouteKey, A::Route> = route;
    services: <A::Frontend, Service> = service;
    backends: <BackendKey, A::Backend> = backend;
    maglev: <MaglevKey, MaglevBlock> = maglev;
    sources: <A::SourceKey, u32> = source;
    affinities: <A::Client, A::Affinity> = affinity;
    connections: <A::Tuple, A::Connection> = conntrack;
    sockets: <A::SocketKey, A::SocketPeer> = socket;
}
