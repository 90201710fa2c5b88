//! The node that the scenarios play on: two pods, a peer on the segment, one behind a router, and its services. All of it is there
//! in both families, an IPv6 address for each of IPv4; but one more node behind the router has IPv6 alone.

mod tables;

use netpath_common::abi::{ABI_VERSION, Mac, config::Config};
use netpath_ebpf::{packet::Packet, scratch::Scratch, verdict::NextHop};
use netpath_tests::{
    frame::{Frame, Ip, Socket},
    packet::HostPacket,
    tables::{HostTables, Of},
    verdict::Verdict,
};

pub use self::tables::tables;

pub const NODE: [u8; 4] = [192, 168, 50, 11];
pub const GATEWAY: [u8; 4] = [10, 244, 1, 1];
pub const PEER: [u8; 4] = [192, 168, 50, 12];
pub const FAR: [u8; 4] = [192, 168, 51, 13];
pub const ROUTER: [u8; 4] = [192, 168, 50, 1];
/// A node behind the router whose IPv6 address is [`six`] of this: it has no other.
pub const LONE: [u8; 4] = [192, 168, 52, 14];
pub const CLIENT: [u8; 4] = [203, 0, 113, 9];

pub const POD_A: [u8; 4] = [10, 244, 1, 2];
pub const POD_B: [u8; 4] = [10, 244, 1, 3];
pub const POD_PEER: [u8; 4] = [10, 244, 2, 7];
pub const POD_FAR: [u8; 4] = [10, 244, 3, 8];
/// The same of a pod there.
pub const POD_LONE: [u8; 4] = [10, 244, 4, 9];

pub const PORT_A: u32 = 11;
pub const PORT_B: u32 = 12;
pub const UPLINK: u32 = 2;
pub const BRIDGE: u32 = 3;
pub const OVERLAY: u32 = 4;

pub const MAC_A: Mac = [2, 0, 0, 0, 1, 2];
pub const MAC_B: Mac = [2, 0, 0, 0, 1, 3];
pub const MAC_BRIDGE: Mac = [2, 0, 0, 0, 1, 1];
pub const MAC_UPLINK: Mac = [2, 0, 0, 0, 50, 11];
pub const MAC_OVERLAY: Mac = [2, 0, 0, 0, 78, 11];
pub const MAC_ROUTER: Mac = [2, 0, 0, 0, 50, 1];

/// The cookie of the node's own network namespace.
pub const NETNS: u64 = 0x1_0000_0001;
pub const VNI: u32 = 78;
pub const NAT: std::ops::RangeInclusive<u16> = 50_000..=50_099;

/// One backend, on pod B.
pub const WEB: [u8; 4] = [10, 96, 0, 80];
/// One backend, on the far node.
pub const DATABASE: [u8; 4] = [10, 96, 0, 54];
/// No backends.
pub const EMPTY: [u8; 4] = [10, 96, 0, 99];
/// Three backends, of which a client keeps its own: pod B, one on the peer and one on the far node. Also at port 30081 of
/// the node; at 30082 what comes from outside goes to pod B alone, and at 30083 to nobody.
pub const STICKY: [u8; 4] = [10, 96, 0, 82];
/// One backend, pod A: what it reaches by it is itself.
pub const SELF: [u8; 4] = [10, 96, 0, 11];

/// An address of a load balancer, which no device has, with one backend, pod B. Clients in 203.0.113.0/24 and pod A may
/// connect, nobody else.
pub const BALANCED: [u8; 4] = [198, 51, 100, 9];
/// An address and port of a load balancer with three backends: pod B, one on the peer and one on the far node. What comes from outside
/// is spread by a table of 64 places, which name them in turn. Also at a port of every node.
pub const SPREAD: ([u8; 4], u16) = ([198, 51, 100, 10], 80);
pub const SPREAD_PORT: u16 = 30_086;
pub const SPREAD_SET: u32 = 9;
/// An address of the service range that no service has.
pub const UNKNOWN: [u8; 4] = [10, 96, 7, 7];

/// The ports at which [`WEB`] and [`DATABASE`] serve SCTP, with the backends of their others: pod B at the same port, and the far
/// pod at another. Also at ports 30084 and 30085 of the node. [`EMPTY`] serves the first to nobody.
pub const SIGNAL: u16 = 2905;
pub const DIAMETER: u16 = 3868;
pub const FAR_DIAMETER: u16 = 13_868;

