//! The few things rivals need of rtnetlink, as calls that wait. Interface indices and MAC addresses are given by the
//! caller: in a namespace of one's own nothing has to be asked for.

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr},
};

use anyhow::{Context as _, Result};
use netlink_packet_route::{
    link::{InfoData, InfoVeth, LinkAttribute, MacVlanMode},
    neighbour::{NeighbourFlags, NeighbourState},
    route::RouteScope,
};
use rtnetlink::{
    Handle, LinkBridge, LinkMacVlan, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan, RouteMessageBuilder,
};
use tokio::runtime::Runtime;

use super::netns::Namespace;

/// A MAC address.
pub type Mac = [u8; 6];

/// One end of a veth pair.
pub struct End<'a> {
    /// The device's name.
    pub name: &'a str,
    /// Its interface index, unused so far in its namespace.
    pub index: u32,
    /// Its MAC address.
    pub mac: Mac,
}

/// A routing socket, bound to the namespace it was opened in.
pub struct Netlink {
    runtime: Runtime,
    handle: Handle,
}

impl Netlink {
    /// Opens a socket in the calling thread's namespace.
    ///
    /// # Errors
    /// When the kernel refuses a socket.
    pub fn connect() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().context("cannot open a routing socket")?;
            tokio::spawn(connection);
            anyhow::Ok(handle)
        })?;
        Ok(Self { runtime, handle })
    }

    /// A veth pair, both ends up: `near` here, `far` in the namespace `to`.
    ///
    /// # Errors
    /// Those of the kernel, with the device's name.
    pub fn veth(&self, near: &End<'_>, far: &End<'_>, to: &Namespace, mtu: u32) -> Result<()> {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(far.name)
            .index(far.index)
            .address(far.mac.to_vec())
            .mtu(mtu)
            .setns_by_fd(to.raw())
            .build();
        let link = LinkMessageBuilder::<LinkVeth>::new(near.name, far.name)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .index(near.index)
            .address(near.mac.to_vec())
            .mtu(mtu)
            .up()
            .build();
        self.wait(near.name, "make the veth pair", self.handle.link().add(link).execute())?;
        // The kernel does not let the far end be born up: it has no peer yet.
        to.net.up(far.index)
    }

    /// A bridge, up.
    ///
    /// # Errors
    /// Those of the kernel, with the device's name.
    pub fn bridge(&self, end: &End<'_>, mtu: u32) -> Result<()> {
        let link = LinkBridge::new(end.name)
            .index(end.index)
            .address(end.mac.to_vec())
            .mtu(mtu)
            .up()
            .build();
        self.wait(end.name, "make the bridge", self.handle.link().add(link).execute())
    }

    /// A VXLAN device as flannel makes one: fixed remote ends, no learning, VNI 1, port 8472.
    ///
    /// # Errors
    /// Those of the kernel, with the device's name.
    pub fn vxlan(&self, end: &End<'_>, local: Ipv4Addr, uplink: u32, mtu: u32) -> Result<()> {
        let link = LinkVxlan::new(end.name, 1)
            .dev(uplink)
            .local(local)
            .port(8472)
            .learning(false)
            .index(end.index)
            .address(end.mac.to_vec())
            .mtu(mtu)
            .up()
            .build();
        self.wait(
            end.name,
            "make the vxlan device",
            self.handle.link().add(link).execute(),
        )
    }

    /// A device of the namespace `to` on the wire of one of this namespace: a host beside the one that has the wire.
    ///
    /// # Errors
    /// Those of the kernel, with the device's name.
    pub fn macvlan(&self, end: &End<'_>, wire: u32, to: &Namespace) -> Result<()> {
        let link = LinkMacVlan::new(end.name, wire, MacVlanMode::Private)
            .index(end.index)
            .address(end.mac.to_vec())
            .setns_by_fd(to.raw())
            .build();
        self.wait(
            end.name,
            "make the macvlan device",
            self.handle.link().add(link).execute(),
        )?;
        to.net.up(end.index)
    }

    /// Makes a device a port of a bridge.
    ///
    /// # Errors
    /// Those of the kernel, with the device's index.
    pub fn enslave(&self, index: u32, bridge: u32) -> Result<()> {
        let link = LinkUnspec::new_with_index(index).controller(bridge).build();
        self.wait(index, "add the port", self.handle.link().set(link).execute())
    }

    /// Sets a device up.
    ///
    /// # Errors
    /// Those of the kernel, with the device's index.
    pub fn up(&self, index: u32) -> Result<()> {
        let link = LinkUnspec::new_with_index(index).up().build();
        self.wait(index, "set up the device", self.handle.link().set(link).execute())
    }

    /// Deletes a device.
    ///
    /// # Errors
    /// Those of the kernel, with the device's index.
    pub fn delete(&self, index: u32) -> Result<()> {
        self.wait(index, "delete the device", self.handle.link().del(index).execute())
    }

    /// Gives a device an address.
    ///
    /// # Errors
    /// Those of the kernel, with the address.
    pub fn address(&self, index: u32, address: impl Into<IpAddr>, prefix: u8) -> Result<()> {
        let address = address.into();
        let request = self.handle.address().add(index, address, prefix);
        self.wait(address, "add the address", request.execute())
    }

    /// A route out of a device, through a gateway (taken to be on the link) or straight.
    ///
    /// # Errors
    /// Those of the kernel, with the destination.
    pub fn route(&self, to: Ipv4Addr, prefix: u8, gateway: Option<Ipv4Addr>, index: u32) -> Result<()> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(to, prefix)
            .output_interface(index);
        let route = match gateway {
            Some(gateway) => route.gateway(gateway).onlink(),
            None => route.scope(RouteScope::Link),
        };
        self.wait(to, "add the route", self.handle.route().add(route.build()).execute())
    }

    /// A permanent neighbour.
    ///
    /// # Errors
    /// Those of the kernel, with the address.
    pub fn neighbour(&self, index: u32, address: Ipv4Addr, mac: Mac) -> Result<()> {
        let request = self
            .handle
            .neighbours()
            .add(index, IpAddr::V4(address))
            .link_layer_address(&mac)
            .state(NeighbourState::Permanent)
            .replace();
        self.wait(address, "add the neighbour", request.execute())
    }

    /// Tells a VXLAN device which remote end has a MAC address.
    ///
    /// # Errors
    /// Those of the kernel, with the remote end's address.
    pub fn remote_end(&self, index: u32, mac: Mac, remote: Ipv4Addr) -> Result<()> {
        let request = self
            .handle
            .neighbours()
            .add_bridge(index, &mac)
            .destination(IpAddr::V4(remote))
            .state(NeighbourState::Permanent)
            .flags(NeighbourFlags::Own);
        self.wait(remote, "add the remote end", request.execute())
    }

    /// A device's interface index, by name.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn index(&self, name: &str) -> Result<u32> {
        Ok(self.link(name)?.header.index)
    }

    /// A device's MAC address, by name.
    ///
    /// # Errors
    /// When there is no such device, or it has no address.
    pub fn mac(&self, name: &str) -> Result<Mac> {
        let link = self.link(name)?;
        link.attributes
            .iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::Address(address) => Mac::try_from(address.as_slice()).ok(),
                _ => None,
            })
            .with_context(|| format!("{name} has no MAC address"))
    }

    fn link(&self, name: &str) -> Result<netlink_packet_route::link::LinkMessage> {
        use futures::TryStreamExt as _;
        let mut links = self.handle.link().get().match_name(name.to_owned()).execute();
        self.runtime
            .block_on(links.try_next())
            .with_context(|| format!("cannot read device {name}"))?
            .with_context(|| format!("there is no device {name}"))
    }

    fn wait(
        &self,
        object: impl std::fmt::Display,
        what: &str,
        request: impl Future<Output = Result<(), rtnetlink::Error>>,
    ) -> Result<()> {
        self.runtime
            .block_on(request)
            .with_context(|| format!("{object}: cannot {what}"))
    }
}
