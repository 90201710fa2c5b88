//! The bridge that owns the node's pod subnets: their gateway addresses are its own, the pods' veths its ports.
//!
//! `net.bridge.bridge-nf-call-iptables` is left as it is: what programs redirect never meets netfilter, and the few packets
//! that are bridged after all meet the rules that the node's owner wanted for them.

use std::net::IpAddr;

use ipnet::IpNet;
use netpath_common::names::BRIDGE_DEVICE;
use rtnetlink::{LinkBridge, LinkMessageBuilder};

use super::link::{Link, by_index, is_stable_mac, stable_mac};
use super::{Error, Netlink, Result, kernel, sysctl};

/// What its MAC has of it.
const LETTER: u8 = b'p';

/// What the bridge is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Its addresses with the subnets' lengths: the pods' gateways.
    pub gateways: Vec<IpNet>,
    /// The largest IP packet of the pods, in bytes.
    pub mtu: u32,
    /// The node's address, which a new bridge's MAC is made from.
    pub node: IpAddr,
}

impl Netlink {
    /// Makes the bridge, or brings the one that is there to what it is to be. Pods' ports and traffic stay as they are.
    ///
    /// # Errors
    /// [`Error::Taken`] if a device of that name is no bridge, or another device has one of the addresses: nothing has changed then.
    /// [`Error::Missing`] if something deletes it at once; [`Error::Kernel`], [`Error::Sysctl`].
    pub async fn ensure_bridge(&self, wanted: &Bridge) -> Result<Link> {
        let name = BRIDGE_DEVICE;
        let present = self.link(name).await?;
        if let Some(link) = &present
            && link.kind != "bridge"
        {
            return Err(Error::Taken {
                object: format!("device {name}"),
                found: format!("it is {}", described(&link.kind)),
                remedy: format!("rename or delete it (`ip link delete {name}`)"),
            });
        }
        self.check_free(name, &wanted.gateways).await?;

        let mac = stable_mac(LETTER, wanted.node);
        if present.is_none() {
            // Snooping would hold back the pods' multicast until somebody queries; nobody does.
            let message = LinkMessageBuilder::<LinkBridge>::new(name)
                .address(mac.to_vec())
                .mcast_snooping(false)
                .build();
            self.handle
                .link()
                .add(message)
                .execute()
                .await
                .map_err(kernel(format!("create bridge {name}")))?;
        }
        let link = self.link(name).await?.ok_or_else(|| gone(name))?;
        // Pods know their gateway by the MAC that it has: that stays when the node's address changes.
        if !is_stable_mac(LETTER, link.mac) {
            self.change(name, "set its MAC", by_index(link.index).address(mac.to_vec()).build())
                .await?;
        }
        // Also by a change when the bridge is new: what is given at creation yields to the smallest port's.
        if link.mtu != wanted.mtu {
            let what = format!("set its MTU to {}", wanted.mtu);
            self.change(name, &what, by_index(link.index).mtu(wanted.mtu).build())
                .await?;
        }
        if wanted.gateways.iter().any(|gateway| gateway.addr().is_ipv6()) {
            sysctl::speak_ipv6(name)?;
        }
        self.set_addresses(&link, &wanted.gateways).await?;
        if !link.up {
            self.change(name, "set it up", by_index(link.index).up().build())
                .await?;
        }
        self.link(name).await?.ok_or_else(|| gone(name))
    }
}

pub(super) fn described(kind: &str) -> String {
    if kind.is_empty() {
        "a network card".into()
    } else {
        format!("a {kind} device")
    }
}

pub(super) fn gone(name: &str) -> Error {
    Error::Missing {
        object: format!("device {name}"),
        remedy: "something deletes it as soon as it is made: look for another network plugin on this node".into(),
    }
}