pub fn config() -> Config {
    Config {
        abi_version: ABI_VERSION,
        hash_seed: 0x5eed,
        netns_cookie: NETNS,
        uplink_ifindex: UPLINK,
        overlay_ifindex: OVERLAY,
        bridge_ifindex: BRIDGE,
        vni: VNI,
        vxlan_port: 4789,
        uplink_mtu: 1500,
        pod_mtu: 1450,
        nat_port_min: *NAT.start(),
        nat_port_max: *NAT.end(),
        uplink_mac: MAC_UPLINK,
        bridge_mac: MAC_BRIDGE,
        overlay_mac: MAC_OVERLAY,
        node4: NODE,
        gateway4: GATEWAY,
        route_prefixes4: [24, 16, 32, 0],
        node6: six(NODE),
        gateway6: six(GATEWAY),
        route_prefixes6: [120, 112, 128, 0],
        outside_seed: 0xa11,
        direct_return: 1,
        ..Config::default()
    }
}

/// The IPv6 address of whoever has this IPv4 address: each host of the scenarios has both. No address remains none.
pub fn six(address: [u8; 4]) -> [u8; 16] {
    let mut six = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    six[12..].copy_from_slice(&address);
    if address == [0; 4] { [0; 16] } else { six }
}

/// An address family of the scenarios.
pub trait At: Ip + Of {
    /// The most that an error of the node's quotes of a packet: with its own headers it has 576 bytes of IPv4 (RFC 1812, section
    /// 4.3.2.3) and 1280 of IPv6 (RFC 4443, section 2.4).
    const QUOTED: usize;

    /// The address of whoever has this IPv4 address.
    fn at(address: [u8; 4]) -> Self;
    /// The same as a neighbour.
    fn next_hop(address: [u8; 4]) -> NextHop;
}

impl At for [u8; 4] {
    const QUOTED: usize = 576 - 28;

    fn at(address: [u8; 4]) -> Self {
        address
    }

    fn next_hop(address: [u8; 4]) -> NextHop {
        NextHop::v4(address)
    }
}

impl At for [u8; 16] {
    const QUOTED: usize = 1280 - 48;

    fn at(address: [u8; 4]) -> Self {
        six(address)
    }

    fn next_hop(address: [u8; 4]) -> NextHop {
        NextHop::v6(six(address))
    }
}

/// A port at whoever has this IPv4 address.
pub fn at<A: At>(address: [u8; 4], port: u16) -> Socket<A> {
    (A::at(address), port)
}

/// An ephemeral port, and as a backend sees it: 32768 becomes 1024.
pub const PORT: u16 = 40_000;
pub const SEEN: u16 = PORT - 32_768 + 1_024;
/// A host that no table knows.
pub const SERVER: [u8; 4] = [198, 51, 100, 7];

/// The IPv4-mapped address by which a route names the end of a tunnel, and the next hop on the way there.
pub fn mapped(address: [u8; 4]) -> [u8; 16] {
    let mut mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0];
    mapped[12..].copy_from_slice(&address);
    mapped
}

/// Frames as a pod sends them to its gateway.
pub fn from_a() -> Frame {
    Frame::new(MAC_A, MAC_BRIDGE)
}

/// Frames as they come from the router.
pub fn from_wire() -> Frame {
    Frame::new(MAC_ROUTER, MAC_UPLINK)
}

/// A hook's outcome: the verdict and the frame it left.
pub type Outcome = (Verdict, Vec<u8>);

macro_rules! hook {
    ($name:ident, $ifindex:expr, |$packet:ident, $tables:ident, $config:ident, $scratch:ident| $run:expr) => {
        pub fn $name($tables: &mut HostTables, frame: Vec<u8>) -> Outcome {
            let ($config, $scratch) = (&config(), &mut Scratch::default());
            let $packet = &mut HostPacket::new(frame, $ifindex);
            let verdict = $run;
            assert_eq!($packet.len(), $packet.bytes.len());
            (Verdict::new(verdict, $scratch), $packet.bytes.clone())
        }
    };
}

hook!(pod_a_sends, PORT_A, |packet, tables, config, scratch| {
    netpath_ebpf::path::from_pod::run(packet, tables, config, scratch)
});
hook!(pod_b_sends, PORT_B, |packet, tables, config, scratch| {
    netpath_ebpf::path::from_pod::run(packet, tables, config, scratch)
});
hook!(wire_brings, UPLINK, |packet, tables, config, scratch| {
    netpath_ebpf::path::from_wire::run(packet, tables, config, scratch)
});
hook!(host_sends, BRIDGE, |packet, tables, config, scratch| {
    netpath_ebpf::path::from_host::run(packet, tables, config, scratch)
});
hook!(stack_sends_out, UPLINK, |packet, tables, _config, scratch| {
    netpath_ebpf::path::to_wire::run(packet, tables, scratch)
});
