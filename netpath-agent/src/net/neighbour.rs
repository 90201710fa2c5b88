//! Neighbours that nobody needs to ask for: permanent entries.

use std::net::{IpAddr, Ipv4Addr};

use super::link::Link;
use super::{Netlink, Result, kernel};

/// The next hop of the service range on the bridge. The program at the bridge's way out takes every packet there before a
/// frame could leave, but the kernel asks for a neighbour's MAC first: it gets one at once, and no service's address is
/// ever asked for. Link-local (RFC 3927), so that no route leads to it.
pub const SERVICE_NEXT_HOP: Ipv4Addr = Ipv4Addr::new(169, 254, 78, 1);

impl Netlink {
    /// Makes [`SERVICE_NEXT_HOP`] a permanent neighbour on the bridge, under the bridge's own MAC: a frame that no program
    /// took goes nowhere else.
    pub async fn ensure_service_next_hop(&self, bridge: &Link) -> Result<()> {
        let address = IpAddr::V4(SERVICE_NEXT_HOP);
        let request = self
            .handle
            .neighbours()
            .add(bridge.index, address)
            .link_layer_address(&bridge.mac)
            .replace();
        request
            .execute()
            .await
            .map_err(kernel(format!("set neighbour {address} on device {}", bridge.name)))
    }
}
