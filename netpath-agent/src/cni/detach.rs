//! DEL: takes away whatever is there of an attachment, however much that is, and as often as it is asked. The address goes
//! last: as long as anything else is left, its file says whose it is.

use std::{fmt::Display, net::IpAddr};

use super::{
    allocate::{Addresses, boot_id},
    config::Network,
    error::{Code, Error},
    hostport::HostPorts,
    names::Attachment,
    portmap::HostPort,
    tables::{HOOK, PodTables},
};
use crate::{
    datapath::{attach, pins::Pins},
    net::{Netlink, link::Link},
};

/// Detaches a container.
///
/// # Errors
/// [`Code::Leftovers`] with all that could not be removed; [`Code::Io`].
pub async fn del(network: &Network, attachment: &Attachment) -> Result<(), Error> {
    let netlink = Netlink::connect()?;
    let addresses = Addresses::new(&network.state_dir, &network.name, boot_id()?);
    detach(&netlink, network, &addresses, attachment).await
}

/// Detaches a container, with what the caller has open already.
pub(super) async fn detach(
    netlink: &Netlink,
    network: &Network,
    addresses: &Addresses,
    attachment: &Attachment,
) -> Result<(), Error> {
    let device = attachment.device();
    let records = addresses.of(attachment)?;
    let pins = Pins::new(&network.bpf_root);
    let mut left = Vec::new();
    for (address, record) in &records {
        note(&mut left, close_ports(addresses, &pins, &record.host_ports(), *address));
    }
    let owned: Vec<IpAddr> = records.into_iter().map(|(address, _)| address).collect();
    let link = netlink.link(&device).await?;
    left.extend(dismantle(netlink, network, &device, link.as_ref(), &owned).await);
    if left.is_empty() {
        return addresses.release(attachment);
    }
    Err(Error::new(Code::Leftovers, format!("{attachment} is not wholly detached")).details(left.join("; ")))
}

/// Removes a pod's hostPorts.
///
/// # Errors
/// Those of the tables; [`Code::Io`].
pub(super) fn close_ports(addresses: &Addresses, pins: &Pins, ports: &[HostPort], pod: IpAddr) -> Result<(), Error> {
    if ports.is_empty() {
        return Ok(());
    }
    let _lock = addresses.lock_if_any()?;
    match HostPorts::open_if_any(pins)? {
        Some(mut tables) => Ok(tables.remove(ports, pod)?),
        None => Ok(()),
    }
}

/// Removes all else that the kernel has of an attachment: table entries first, so that the pod is cut off at once, then the
/// device with its programs, then what is left without it. Goes on past errors, and says what they were.
pub(super) async fn dismantle(
    netlink: &Netlink,
    network: &Network,
    device: &str,
    link: Option<&Link>,
    addresses: &[IpAddr],
) -> Vec<String> {
    let pins = Pins::new(&network.bpf_root);
    let mut left = Vec::new();
    let tables = PodTables::open_if_any(&pins).and_then(|tables| match tables {
        Some(mut tables) => tables.remove(addresses, link.map(|link| link.index)),
        None => Ok(()),
    });
    note(&mut left, tables);
    if link.is_some() {
        note(&mut left, netlink.delete_link(device).await);
    }
    match netlink.link(&network.bridge).await {
        Ok(Some(bridge)) => {
            for address in addresses {
                note(&mut left, netlink.forget_neighbour(&bridge, *address).await);
            }
        }
        Ok(None) => {}
        Err(error) => left.push(error.to_string()),
    }
    note(&mut left, attach::detach(&pins, HOOK, device));
    left
}

fn note<T, E: Display>(left: &mut Vec<String>, result: Result<T, E>) {
    left.extend(result.err().map(|error| error.to_string()));
}
