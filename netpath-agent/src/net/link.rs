//! Devices as netlink tells of them, and the changes every kind of device shares.

use std::net::IpAddr;

use futures::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netpath_common::abi::Mac;
use nix::libc::ENODEV;
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::{Error, Netlink, Result, is_errno, kernel};

/// A device, reduced to what netpath looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its interface index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its kind as `ip -d link` shows it ("bridge", "vxlan", "veth"); empty for a card and for loopback.
    pub kind: String,
    /// Whether it is the loopback device.
    pub loopback: bool,
    /// The largest IP packet it sends, in bytes.
    pub mtu: u32,
    /// Its address; all zero if it has none of six bytes.
    pub mac: Mac,
    /// The bridge (or other device) it is a port of.
    pub controller: Option<u32>,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it resolves no neighbours.
    pub noarp: bool,
    /// What a vxlan device is set up for.
    pub vxlan: Option<Vxlan>,
}

/// A vxlan device's settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vxlan {
    /// Whether the tunnel's end comes with each packet ("external").
    pub collect_metadata: bool,
    /// The UDP port it listens on.
    pub port: u16,
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Link {
            index: message.header.index,
            name: String::new(),
            kind: String::new(),
            loopback: message.header.flags.contains(LinkFlags::Loopback),
            mtu: 0,
            mac: Mac::default(),
            controller: None,
            up: message.header.flags.contains(LinkFlags::Up),
            noarp: message.header.flags.contains(LinkFlags::Noarp),
            vxlan: None,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Address(mac) => link.mac = mac.try_into().unwrap_or_default(),
                LinkAttribute::Controller(index) => link.controller = Some(index),
                LinkAttribute::LinkInfo(infos) => infos.into_iter().for_each(|info| link.learn(info)),
                _ => {}
            }
        }
        link
    }
}

impl Link {
    /// Whether a driver of real (or emulated) hardware is behind it.
    pub fn is_card(&self) -> bool {
        self.kind.is_empty() && !self.loopback
    }

    fn learn(&mut self, info: LinkInfo) {
        match info {
            LinkInfo::Kind(kind) => self.kind = kind_name(&kind),
            LinkInfo::Data(InfoData::Vxlan(settings)) => {
                let mut vxlan = Vxlan::default();
                for setting in settings {
                    match setting {
                        InfoVxlan::CollectMetadata(on) => vxlan.collect_metadata = on,
                        InfoVxlan::Port(port) => vxlan.port = port,
                        _ => {}
                    }
                }
                self.vxlan = Some(vxlan);
            }
            _ => {}
        }
    }
}

fn kind_name(kind: &InfoKind) -> String {
    kind.to_string()
}

/// An address for a device of netpath's, locally administered and always the same for the same node: what pods and peers
/// remember of a device stays right when it is made anew. It reads "N", `letter`, then the node's address.
pub fn stable_mac(letter: u8, node: IpAddr) -> Mac {
    let [a, b, c, d] = match node {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => {
            let mut folded = [0; 4];
            for (position, byte) in address.octets().into_iter().enumerate() {
                folded[position % 4] ^= byte;
            }
            folded
        }
    };
    [b'N', letter, a, b, c, d]
}

/// Whether it is [`stable_mac`]'s for this letter, of whichever node.
pub fn is_stable_mac(letter: u8, mac: Mac) -> bool {
    mac.starts_with(&[b'N', letter])
}

/// The family of an address, as netlink numbers it.
pub(super) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// A request's beginning that names a device by its index.
pub(crate) fn by_index(index: u32) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_index(index)
}

