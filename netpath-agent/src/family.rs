//! What differs between IPv4 and IPv6. All else is written over [`Family`], once.

use std::{
    fmt::{Debug, Display},
    hash::Hash,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netpath_common::abi::{
    Layouts,
    bridge::Port,
    config::{Config, ROUTE_PREFIXES},
};

/// An address family, named by an address as it lies in maps.
pub trait Family: Layouts + AsRef<[u8]> + Send + Sync {
    /// What people call it.
    const NAME: &'static str;
    /// The bits of an address.
    const BITS: u8;
    /// The range of all addresses.
    const ALL: &'static str;
    /// The address by which a host reaches itself.
    const LOOPBACK: Self::Address;
    /// The smallest MTU that the family works with (RFC 791, section 3.1; RFC 8200, section 5).
    const LEAST_MTU: u16;
    /// The folder of the family's sysctls below `/proc/sys/net`.
    const SYSCTLS: &'static str;
    /// The sysctl of whether the node forwards; a write makes every device follow.
    const FORWARD: &'static str;

    /// An address as people read it.
    type Address: Copy + Ord + Hash + Debug + Display + Send + Sync + Into<IpAddr> + From<Self>;
    /// A range of addresses.
    type Net: Copy + Default + Ord + Hash + Debug + Display + Send + Sync + Into<IpNet>;

    /// The address, if it is of this family.
    fn address(address: IpAddr) -> Option<Self::Address>;
    /// The range, if it is of this family.
    fn net(net: IpNet) -> Option<Self::Net>;
    /// The address as it lies in maps.
    fn octets(address: Self::Address) -> Self;
    /// A range's first address.
    fn first(net: Self::Net) -> Self::Address;
    /// A range's last address.
    fn last(net: Self::Net) -> Self::Address;
    /// How many bits all addresses of a range share.
    fn prefix_len(net: Self::Net) -> u8;
    /// The gateway of a pod subnet: its first address after the subnet's own; `None` where there is no room for a pod.
    fn gateway(net: Self::Net) -> Option<Self::Address>;
    /// The fewest ranges that have the same addresses, in order.
    fn aggregate(nets: Vec<Self::Net>) -> Vec<Self::Net>;
    /// An address on the way of a tunnel that carries the family, as a route of it has that: in IPv6 also one of IPv4, as an
    /// IPv4-mapped one (RFC 4291, section 2.5.5.2). `None` of IPv6 in a route of IPv4, which has no place for it.
    fn carrier(address: IpAddr) -> Option<Self::Address>;
    /// The address of the pod behind a port.
    fn of_port(port: &Port) -> Self;
    /// Writes what the configuration has of the family: the node's address, the gateway, the routes' prefix lengths.
    fn configure(config: &mut Config, node: Self, gateway: Self, prefixes: [u8; ROUTE_PREFIXES]);
}

/// IPv4.
pub type V4 = [u8; 4];
/// IPv6.
pub type V6 = [u8; 16];

macro_rules! family {
    ($family:ident, $name:literal, $all:literal, $address:ident, $net:ident, least_mtu: $least_mtu:literal,
     sysctls: $sysctls:literal, forward: $forward:literal, carrier: $carrier:expr, port: $of_port:ident, config: $node:ident, $gateway:ident, $prefixes:ident) => {
        impl Family for $family {
            const NAME: &'static str = $name;
            const BITS: u8 = $address::BITS as u8;
            const ALL: &'static str = $all;
            const LOOPBACK: $address = $address::LOCALHOST;
            const LEAST_MTU: u16 = $least_mtu;
            const SYSCTLS: &'static str = $sysctls;
            const FORWARD: &'static str = concat!($sysctls, "/", $forward);

            type Address = $address;
            type Net = $net;

            fn address(address: IpAddr) -> Option<$address> {
                match address {
                    IpAddr::$family(address) => Some(address),
                    _ => None,
                }
            }

            fn net(net: IpNet) -> Option<$net> {
                match net {
                    IpNet::$family(net) => Some(net),
                    _ => None,
                }
            }

            fn octets(address: $address) -> Self {
                address.octets()
            }

            fn first(net: $net) -> $address {
                net.network()
            }

            fn last(net: $net) -> $address {
                net.broadcast()
            }

            fn prefix_len(net: $net) -> u8 {
                net.prefix_len()
            }

            fn gateway(net: $net) -> Option<$address> {
                let has_room = net.prefix_len() <= Self::BITS - 2;
                has_room.then(|| $address::from_bits(net.network().to_bits() | 1))
            }

            fn aggregate(nets: Vec<$net>) -> Vec<$net> {
                $net::aggregate(&nets)
            }

            fn carrier(address: IpAddr) -> Option<$address> {
                $carrier(address)
            }

            fn of_port(port: &Port) -> Self {
                port.$of_port
            }

            fn configure(config: &mut Config, node: Self, gateway: Self, prefixes: [u8; ROUTE_PREFIXES]) {
                config.$node = node;
                config.$gateway = gateway;
                config.$prefixes = prefixes;
            }
        }
    };
}

family! {
    V4, "IPv4", "0.0.0.0/0", Ipv4Addr, Ipv4Net, least_mtu: 68,
    sysctls: "ipv4", forward: "ip_forward",
    carrier: <V4 as Family>::address, port: address4, config: node4, gateway4, route_prefixes4
}

family! {
    V6, "IPv6", "::/0", Ipv6Addr, Ipv6Net, least_mtu: 1280,
    sysctls: "ipv6", forward: "conf/all/forwarding",
    carrier: |address| Some(mapped(address)), port: address6, config: node6, gateway6, route_prefixes6
}

/// An address as one of IPv6.
fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// What people call an address's family.
pub fn name(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => V4::NAME,
        IpAddr::V6(_) => V6::NAME,
    }
}

/// [`Family::gateway`] of a subnet of either family.
pub fn gateway(subnet: IpNet) -> Option<IpAddr> {
    match subnet {
        IpNet::V4(subnet) => V4::gateway(subnet).map(IpAddr::V4),
        IpNet::V6(subnet) => V6::gateway(subnet).map(IpAddr::V6),
    }
}
