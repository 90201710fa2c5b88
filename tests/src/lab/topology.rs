//! The ground a cluster stands on: two segments of nodes and a third network with a client outside, all behind one router
//! that knows nothing of pods. Each has a range of both families; a node has what its object says.
//!
//! ```text
//!  n1 (.11)   n2 (.12)            n3 (.13)            client (.10)
//!     └────┬─────┘                   │                   │
//!   192.168.50.0/24           192.168.51.0/24     192.168.60.0/24
//!     fd00:50::/64              fd00:51::/64        fd00:60::/64
//!          └───────────── router (.254) ─────────────────┘
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, bail};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    home::Home,
    namespace::Namespace,
    wire::{self, End},
};

/// A segment's ranges.
pub type Segment = [IpNet; 2];

/// The segments that nodes may be on.
pub const NODE_SEGMENTS: [Segment; 2] = [segment(50, 0x50), segment(51, 0x51)];
/// The network outside.
pub const OUTSIDE: Segment = segment(60, 0x60);
/// The client's address there.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 60, 10);
/// The same of IPv6.
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x60, 0, 0, 0, 0, 0, 0x10);
/// The device by which nodes and the client reach the router.
pub const UPLINK: &str = "eth0";
/// The router's host number on each segment, as it is written.
const ROUTER: u8 = 254;
const ROUTER6: u16 = 0x254;

const fn segment(v4: u8, v6: u16) -> Segment {
    [
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(192, 168, v4, 0), 24)),
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, v6, 0, 0, 0, 0, 0, 0), 64)),
    ]
}

/// A node's place.
#[derive(Debug)]
pub struct NodeNet {
    /// The Node object's name.
    pub name: String,
    /// `n1`, `n2`, … in the order of the objects.
    pub short: String,
    /// Its first InternalIP.
    pub address: IpAddr,
    /// Its namespace.
    pub namespace: Namespace,
}

/// All the namespaces but the pods'.
#[derive(Debug)]
pub struct Topology {
    /// The nodes.
    pub nodes: Vec<NodeNet>,
    /// The client outside.
    pub client: Namespace,
    /// The router.
    pub router: Namespace,
}

impl Topology {
    /// Builds it for nodes with these names and addresses, of which each has one at least.
    ///
    /// # Errors
    /// An address is on neither segment, is the router's or taken twice; a node is on two segments; or the kernel refuses.
    pub fn build(home: &Home, nodes: &[(String, Vec<IpAddr>)]) -> Result<Self> {
        let mut places = Vec::new();
        for (number, (name, addresses)) in nodes.iter().enumerate() {
            for address in addresses {
                let Some(range) = range_of(*address) else {
                    let [one, two] = NODE_SEGMENTS.map(|segment| segment.map(|range| range.to_string()).join(", "));
                    bail!("Node {name}: its InternalIP {address} is on no segment of the lab ({one}; {two})");
                };
                if *address == router_on(range) || *address == range.network() || *address == range.broadcast() {
                    bail!(
                        "Node {name}: its InternalIP {address} is not free ({} is the router's)",
                        router_on(range)
                    );
                }
                if let Some((other, _)) = nodes[..number].iter().find(|(_, taken)| taken.contains(address)) {
                    bail!("Node {name}: its InternalIP {address} is also Node {other}'s");
                }
            }
            let on: Vec<_> = addresses.iter().filter_map(|address| segment_of(*address)).collect();
            match on.as_slice() {
                [first, others @ ..] if others.iter().all(|other| other == first) => places.push(*first),
                _ => bail!("Node {name}: its InternalIPs are on several segments, or there is none"),
            }
        }
        let router = Namespace::create(&home.namespace("router"))?;
        router.set("ipv4/ip_forward", "1")?;
        router.set("ipv6/conf/all/forwarding", "1")?;
        // It asks for neighbours from its addresses of the links, and not before it is sure that they are its own.
        router.set("ipv6/conf/default/accept_dad", "0")?;
        for (number, ranges) in NODE_SEGMENTS.iter().enumerate() {
            let bridge = bridge_of(number);
            wire::segment(&router, &bridge)?;
            give(&router, &bridge, ranges)?;
        }
        let client = Namespace::create(&home.namespace("client"))?;
        connect(&router, "client", &client, &[CLIENT.into(), CLIENT6.into()], &OUTSIDE)?;
        give(&router, "client", &OUTSIDE)?;

        let mut built = Vec::new();
        for (number, ((name, addresses), place)) in nodes.iter().zip(places).enumerate() {
            let short = format!("n{}", number + 1);
            let namespace = Namespace::create(&home.namespace(&short))?;
            connect(&router, &short, &namespace, addresses, &NODE_SEGMENTS[place])?;
            wire::plug(
                End {
                    namespace: &router,
                    device: &short,
                },
                &bridge_of(place),
            )?;
            built.push(NodeNet {
                name: name.clone(),
                short,
                address: addresses[0],
                namespace,
            });
        }
        for (node, (_, addresses)) in built.iter().zip(nodes) {
            for range in addresses.iter().filter_map(|address| range_of(*address)) {
                wire::default_route(&node.namespace, router_on(range))?;
            }
        }
        for range in OUTSIDE {
            wire::default_route(&client, router_on(range))?;
        }
        Ok(Self {
            nodes: built,
            client,
            router,
        })
    }
}

/// The segment that a node's address is on, by its place among [`NODE_SEGMENTS`].
pub fn segment_of(address: IpAddr) -> Option<usize> {
    NODE_SEGMENTS
        .iter()
        .position(|segment| segment.iter().any(|range| range.contains(&address)))
}

/// The segment's range that a node's address is in.
pub fn range_of(address: IpAddr) -> Option<IpNet> {
    NODE_SEGMENTS
        .into_iter()
        .flatten()
        .find(|range| range.contains(&address))
}

/// The router's address in a segment's range.
pub fn router_on(range: IpNet) -> IpAddr {
    match range.network() {
        IpAddr::V4(network) => {
            let [a, b, c, _] = network.octets();
            Ipv4Addr::new(a, b, c, ROUTER).into()
        }
        IpAddr::V6(network) => Ipv6Addr::from_bits(network.to_bits() | u128::from(ROUTER6)).into(),
    }
}

/// The client's address of the family that another address is of.
pub fn client_beside(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => CLIENT.into(),
        IpAddr::V6(_) => CLIENT6.into(),
    }
}

fn bridge_of(segment: usize) -> String {
    format!("segment{}", segment + 1)
}

/// Gives a device of the router its addresses on a segment.
fn give(router: &Namespace, device: &str, ranges: &Segment) -> Result<()> {
    for range in ranges {
        let end = End {
            namespace: router,
            device,
        };
        wire::address(end, router_on(*range), range.prefix_len())?;
    }
    Ok(())
}

fn connect(
    router: &Namespace,
    port: &str,
    namespace: &Namespace,
    addresses: &[IpAddr],
    segment: &Segment,
) -> Result<()> {
    let far = End {
        namespace,
        device: UPLINK,
    };
    wire::cable(
        End {
            namespace: router,
            device: port,
        },
        far,
    )?;
    for address in addresses {
        let range = segment.iter().find(|range| range.contains(address));
        wire::address(far, *address, range.map_or(0, IpNet::prefix_len))?;
    }
    Ok(())
}
