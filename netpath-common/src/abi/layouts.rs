//! The layouts of a family's maps as types that follow from its address, for whoever is written over both families.

use core::{fmt::Debug, hash::Hash};

use super::{affinity, conntrack, fragment, held, route, service, socket, source};
use crate::names::{self, Names};

/// A map's key or value.
pub trait Entry: bytemuck::Pod + Default + Debug + Ord + Hash {}

impl<T: bytemuck::Pod + Default + Debug + Ord + Hash> Entry for T {}

macro_rules! layouts {
    ($($module:ident::$name:ident,)*) => {
        /// An address family, named by its address: `[u8; 4]` or `[u8; 16]`, in network order. Its types are those that lie
        /// in the maps; each is made of the generic one of the same name, and becomes it.
        pub trait Layouts: Entry {
            /// The names of its maps.
            const NAMES: Names;

            $(
                #[doc = concat!("[`", stringify!($module), "::", stringify!($name), "`].")]
                type $name: Entry + From<$module::$name<Self>> + Into<$module::$name<Self>>;
            )*
        }

        layouts!(@family [u8; 4], v4, names::V4, $($module::$name,)*);
        layouts!(@family [u8; 16], v6, names::V6, $($module::$name,)*);
    };
    (@family $address:ty, $family:ident, $names:expr, $($module:ident::$name:ident,)*) => {
        impl Layouts for $address {
            const NAMES: Names = $names;
            $(type $name = $module::$family::$name;)*
        }
    };
}

layouts! {
    affinity::Client,
    affinity::Affinity,
    conntrack::Tuple,
    conntrack::Connection,
    fragment::FragmentKey,
    held::HeldKey,
    route::RouteKey,
    route::Route,
    service::Frontend,
    service::Backend,
    socket::SocketKey,
    socket::SocketPeer,
    source::SourceKey,
}
