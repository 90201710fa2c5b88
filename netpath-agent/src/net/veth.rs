//! A pod's way out: a veth pair, one end a port of the node's bridge, the other the pod's interface. CNI's ADD makes it in
//! pieces, so that programs and tables are in place before the first packet can pass.

use std::{
    net::IpAddr,
    os::fd::{AsRawFd, BorrowedFd},
};

use ipnet::IpNet;
use netlink_packet_route::{
    link::{InfoData, InfoKind, InfoVeth},
    neighbour::{NeighbourFlags, NeighbourState},
};
use netpath_common::abi::Mac;
use nix::libc::EEXIST;
use rtnetlink::{LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::link::{Link, by_index};
use super::{Error, Netlink, Result, is_errno, kernel, sysctl};

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
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub async fn settle_port(&self, port: &Link, bridge: &Link, mac: Mac, addresses: &[IpAddr]) -> Result<()> {
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

        for address in addresses {
            self.set_neighbour(bridge, *address, mac).await?;
        }
        Ok(())
    }

    /// Sets a device up.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub async fn set_up(&self, link: &Link) -> Result<()> {
        self.change(&link.name, "set it up", by_index(link.index).up().build())
            .await
    }

    /// In a pod's namespace: gives the interface its addresses, sets it up and makes it the way to everywhere, by a gateway
    /// of each address's family that has `gateway_mac`.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no such interface; [`Error::Kernel`], [`Error::Sysctl`].
    pub async fn configure_pod(&self, name: &str, addresses: &[(IpNet, IpAddr)], gateway_mac: Mac) -> Result<()> {
        let link = self.link(name).await?.ok_or_else(|| Error::Missing {
            object: format!("interface {name} of the pod"),
            remedy: "something else in the pod's network namespace deletes it".into(),
        })?;
        if addresses.iter().any(|(address, _)| address.addr().is_ipv6()) {
            sysctl::speak_ipv6(name)?;
        }
        for (address, _) in addresses {
            self.add_address(&link, *address)
                .await
                .map_err(kernel(format!("interface {name} of the pod: add address {address}")))?;
        }
        self.set_up(&link).await?;
        for (address, gateway) in addresses {
            // Without a segment in IPv6, nothing there is asked for by neighbour discovery, the gateway's MAC least of all.
            if gateway.is_ipv6() {
                self.set_neighbour(&link, *gateway, gateway_mac).await?;
            }
            let onlink = !address.contains(gateway);
            self.add_default_route(&link, *gateway, onlink)
                .await
                .map_err(kernel(format!(
                    "interface {name} of the pod: add default route via {gateway}"
                )))?;
        }
        Ok(())
    }
}
