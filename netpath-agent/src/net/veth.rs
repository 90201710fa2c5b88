//! A pod's way out: a veth pair, one end a port of the node's bridge, the other the pod's interface. CNI's ADD makes it in
//! pieces, so that programs and tables are in place before the first packet can pass.

use std::{
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsRawFd, BorrowedFd},
};

use futures::TryStreamExt;
use ipnet::Ipv4Net;
use netlink_packet_route::{
    AddressFamily,
    link::{InfoData, InfoKind, InfoVeth},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage},
};
use netpath_common::abi::Mac;
use nix::libc::{EEXIST, ENODEV, ENOENT};
use rtnetlink::{LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::link::{Link, by_index};
use super::{Error, Netlink, Result, is_errno, kernel};

/// A pair to be made.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The name of the node's end.
    pub host: &'a str,
    /// Its MAC address.
    pub host_mac: Mac,
    /// The bridge that it becomes a port of, in this namespace.
    pub bridge: &'a Link,
    /// The name of the pod's end.
    pub pod: &'a str,
    /// Its MAC address.
    pub pod_mac: Mac,
    /// The pod's network namespace.
    pub namespace: BorrowedFd<'a>,
    /// The largest IP packet of both ends, in bytes.
    pub mtu: u32,
}

impl Netlink {
    /// Makes a pair, both ends down, and says what the node's end is.
    ///
    /// # Errors
    /// [`Error::Taken`] if one of the names is in use; nothing was made then.
    pub async fn create_pair(&self, pair: &Pair<'_>) -> Result<Link> {
        // The pod's end is born in its namespace: it never has a name in ours that another device could have.
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(pair.pod)
            .mtu(pair.mtu)
            .address(pair.pod_mac.to_vec())
            .setns_by_fd(pair.namespace.as_raw_fd())
            .build();
        let message = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(pair.host)
            .mtu(pair.mtu)
            .address(pair.host_mac.to_vec())
            .controller(pair.bridge.index)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        match self.handle().link().add(message).execute().await {
            Ok(()) => {}
            Err(error) if is_errno(&error, EEXIST) => return Err(self.name_taken(pair).await?),
            Err(error) => {
                return Err(kernel(format!("create veth pair {} and {}", pair.host, pair.pod))(
                    error,
                ));
            }
        }
        self.link(pair.host).await?.ok_or_else(|| Error::Missing {
            object: format!("device {}", pair.host),
            remedy: "the pod's network namespace went while the pod was attached".into(),
        })
    }

    /// Which end's name it was.
    async fn name_taken(&self, pair: &Pair<'_>) -> Result<Error> {
        Ok(match self.link(pair.host).await? {
            Some(_) => Error::Taken {
                object: format!("device {}", pair.host),
                found: "the container is attached already".into(),
                remedy: "detach it first (CNI DEL)".into(),
            },
            None => Error::Taken {
                object: format!("interface {}", pair.pod),
                found: "the container has one of that name already".into(),
                remedy: "detach that one first, or attach with another CNI_IFNAME".into(),
            },
        })
    }

    /// Makes a bridge know who is behind a port, rather than learn it from what the pod sends: no frame for a MAC that
    /// nobody has goes to a pod, and no pod can claim another's.
    pub async fn settle_port(&self, port: &Link, bridge: &Link, mac: Mac, address: Ipv4Addr) -> Result<()> {
        let message = LinkBridgePort::new(port.index).learning(false).flood(false).build();
        let request = self.handle().link().set_port(message);
        request
            .execute()
            .await
            .map_err(kernel(format!("set flags of bridge port {}", port.name)))?;

        let entry = self.handle().neighbours().add_bridge(port.index, &mac);
        let entry = entry.state(NeighbourState::Noarp).flags(NeighbourFlags::Controller);
        entry
            .replace()
            .execute()
            .await
            .map_err(kernel(format!("add the pod's MAC to bridge port {}", port.name)))?;

        let neighbour = self.handle().neighbours().add(bridge.index, IpAddr::V4(address));
        neighbour
            .link_layer_address(&mac)
            .replace()
            .execute()
            .await
            .map_err(kernel(format!("set neighbour {address} on device {}", bridge.name)))
    }

    /// Forgets the neighbour of a pod that goes. Says whether there was one.
    pub async fn forget_neighbour(&self, bridge: &Link, address: Ipv4Addr) -> Result<bool> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = bridge.index;
        let destination = NeighbourAttribute::Destination(NeighbourAddress::Inet(address));
        message.attributes.push(destination);
        match self.handle().neighbours().del(message).execute().await {
            Ok(()) => Ok(true),
            Err(error) if is_errno(&error, ENOENT) || is_errno(&error, ENODEV) => Ok(false),
            Err(error) => Err(kernel(format!("delete neighbour {address} on device {}", bridge.name))(
                error,
            )),
        }
    }

    /// The MAC address of a permanent neighbour.
    pub async fn permanent_neighbour(&self, device: &Link, address: Ipv4Addr) -> Result<Option<Mac>> {
        let request = self.handle().neighbours().get().set_address_family(AddressFamily::Inet);
        let neighbours: Vec<_> = request
            .execute()
            .try_collect()
            .await
            .map_err(kernel("list neighbours"))?;
        let wanted = NeighbourAttribute::Destination(NeighbourAddress::Inet(address));
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

    /// Sets a device up.
    pub async fn set_up(&self, link: &Link) -> Result<()> {
        self.change(&link.name, "set it up", by_index(link.index).up().build())
            .await
    }

    /// In a pod's namespace: gives the interface its address, sets it up and makes it the way to everywhere.
    pub async fn configure_pod(&self, name: &str, address: Ipv4Net, gateway: Ipv4Addr) -> Result<()> {
        let link = self.link(name).await?.ok_or_else(|| Error::Missing {
            object: format!("interface {name} of the pod"),
            remedy: "something else in the pod's network namespace deletes it".into(),
        })?;
        let request = self
            .handle()
            .address()
            .add(link.index, IpAddr::V4(address.addr()), address.prefix_len());
        request
            .execute()
            .await
            .map_err(kernel(format!("interface {name} of the pod: add address {address}")))?;
        self.set_up(&link).await?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(gateway)
            .output_interface(link.index)
            .build();
        let request = self.handle().route().add(route);
        request.execute().await.map_err(kernel(format!(
            "interface {name} of the pod: add default route via {gateway}"
        )))
    }

    /// The IPv4 routes of the namespace's main table, whoever added them: destination and gateway.
    pub async fn routes4(&self) -> Result<Vec<(Ipv4Net, Option<Ipv4Addr>)>> {
        let mut filter = RouteMessage::default();
        filter.header.address_family = AddressFamily::Inet;
        filter.header.table = RouteHeader::RT_TABLE_MAIN;
        let request = self.handle().route().get(filter).execute();
        let routes: Vec<RouteMessage> = request.try_collect().await.map_err(kernel("list routes"))?;
        Ok(routes.iter().filter_map(route4).collect())
    }
}

fn route4(route: &RouteMessage) -> Option<(Ipv4Net, Option<Ipv4Addr>)> {
    let (mut destination, mut gateway) = (Ipv4Addr::UNSPECIFIED, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = *address,
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(*address),
            _ => {}
        }
    }
    Some((
        Ipv4Net::new(destination, route.header.destination_prefix_length).ok()?,
        gateway,
    ))
}
