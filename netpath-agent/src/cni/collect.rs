//! What nobody detached: GC takes away all attachments but those that the runtime lists, and [`reconcile`], for runtimes
//! that never call GC, those whose device is gone.

use std::{collections::BTreeSet, fs};

use super::{
    allocate::{Addresses, boot_id},
    attach::bridge,
    config::Network,
    detach::{detach, dismantle},
    error::{Code, Error},
    hostport::{HostPorts, Pod},
    names::{Attachment, is_identifier, is_pod_device},
    tables::{HOOK, PodTables},
};
use crate::{
    datapath::{attach, pins::Pins},
    net::Netlink,
};

/// Detaches every attachment of this network that the runtime does not list. Other networks' attachments stay.
///
/// # Errors
/// [`Code::Leftovers`] with everything that could not be removed; the rest is gone.
pub async fn gc(network: &Network) -> Result<(), Error> {
    // A missing list says nothing, and is not an empty one.
    let Some(valid) = &network.valid_attachments else {
        return Ok(());
    };
    let valid: BTreeSet<Attachment> = valid
        .iter()
        .map(|valid| Attachment {
            container_id: valid.container_id.clone(),
            ifname: valid.ifname.clone(),
        })
        .collect();
    let boot = boot_id()?;
    let netlink = Netlink::connect()?;
    let addresses = Addresses::new(&network.state_dir, &network.name, &boot);
    let mut left = Vec::new();
    let recorded: BTreeSet<Attachment> = addresses
        .records()?
        .iter()
        .map(|(_, record)| record.attachment())
        .collect();
    for attachment in recorded.difference(&valid) {
        if let Err(error) = detach(&netlink, network, &addresses, attachment).await {
            left.push(error.to_string());
        }
    }
    // Ports without a record: somebody emptied the state folder.
    let mut keep: BTreeSet<String> = valid.iter().map(Attachment::device).collect();
    for other in networks(network)? {
        let records = Addresses::new(&network.state_dir, &other, &boot).records()?;
        keep.extend(records.iter().map(|(_, record)| record.attachment().device()));
    }
    if let Ok(bridge) = bridge(&netlink, network).await {
        for link in netlink.links().await? {
            if link.controller == Some(bridge.index) && is_pod_device(&link.name) && !keep.contains(&link.name) {
                left.extend(dismantle(&netlink, network, &link.name, Some(&link), &[]).await);
            }
        }
    }
    left.extend(forget_devices_gone(&netlink, network).await?);
    left.extend(settle_ports(network, &boot)?);
    finished(left)
}

/// Detaches every attachment whose device is gone, and removes entries and pins of devices that are gone: a pod's end takes
/// ours with it when its namespace goes. An ADD that is still running is left alone.
///
/// # Errors
/// As [`gc`].
pub async fn reconcile(network: &Network) -> Result<(), Error> {
    let netlink = Netlink::connect()?;
    let boot = boot_id()?;
    let addresses = Addresses::new(&network.state_dir, &network.name, &boot);
    let mut settled = BTreeSet::new();
    for (address, record) in addresses.records()? {
        if !addresses.is_under_way(address)? {
            settled.insert(record.attachment());
        }
    }
    // Only now: an ADD that was under way above may have made its device since, one that was not has made it before.
    let present: BTreeSet<String> = netlink.links().await?.into_iter().map(|link| link.name).collect();
    let mut left = Vec::new();
    for attachment in settled
        .iter()
        .filter(|attachment| !present.contains(&attachment.device()))
    {
        if let Err(error) = detach(&netlink, network, &addresses, attachment).await {
            left.push(error.to_string());
        }
    }
    left.extend(forget_devices_gone(&netlink, network).await?);
    left.extend(settle_ports(network, &boot)?);
    finished(left)
}

/// Brings the hostPorts in the tables to those of the pods that there are, on the addresses that the node has now.
fn settle_ports(network: &Network, boot: &str) -> Result<Vec<String>, Error> {
    let Some(mut tables) = HostPorts::open_if_any(&Pins::new(&network.bpf_root))? else {
        return Ok(Vec::new());
    };
    let own = Addresses::new(&network.state_dir, &network.name, boot);
    let _lock = own.lock_if_any()?;
    let mut pods = Vec::new();
    for name in networks(network)?.into_iter().chain([network.name.clone()]) {
        let addresses = Addresses::new(&network.state_dir, &name, boot);
        for (address, record) in addresses.records()? {
            pods.push(Pod {
                address,
                ports: record.host_ports(),
                under_way: addresses.is_under_way(address)?,
            });
        }
    }
    Ok(tables.reconcile(&pods)?)
}

fn finished(left: Vec<String>) -> Result<(), Error> {
    if left.is_empty() {
        return Ok(());
    }
    Err(Error::new(Code::Leftovers, format!("{} things could not be removed", left.len())).details(left.join("; ")))
}

/// Removes table entries and pinned links of pods' devices that do not exist.
async fn forget_devices_gone(netlink: &Netlink, network: &Network) -> Result<Vec<String>, Error> {
    let pins = Pins::new(&network.bpf_root);
    // Entries and pins before devices: whatever has an entry now had its device before.
    let mut tables = PodTables::open_if_any(&pins)?;
    let entries = tables.as_ref().map_or(Ok(Vec::new()), PodTables::devices)?;
    let pinned = pins.links()?;
    let links = netlink.links().await?;
    let mut left = Vec::new();
    for ifindex in entries
        .into_iter()
        .filter(|ifindex| links.iter().all(|link| link.index != *ifindex))
    {
        if let Some(tables) = &mut tables {
            left.extend(tables.remove(&[], Some(ifindex)).err().map(|error| error.to_string()));
        }
    }
    for (device, hook) in pinned {
        let ours = is_pod_device(&device) && hook == HOOK;
        if ours && links.iter().all(|link| link.name != device) {
            left.extend(
                attach::detach(&pins, hook, &device)
                    .err()
                    .map(|error| error.to_string()),
            );
        }
    }
    Ok(left)
}

/// The names of the other networks that share the state folder.
fn networks(network: &Network) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(&network.state_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(
                Error::new(Code::Io, format!("cannot list {}", network.state_dir.display())).details(error.to_string()),
            );
        }
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names
        .filter(|name| is_identifier(name) && *name != network.name)
        .collect())
}
