//! Names under which the kernel keeps what is ours. One stem serves map, file and metric. The kernel takes at most 15
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
/// Addresses of this node: [`crate::abi::endpoint`].
pub const ENDPOINT4: &str = "np_endpoint4";
/// Ways to other nodes: [`crate::abi::route`].
pub const ROUTE4: &str = "np_route4";
/// Frontends: [`crate::abi::service`].
pub const SERVICE4: &str = "np_service4";
/// Backends: [`crate::abi::service`].
pub const BACKEND4: &str = "np_backend4";
/// Clients of services with session affinity: [`crate::abi::affinity`].
pub const AFFINITY4: &str = "np_affinity4";
/// Clients that may connect where not everyone may: [`crate::abi::source`].
pub const SOURCE4: &str = "np_source4";
/// Translated connections: [`crate::abi::conntrack`].
pub const CONNTRACK4: &str = "np_conntrack4";
/// Fragmented datagrams: [`crate::abi::fragment`].
pub const FRAGMENT4: &str = "np_fragment4";
/// Sockets of the node that were led to backends: [`crate::abi::socket`].
pub const SOCKET4: &str = "np_socket4";
/// Verdicts: [`crate::abi::counter`].
pub const COUNTER: &str = "np_counter";

/// Every map.
pub const MAPS: &[&str] = &[
    CONFIG, BRIDGE, ENDPOINT4, ROUTE4, SERVICE4, BACKEND4, SOURCE4, AFFINITY4, CONNTRACK4, FRAGMENT4, SOCKET4, COUNTER,
];

/// The bridge that owns a node's pod subnet.
pub const BRIDGE_DEVICE: &str = "netpath0";
/// The idle vxlan device.
pub const OVERLAY_DEVICE: &str = "netpath-vx";
