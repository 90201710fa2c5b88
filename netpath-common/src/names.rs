//! Names under which the kernel keeps what is ours. One stem serves map and file. The kernel takes at most 15
//! characters for a map's name.

/// Where an agent pins its state, unless it is told otherwise.
pub const BPF_ROOT: &str = "/sys/fs/bpf/netpath";
/// Below the root: the maps, each under its name.
pub const MAPS_DIR: &str = "maps";
/// Below the root: the programs, each under its hook's name.
pub const PROGRAMS_DIR: &str = "programs";
/// Below the root: the links, each as `<device>-<hook>`, those of sockets' hooks as `cgroup-<hook>`.
pub const LINKS_DIR: &str = "links";
/// What stands for the device where a hook is a cgroup's.
pub const CGROUP: &str = "cgroup";

/// The node's configuration: [`crate::abi::config`].
pub const CONFIG: &str = "np_config";
/// The bridge's ports: [`crate::abi::bridge`].
pub const BRIDGE: &str = "np_bridge";
/// [`Names::endpoint`] of IPv4.
pub const ENDPOINT4: &str = "np_endpoint4";
/// [`Names::endpoint`] of IPv6.
pub const ENDPOINT6: &str = "np_endpoint6";
/// [`Names::route`] of IPv4.
pub const ROUTE4: &str = "np_route4";
/// [`Names::route`] of IPv6.
pub const ROUTE6: &str = "np_route6";
/// [`Names::service`] of IPv4.
pub const SERVICE4: &str = "np_service4";
/// [`Names::service`] of IPv6.
pub const SERVICE6: &str = "np_service6";
/// [`Names::backend`] of IPv4.
pub const BACKEND4: &str = "np_backend4";
/// [`Names::backend`] of IPv6.
pub const BACKEND6: &str = "np_backend6";
/// [`Names::maglev`] of IPv4.
pub const MAGLEV4: &str = "np_maglev4";
/// [`Names::maglev`] of IPv6.
pub const MAGLEV6: &str = "np_maglev6";
/// [`Names::source`] of IPv4.
pub const SOURCE4: &str = "np_source4";
/// [`Names::source`] of IPv6.
pub const SOURCE6: &str = "np_source6";
/// [`Names::affinity`] of IPv4.
pub const AFFINITY4: &str = "np_affinity4";
/// [`Names::affinity`] of IPv6.
pub const AFFINITY6: &str = "np_affinity6";
/// [`Names::conntrack`] of IPv4.
pub const CONNTRACK4: &str = "np_conntrack4";
/// [`Names::conntrack`] of IPv6.
pub const CONNTRACK6: &str = "np_conntrack6";
/// [`Names::fragment`] of IPv4.
pub const FRAGMENT4: &str = "np_fragment4";
/// [`Names::fragment`] of IPv6.
pub const FRAGMENT6: &str = "np_fragment6";
/// [`Names::held`] of IPv4.
pub const HELD4: &str = "np_held4";
/// [`Names::held`] of IPv6.
pub const HELD6: &str = "np_held6";
/// [`Names::socket`] of IPv4.
pub const SOCKET4: &str = "np_socket4";
/// [`Names::socket`] of IPv6.
pub const SOCKET6: &str = "np_socket6";
/// Verdicts: [`crate::abi::counter`].
pub const COUNTER: &str = "np_counter";

/// The names of one family's maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// Addresses of this node: [`crate::abi::endpoint`].
    pub endpoint: &'static str,
    /// Ways to other nodes: [`crate::abi::route`].
    pub route: &'static str,
    /// Frontends: [`crate::abi::service`].
    pub service: &'static str,
    /// Backends: [`crate::abi::service`].
    pub backend: &'static str,
    /// Where every node chooses alike: [`crate::abi::maglev`].
    pub maglev: &'static str,
    /// Clients that may connect where not everyone may: [`crate::abi::source`].
    pub source: &'static str,
    /// Clients of services with session affinity: [`crate::abi::affinity`].
    pub affinity: &'static str,
    /// Translated connections: [`crate::abi::conntrack`].
    pub conntrack: &'static str,
    /// Fragmented datagrams: [`crate::abi::fragment`].
    pub fragment: &'static str,
    /// Fragments that wait for their datagram's first: [`crate::abi::held`].
    pub held: &'static str,
    /// Sockets of the node that were led to backends: [`crate::abi::socket`].
    pub socket: &'static str,
}

/// The maps of IPv4.
pub const V4: Names = Names {
    endpoint: ENDPOINT4,
    route: ROUTE4,
    service: SERVICE4,
    backend: BACKEND4,
    maglev: MAGLEV4,
    source: SOURCE4,
    affinity: AFFINITY4,
    conntrack: CONNTRACK4,
    fragment: FRAGMENT4,
    held: HELD4,
    socket: SOCKET4,
};

/// The maps of IPv6.
pub const V6: Names = Names {
    endpoint: ENDPOINT6,
    route: ROUTE6,
    service: SERVICE6,
    backend: BACKEND6,
    maglev: MAGLEV6,
    source: SOURCE6,
    affinity: AFFINITY6,
    conntrack: CONNTRACK6,
    fragment: FRAGMENT6,
    held: HELD6,
    socket: SOCKET6,
};

/// Every map.
pub const MAPS: &[&str] = &[
    CONFIG, BRIDGE, ENDPOINT4, ENDPOINT6, ROUTE4, ROUTE6, SERVICE4, SERVICE6, BACKEND4, BACKEND6, MAGLEV4, MAGLEV6,
    SOURCE4, SOURCE6, AFFINITY4, AFFINITY6, CONNTRACK4, CONNTRACK6, FRAGMENT4, FRAGMENT6, HELD4, HELD6, SOCKET4,
    SOCKET6, COUNTER,
];

/// The bridge that owns a node's pod subnet.
pub const BRIDGE_DEVICE: &str = "netpath0";
/// The idle vxlan device.
pub const OVERLAY_DEVICE: &str = "netpath-vx";
