//! Where two nodes stand to each other: their addresses, and the wire between them.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::Result;

use crate::{
    bench::{
        netlink::End,
        netns::Namespace,
        rivals::{UPLINK as UPLINK_INDEX, WIRE_MTU},
    },
    lab::topology::{NodeNet, UPLINK},
};

/// Where two nodes stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// On one segment: netpath sends directly.
    Segment,
    /// The same, among 45,000 services.
    Crowded,
    /// In two networks, the other one behind a gateway: netpath uses its tunnel. The gateway is an address of the other end
    /// of the wire, so that no forwarding by a router is part of the figure.
    Routed,
}

impl Ground {
    /// In few words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Segment => "on one segment",
            Self::Crowded => "on one segment among 45,000 services",
            Self::Routed => "in two networks",
        }
    }

    /// A node's address; nodes are counted from 1.
    pub fn address(self, number: u8) -> Ipv4Addr {
        match self {
            Self::Segment | Self::Crowded => Ipv4Addr::new(172, 18, 0, number),
            Self::Routed => Ipv4Addr::new(172, 18, number, 1),
        }
    }

    /// A node's address of IPv6. Nodes behind routers have none: their tunnels, which carry both families, are of IPv4.
    pub fn address6(self, number: u8) -> Option<Ipv6Addr> {
        match self {
            Self::Segment | Self::Crowded => Some(Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 0, number.into())),
            Self::Routed => None,
        }
    }

    /// Lays the wire between the nodes, and the routes over it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn join(self, nodes: &[NodeNet]) -> Result<()> {
        let [one, two] = [&nodes[0], &nodes[1]].map(|node| Namespace::open(node.namespace.file()));
        let (one, two) = (one?, two?);
        let macs = [1, 2].map(|number| [0x02, 0, 0, 0, 0xff, number]);
        let [near, far] = macs.map(|mac| End {
            name: UPLINK,
            index: UPLINK_INDEX,
            mac,
        });
        one.net.veth(&near, &far, &two, WIRE_MTU)?;
        for (number, node, other_mac) in [(1, &one, macs[1]), (2, &two, macs[0])] {
            node.net.address(UPLINK_INDEX, self.address(number), 24)?;
            match self.address6(number) {
                Some(address) => {
                    // Nobody else is on the wire who could have the address.
                    node.sysctl(&format!("ipv6/conf/{UPLINK}/accept_dad"), "0")?;
                    node.net.address(UPLINK_INDEX, address, 64)?;
                }
                None => {
                    let gateway = Ipv4Addr::new(172, 18, number, 254);
                    node.net.neighbour(UPLINK_INDEX, gateway, other_mac)?;
                    node.net.route(Ipv4Addr::UNSPECIFIED, 0, Some(gateway), UPLINK_INDEX)?;
                }
            }
        }
        Ok(())
    }

    /// The nodes as the API has them, with a pod subnet of each family.
    pub fn node_objects(self) -> String {
        let mut text = String::new();
        for number in [1, 2] {
            let own = [
                Some(IpAddr::V4(self.address(number))),
                self.address6(number).map(IpAddr::V6),
            ];
            let own: Vec<_> = own
                .into_iter()
                .flatten()
                .map(|address| format!("{{type: InternalIP, address: \"{address}\"}}"))
                .collect();
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "---\napiVersion: v1\nkind: Node\nmetadata: {{name: node-{number}}}\n\
                 spec: {{podCIDR: 10.244.{number}.0/24, podCIDRs: [10.244.{number}.0/24, \"fd00:10:{number}::/64\"]}}\n\
                 status: {{addresses: [{}]}}\n",
                own.join(", ")
            );
        }
        text
    }
}
