//! The uplink: the device that leads out of the node, and the next hops behind it.

use std::net::IpAddr;

use futures::StreamExt;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteVia};
use netpath_common::abi::Mac;
use nix::libc::{EHOSTUNREACH, ENETUNREACH};

use super::{Error, Netlink, Result, is_errno, kernel};

/// The device with the node's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its interface index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its kind as `ip -d link` shows it; empty for a physical card.
    pub kind: String,
    /// The largest IP packet it sends, in bytes.
    pub mtu: u32,
    /// Its address.
    pub mac: Mac,
    /// Its addresses of global scope, with their prefixes: what lies within is on the segment.
    pub addresses: Vec<IpNet>,
}

/// Where the kernel sends packets for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The router; `None` if the address is on the device's segment.
    pub gateway: Option<IpAddr>,
    /// The device's index.
    pub device: u32,
}

impl Netlink {
    /// The device of that name, or, without a name, the one that has `node` among its addresses.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is none; [`Error::Kernel`].
    pub async fn uplink(&self, name: Option<&str>, node: IpAddr) -> Result<Uplink> {
        let links = self.links().await?;
        let addresses = self.addresses().await?;
        let link = match name {
            Some(name) => links
                .iter()
                .find(|link| link.name == name)
                .ok_or_else(|| Error::Missing {
                    object: format!("device {name} (the uplink)"),
                    remedy: format!(
                        "give --uplink one of: {}",
                        names(links.iter().map(|link| link.name.as_str()))
                    ),
                })?,
            None => {
                let index = addresses
                    .iter()
                    .find(|(_, net)| net.addr() == node)
                    .map(|(index, _)| *index);
                links
                    .iter()
                    .find(|link| Some(link.index) == index)
                    .ok_or_else(|| Error::Missing {
                        object: format!("a device with {node} (the node's InternalIP)"),
                        remedy: "correct status.addresses of the Node, or name the device with --uplink".into(),
                    })?
            }
        };
        Ok(Uplink {
            index: link.index,
            name: link.name.clone(),
            kind: link.kind.clone(),
            mtu: link.mtu,
            mac: link.mac,
            addresses: addresses
                .iter()
                .filter(|(index, _)| *index == link.index)
                .map(|(_, net)| *net)
                .collect(),
        })
    }

    /// Where the kernel's routes lead for an address; `None` if no route does.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub async fn next_hop(&self, address: IpAddr) -> Result<Option<NextHop>> {
        let mut message = RouteMessage::default();
        (message.header.address_family, message.header.destination_prefix_length) = match address {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        message.attributes.push(RouteAttribute::Destination(address.into()));
        let mut answers = self.handle.route().get(message).execute();
        match answers.next().await {
            None => Ok(None),
            Some(Ok(route)) => Ok(next_hop(&route)),
            Some(Err(error)) if is_errno(&error, ENETUNREACH) || is_errno(&error, EHOSTUNREACH) => Ok(None),
            Some(Err(error)) => Err(kernel(format!("look up the route to {address}"))(error)),
        }
    }
}

fn next_hop(route: &RouteMessage) -> Option<NextHop> {
    let mut device = None;
    let mut gateway = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => device = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(IpAddr::V4(*address)),
            RouteAttribute::Gateway(RouteAddress::Inet6(address)) => gateway = Some(IpAddr::V6(*address)),
            RouteAttribute::Via(RouteVia::Inet(address)) => gateway = Some(IpAddr::V4(*address)),
            RouteAttribute::Via(RouteVia::Inet6(address)) => gateway = Some(IpAddr::V6(*address)),
            _ => {}
        }
    }
    Some(NextHop {
        gateway,
        device: device?,
    })
}

fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    all.collect::<Vec<_>>().join(", ")
}
