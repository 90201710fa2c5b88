//! Cables and switches between namespaces: veth pairs, bridges, addresses, routes.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd,
};

use anyhow::{Context, Result, anyhow};
use futures::TryStreamExt;
use netlink_packet_route::{
    address::AddressHeaderFlags,
    link::{InfoData, InfoVeth},
};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::namespace::Namespace;

/// An end of a cable.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Where the device is.
    pub namespace: &'a Namespace,
    /// The device's name.
    pub device: &'a str,
}

/// Connects two namespaces by a veth pair, both ends up.
///
/// # Errors
/// A device of that name exists, or the kernel refuses.
pub fn cable(near: End, far: End) -> Result<()> {
    let peer = LinkUnspec::new_with_name(far.device)
        .setns_by_fd(far.namespace.file().as_raw_fd())
        .build();
    let pair = LinkVeth::new(near.device, far.device)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    let made = near
        .namespace
        .netlink(async |handle| Ok(handle.link().add(pair).execute().await?));
    made.with_context(|| {
        let (near, far) = ((near.namespace.name(), near.device), (far.namespace.name(), far.device));
        format!("cannot connect {} of {} to {} of {}", near.1, near.0, far.1, far.0)
    })?;
    up(near)?;
    up(far)
}

/// Makes a bridge: a segment.
///
/// # Errors
/// As [`cable`].
pub fn segment(namespace: &Namespace, bridge: &str) -> Result<()> {
    let link = LinkBridge::new(bridge).up().build();
    let made = namespace.netlink(async |handle| Ok(handle.link().add(link).execute().await?));
    made.with_context(|| format!("cannot create the bridge {bridge} in {}", namespace.name()))
}

/// Plugs a device into a bridge of its namespace.
///
/// # Errors
/// One of them does not exist.
pub fn plug(end: End, bridge: &str) -> Result<()> {
    end.namespace.netlink(async |handle| {
        let controller = index(&handle, bridge).await?;
        let port = LinkUnspec::new_with_name(end.device).controller(controller).build();
        handle
            .link()
            .set(port)
            .execute()
            .await
            .with_context(|| format!("cannot plug {} into {bridge}", end.device))
    })
}

/// Gives a device an address.
///
/// # Errors
/// The device does not exist, or has the address.
pub fn address(end: End, address: impl Into<IpAddr>, prefix_len: u8) -> Result<()> {
    let address = address.into();
    end.namespace.netlink(async |handle| {
        let index = index(&handle, end.device).await?;
        let mut request = handle.address().add(index, address, prefix_len);
        // Without duplicate address detection an address of IPv6 is there at once.
        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        let added = request.execute().await;
        added.with_context(|| format!("cannot add {address}/{prefix_len} to {}", end.device))
    })
}

/// Sends what has no other route to `gateway`, wherever it went before.
///
/// # Errors
/// The gateway is on no segment of the namespace.
pub fn default_route(namespace: &Namespace, gateway: IpAddr) -> Result<()> {
    let all = match gateway {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    route(namespace, (all, 0), gateway)
}

/// Leads a range through `gateway`, whatever led there before.
///
/// # Errors
/// The gateway is on no segment of the namespace.
pub fn route(namespace: &Namespace, (to, prefix_len): (IpAddr, u8), gateway: IpAddr) -> Result<()> {
    let route = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(to, prefix_len)?
        .gateway(gateway)?
        .build();
    let replaced = namespace.netlink(async |handle| Ok(handle.route().add(route).replace().execute().await?));
    replaced.with_context(|| {
        format!(
            "cannot lead {to}/{prefix_len} of {} through {gateway}",
            namespace.name()
        )
    })
}

fn up(end: End) -> Result<()> {
    end.namespace.netlink(async |handle| {
        let link = LinkUnspec::new_with_name(end.device).up().build();
        handle
            .link()
            .set(link)
            .execute()
            .await
            .with_context(|| format!("cannot set {} up", end.device))
    })
}

async fn index(handle: &Handle, device: &str) -> Result<u32> {
    let mut links = handle.link().get().match_name(device.to_owned()).execute();
    let link = links.try_next().await.with_context(|| format!("no device {device}"))?;
    Ok(link.ok_or_else(|| anyhow!("no device {device}"))?.header.index)
}
