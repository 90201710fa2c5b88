//! `np_config`: what every program must know of its node. An array of two entries, of which the first that has a version is
//! in force.

use super::{ABI_VERSION, Mac};

/// The kernel writes an array's entry byte by byte, as far as a program can tell. So no entry is written while it is in
/// force: the second stands in for the first meanwhile, and is all zero otherwise. What moves them in and out of force is one
/// byte of [`Config::abi_version`].
pub const CONFIG_ENTRIES: usize = 2;

const _: () = assert!(ABI_VERSION > 0 && ABI_VERSION < 256);

/// The most prefix lengths that routes of one family may have on a node. See [`Config::route_prefixes4`].
pub const ROUTE_PREFIXES: usize = 4;

/// The node as the programs see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Config {
    /// [`super::ABI_VERSION`] of the agent that wrote the entry; 0 in one that is not in force. While none is, every program
    /// passes every packet on to the kernel.
    pub abi_version: u32,
    /// Mixed into every hash, so that nobody outside can aim at a bucket or a backend.
    pub hash_seed: u32,
    /// The kernel's cookie of the node's own network namespace: the sockets of no other are served at their calls.
    pub netns_cookie: u64,
    /// The device that leads out of the node.
    pub uplink_ifindex: u32,
    /// The idle metadata-mode vxlan device.
    pub overlay_ifindex: u32,
    /// The bridge that owns the node's pod subnet.
    pub bridge_ifindex: u32,
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// VXLAN's UDP port.
    pub vxlan_port: u16,
    /// The largest IP packet that leaves through the uplink, in bytes.
    pub uplink_mtu: u16,
    /// The largest IP packet that a pod sends or gets, in bytes.
    pub pod_mtu: u16,
    /// Source NAT takes ports from here …
    pub nat_port_min: u16,
    /// … up to and including this one.
    pub nat_port_max: u16,
    /// The uplink's address.
    pub uplink_mac: Mac,
    /// The bridge's address: pods know their gateway by it.
    pub bridge_mac: Mac,
    /// The vxlan device's address.
    pub overlay_mac: Mac,
    /// The node's address on the uplink: the tunnel's end and the address that source NAT uses.
    pub node4: [u8; 4],
    /// The bridge's address, which hairpin connections seem to come from.
    pub gateway4: [u8; 4],
    /// As `node4`, for IPv6.
    pub node6: [u8; 16],
    /// As `gateway4`, for IPv6.
    pub gateway6: [u8; 16],
    /// The distinct prefix lengths of the entries in `np_route4`, in the order in which they are tried; 0 ends
    /// the list. Routes of different lengths never overlap, so that the order decides of nothing but speed.
    pub route_prefixes4: [u8; ROUTE_PREFIXES],
    /// The same of `np_route6`.
    pub route_prefixes6: [u8; ROUTE_PREFIXES],
    /// Mixed into the hash of connections from outside that choose by `np_maglev4` and `np_maglev6`: the same on every node.
    pub outside_seed: u32,
    /// 1 where connections from outside to a pod of a node on the segment are relayed to that node, which answers the client by
    /// itself; else 0.
    pub direct_return: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

const _: () = assert!(size_of::<Config>() == 120);
