//! The idle vxlan device. Programs write and strip VXLAN themselves; this one, of metadata mode, brings receive offload
//! for the port, takes the packets that must go the kernel's way (UDP GSO, the node's own), and lets tools that read
//! VXLAN work.

use std::net::IpAddr;

use netpath_common::names::OVERLAY_DEVICE;
use nix::libc::{EADDRINUSE, EEXIST};
use rtnetlink::{LinkMessageBuilder, LinkVxlan};

use super::bridge::{described, gone};
use super::link::{Link, by_index, stable_mac};
use super::{Error, Netlink, Result, is_errno, kernel, sysctl};

/// What the vxlan device is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// VXLAN's UDP port.
    pub port: u16,
    /// The largest IP packet inside the tunnel, in bytes.
    pub mtu: u32,
    /// The node's address, which the device's MAC is made from.
    pub node: IpAddr,
}

impl Netlink {
    /// Makes the vxlan device, or brings the one that is there to what it is to be. One with another port is made anew.
    ///
    /// # Errors
    /// [`Error::Taken`] if a device of that name is another kind of device, or the port is taken: nothing has changed then.
    /// [`Error::Kernel`], [`Error::Sysctl`].
    pub async fn ensure_overlay(&self, wanted: &Overlay) -> Result<Link> {
        let name = OVERLAY_DEVICE;
        if let Some(link) = self.link(name).await? {
            match link.vxlan {
                Some(vxlan) if vxlan.collect_metadata && vxlan.port == wanted.port => {
                    return self.adjust_overlay(link, wanted).await;
                }
                Some(vxlan) if vxlan.collect_metadata => {
                    self.check_port(wanted.port).await?;
                    self.delete_link(name).await?;
                }
                _ => {
                    let mode = if link.vxlan.is_some() {
                        " that is not in metadata mode"
                    } else {
                        ""
                    };
                    return Err(Error::Taken {
                        object: format!("device {name}"),
                        found: format!("it is {}{mode}", described(&link.kind)),
                        remedy: format!("rename or delete it (`ip link delete {name}`)"),
                    });
                }
            }
        } else {
            self.check_port(wanted.port).await?;
        }
        let message = LinkMessageBuilder::<LinkVxlan>::new(name)
            .collect_metadata(true)
            .port(wanted.port)
            .learning(false)
            .udp_csum(false)
            .udp_zero_csum6_tx(true)
            .udp_zero_csum6_rx(true)
            .address(stable_mac(b'x', wanted.node).to_vec())
            .mtu(wanted.mtu)
            // Addresses inside come with routes, not from neighbours: no ARP into the tunnel.
            .arp(false)
            .build();
        match self.handle.link().add(message).execute().await {
            Err(error) if is_errno(&error, EEXIST) => {
                return Err(port_taken(wanted.port, "another vxlan device has it"));
            }
            answer => answer.map_err(kernel(format!("create vxlan device {name}")))?,
        }
        let link = self.link(name).await?.ok_or_else(|| gone(name))?;
        // What the kernel would announce there has no tunnel to go to, and would count as the device's losses.
        sysctl::no_link_local(name)?;
        // The device opens its socket when it is set up: only now does the kernel say that the port is taken.
        match self
            .handle
            .link()
            .change(by_index(link.index).up().build())
            .execute()
            .await
        {
            Ok(()) => self.link(name).await?.ok_or_else(|| gone(name)),
            Err(error) => {
                self.delete_link(name).await?;
                if is_errno(&error, EADDRINUSE) {
                    return Err(port_taken(
                        wanted.port,
                        "a socket or vxlan device of this node listens there",
                    ));
                }
                Err(kernel(format!("device {name}: set it up"))(error))
            }
        }
    }

    async fn adjust_overlay(&self, link: Link, wanted: &Overlay) -> Result<Link> {
        let name = OVERLAY_DEVICE;
        let mac = stable_mac(b'x', wanted.node);
        if link.mac == mac && link.mtu == wanted.mtu && link.up && link.noarp {
            return Ok(link);
        }
        let message = by_index(link.index)
            .address(mac.to_vec())
            .mtu(wanted.mtu)
            .arp(false)
            .up()
            .build();
        match self.handle.link().change(message).execute().await {
            Err(error) if is_errno(&error, EADDRINUSE) => Err(port_taken(
                wanted.port,
                "a socket or vxlan device of this node listens there",
            )),
            answer => {
                answer.map_err(kernel(format!(
                    "device {name}: set its MTU to {} and set it up",
                    wanted.mtu
                )))?;
                self.link(name).await?.ok_or_else(|| gone(name))
            }
        }
    }

    /// Whether another vxlan device has the port: the kernel lets two of them share it, and gives packets to one.
    async fn check_port(&self, port: u16) -> Result<()> {
        for link in self.links().await? {
            if link.name != OVERLAY_DEVICE && link.vxlan.is_some_and(|vxlan| vxlan.port == port) {
                return Err(port_taken(port, &format!("vxlan device {} has it", link.name)));
            }
        }
        Ok(())
    }
}

fn port_taken(port: u16, found: &str) -> Error {
    Error::Taken {
        object: format!("UDP port {port} for VXLAN"),
        found: found.into(),
        remedy: "free it (`ss -ulnp`, `ip -d link show type vxlan`), or choose another on all nodes with --vxlan-port"
            .into(),
    }
}
