//! The ground a cluster stands on: two segments of nodes and a third network with a client outside, all behind one router
//! that knows nothing of pods.
//!
//! ```text
//!  n1 (.11)   n2 (.12)            n3 (.13)            client (.10)
//!     └────┬─────┘                   │                   │
//!   192.168.50.0/24           192.168.51.0/24     192.168.60.0/24
//!          └───────────── router (.254) ─────────────────┘
//! ```

use std::net::Ipv4Addr;

use anyhow::{Result, bail};
use ipnet::Ipv4Net;

use super::{
    home::Home,
    namespace::Namespace,
    wire::{self, End},
};

/// The segments that nodes may be on.
pub const NODE_SEGMENTS: [Ipv4Net; 2] = [
    Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 50, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 51, 0), 24),
];
/// The network outside.
pub const OUTSIDE: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 60, 0), 24);
/// The client's address there.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 60, 10);
/// The device by which nodes and the client reach the router.
pub const UPLINK: &str = "eth0";
/// The router's host number on each segment.
const ROUTER: u8 = 254;

/// A node's place.
#[derive(Debug)]
pub struct NodeNet {
    /// The Node object's name.
    pub name: String,
    /// `n1`, `n2`, … in the order of the objects.
    pub short: String,
    /// Its InternalIP.
    pub address: Ipv4Addr,
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
    /// Builds it for nodes with these names and addresses.
    ///
    /// # Errors
    /// An address is on neither segment, is the router's or taken twice; or the kernel refuses.
    pub fn build(home: &Home, nodes: &[(String, Ipv4Addr)]) -> Result<Self> {
        for (number, (name, address)) in nodes.iter().enumerate() {
            let Some(segment) = segment_of(*address) else {
                let [one, two] = NODE_SEGMENTS;
                bail!("Node {name}: its InternalIP {address} is on no segment of the lab ({one}, {two})");
            };
            if *address == router_on(segment) || *address == segment.network() || *address == segment.broadcast() {
                bail!(
                    "Node {name}: its InternalIP {address} is not free ({} is the router's)",
                    router_on(segment)
                );
            }
            if let Some((other, _)) = nodes[..number].iter().find(|(_, taken)| taken == address) {
                bail!("Node {name}: its InternalIP {address} is also Node {other}'s");
            }
        }
        let router = Namespace::create(&home.namespace("router"))?;
        router.set("ipv4/ip_forward", "1")?;
        for segment in NODE_SEGMENTS {
            let bridge = bridge_of(segment);
            wire::segment(&router, &bridge)?;
            wire::address(
                End {
                    namespace: &router,
                    device: &bridge,
                },
                router_on(segment),
                segment.prefix_len(),
            )?;
        }
        let client = Namespace::create(&home.namespace("client"))?;
        connect(&router, "client", &client, CLIENT, OUTSIDE)?;
        wire::address(
            End {
                namespace: &router,
                device: "client",
            },
            router_on(OUTSIDE),
            OUTSIDE.prefix_len(),
        )?;

        let mut built = Vec::new();
        for (number, (name, address)) in nodes.iter().enumerate() {
            let Some(segment) = segment_of(*address) else { continue };
            let short = format!("n{}", number + 1);
            let namespace = Namespace::create(&home.namespace(&short))?;
            connect(&router, &short, &namespace, *address, segment)?;
            wire::plug(
                End {
                    namespace: &router,
                    device: &short,
                },
                &bridge_of(segment),
            )?;
            built.push(NodeNet {
                name: name.clone(),
                short,
                address: *address,
                namespace,
            });
        }
        for node in &built {
            if let Some(segment) = segment_of(node.address) {
                wire::default_route(&node.namespace, router_on(segment))?;
            }
        }
        wire::default_route(&client, router_on(OUTSIDE))?;
        Ok(Self {
            nodes: built,
            client,
            router,
        })
    }
}

/// The segment that a node's address is on.
pub fn segment_of(address: Ipv4Addr) -> Option<Ipv4Net> {
    NODE_SEGMENTS.into_iter().find(|segment| segment.contains(&address))
}

/// The router's address on a segment.
pub fn router_on(segment: Ipv4Net) -> Ipv4Addr {
    let [a, b, c, _] = segment.network().octets();
    Ipv4Addr::new(a, b, c, ROUTER)
}

fn bridge_of(segment: Ipv4Net) -> String {
    format!("segment{}", segment.network().octets()[2])
}

fn connect(router: &Namespace, port: &str, namespace: &Namespace, address: Ipv4Addr, segment: Ipv4Net) -> Result<()> {
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
    wire::address(far, address, segment.prefix_len())
}