impl Netlink {
    /// Every device of the namespace.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub async fn links(&self) -> Result<Vec<Link>> {
        let links = self.handle.link().get().execute();
        links
            .map_ok(Link::from)
            .try_collect()
            .await
            .map_err(kernel("list devices"))
    }

    /// The device of that name, if there is one.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub async fn link(&self, name: &str) -> Result<Option<Link>> {
        let mut answers = self.handle.link().get().match_name(name).execute();
        match answers.next().await {
            None => Ok(None),
            Some(Ok(message)) => Ok(Some(message.into())),
            Some(Err(error)) if is_errno(&error, ENODEV) => Ok(None),
            Some(Err(error)) => Err(kernel(format!("look up device {name}"))(error)),
        }
    }

    /// Changes a device. `what` completes "device NAME: ".
    pub(crate) async fn change(&self, name: &str, what: &str, message: LinkMessage) -> Result<()> {
        let action = format!("device {name}: {what}");
        self.handle
            .link()
            .change(message)
            .execute()
            .await
            .map_err(kernel(action))
    }

    /// Deletes the device of that name. `false` if there is none.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub async fn delete_link(&self, name: &str) -> Result<bool> {
        let Some(link) = self.link(name).await? else {
            return Ok(false);
        };
        match self.handle.link().del(link.index).execute().await {
            Ok(()) => Ok(true),
            Err(error) if is_errno(&error, ENODEV) => Ok(false),
            Err(error) => Err(kernel(format!("delete device {name}"))(error)),
        }
    }

    /// The addresses of global scope in the namespace, each with its device's index.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub async fn addresses(&self) -> Result<Vec<(u32, IpNet)>> {
        let messages = self.address_messages().await?;
        Ok(messages
            .iter()
            .filter_map(|message| Some((message.header.index, global_address(message)?)))
            .collect())
    }

    pub(crate) async fn address_messages(&self) -> Result<Vec<AddressMessage>> {
        self.handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(kernel("list addresses"))
    }

    /// Gives a device exactly these addresses of global scope: adds what it lacks, then takes away the rest.
    pub(crate) async fn set_addresses(&self, link: &Link, wanted: &[IpNet]) -> Result<()> {
        let messages = self.address_messages().await?;
        let present: Vec<_> = messages
            .into_iter()
            .filter(|message| message.header.index == link.index)
            .filter_map(|message| Some((global_address(&message)?, message)))
            .collect();
        for address in wanted {
            if !present.iter().any(|(net, _)| net == address) {
                self.add_address(link, *address)
                    .await
                    .map_err(kernel(format!("device {}: add address {address}", link.name)))?;
            }
        }
        for (address, message) in present {
            if !wanted.contains(&address) {
                let request = self.handle.address().del(message);
                request
                    .execute()
                    .await
                    .map_err(kernel(format!("device {}: delete address {address}", link.name)))?;
            }
        }
        Ok(())
    }

    /// Adds an address, which is there at once: nobody else can have it, so none is asked (RFC 4862, section 5.4).
    pub(super) async fn add_address(&self, link: &Link, address: IpNet) -> std::result::Result<(), rtnetlink::Error> {
        let mut request = self
            .handle
            .address()
            .add(link.index, address.addr(), address.prefix_len());
        if address.addr().is_ipv6() {
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        request.execute().await
    }

    /// An address that another device than `name` has already.
    pub(crate) async fn check_free(&self, name: &str, addresses: &[IpNet]) -> Result<()> {
        let links = self.links().await?;
        for (index, present) in self.addresses().await? {
            let owner = links
                .iter()
                .find(|link| link.index == index)
                .map_or("?", |link| &link.name);
            let clash = addresses.iter().find(|address| address.addr() == present.addr());
            if let (Some(address), false) = (clash, owner == name) {
                return Err(Error::Taken {
                    object: format!("address {} for {name}", address.addr()),
                    found: format!("device {owner} has {present}"),
                    remedy: format!(
                        "take it off (`ip address del {present} dev {owner}`), or give the node another podCIDR"
                    ),
                });
            }
        }
        Ok(())
    }
}

/// An address and its prefix, if its scope is global.
fn global_address(message: &AddressMessage) -> Option<IpNet> {
    if message.header.scope != AddressScope::Universe {
        return None;
    }
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            // IFA_LOCAL is the device's own address; IFA_ADDRESS is the peer's where the two differ.
            AddressAttribute::Local(local) => return IpNet::new(*local, message.header.prefix_len).ok(),
            AddressAttribute::Address(found) => address = Some(*found),
            _ => {}
        }
    }
    IpNet::new(address?, message.header.prefix_len).ok()
}
