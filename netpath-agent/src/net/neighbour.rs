//! Neighbours that nobody needs to ask for: permanent entries.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netpath_common::abi::Mac;
use nix::libc::{ENODEV, ENOENT};

use super::link::{Link, family};
use super::{Netlink, Result, is_errno, kernel};

/// The next hops of the service ranges on the bridge. The program at the bridge's way out takes every packet there before a
/// frame could leave, but the kernel asks for a neighbour's MAC first: it gets one at once, and no service's address is
/// ever asked for. Link-local (RFC 3927; RFC 4291, section 2.5.6), so that no route leads to them.
const SERVICE_NEXT_HOP4: Ipv4Addr = Ipv4Addr::new(169, 254, 78, 1);
const SERVICE_NEXT_HOP6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x4e, 0x78);

/// The next hop of services in an address's family.
pub fn service_next_hop(of: IpAddr) -> IpAddr {
    match of {
        IpAddr::V4(_) => SERVICE_NEXT_HOP4.into(),
        IpAddr::V6(_) => SERVICE_NEXT_HOP6.into(),
    }
}

impl Netlink {
    /// Makes [`service_next_hop`] a permanent neighbour on the bridge in each family of its gateways, under the bridge's own
    /// MAC: a frame that no program took goes nowhere else.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub async fn ensure_service_next_hops(&self, bridge: &Link, gateways: &[IpNet]) -> Result<()> {
        let next_hops: BTreeSet<IpAddr> = gateways
            .iter()
            .map(|gateway| service_next_hop(gateway.addr()))
            .collect();
        for address in next_hops {
            self.set_neighbour(bridge, address, bridge.mac).await?;
        }
        Ok(())
    }

    /// Makes an address a permanent neighbour on a device.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub async fn set_neighbour(&self, device: &Link, address: IpAddr, mac: Mac) -> Result<()> {
        let request = self.handle.neighbours().add(device.index, address);
        request
            .link_layer_address(&mac)
            .replace()
            .execute()
            .await
            .map_err(kernel(format!("set neighbour {address} on device {}", device.name)))
    }

    /// Forgets a neighbour on a device. Says whether there was one.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub async fn forget_neighbour(&self, device: &Link, address: IpAddr) -> Result<bool> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = device.index;
        message.attributes.push(NeighbourAttribute::Destination(address.into()));
        match self.handle.neighbours().del(message).execute().await {
            Ok(()) => Ok(true),
            Err(error) if is_errno(&error, ENOENT) || is_errno(&error, ENODEV) => Ok(false),
            Err(error) => Err(kernel(format!("delete neighbour {address} on device {}", device.name))(
                error,
            )),
        }
    }

    /// The MAC address of a permanent neighbour.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub async fn permanent_neighbour(&self, device: &Link, address: IpAddr) -> Result<Option<Mac>> {
        let request = self.handle.neighbours().get().set_address_family(family(address));
        let neighbours: Vec<_> = request
            .execute()
            .try_collect()
            .await
            .map_err(kernel("list neighbours"))?;
        let wanted = NeighbourAttribute::Destination(address.into());
        Ok(neighbours
            .into_iter()
            .filter(|neighbour| neighbour.header.ifindex == device.index)
            .filter(|neighbour| neighbour.header.state == NeighbourState::Permanent)
            .find(|neighbour| neighbour.attributes.contains(&wanted))
            .and_then(|neighbour| {
                neighbour.attributes.into_iter().find_map(|attribute| match attribute {
                    NeighbourAttribute::LinkLayerAddress(mac) => mac.try_into().ok(),
                    _ => None,
                })
            }))
    }
}
