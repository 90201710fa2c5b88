//! Told by the kernel when devices, addresses or routes change, so that the node's facts are looked at anew.

use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressScope;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::sys::SocketAddr;
use tokio::time::{Instant, timeout};

use super::route::PROTOCOL;
use super::{Error, Result};
use crate::cni::names::is_pod_device;

/// Changes of the namespace's devices, addresses and routes.
pub struct Changes {
    messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
}

impl Changes {
    /// Starts to listen, in the namespace of the calling thread.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn listen() -> Result<Self> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv6Route,
        ];
        let (connection, _, messages) = rtnetlink::new_multicast_connection(&groups).map_err(Error::Socket)?;
        tokio::spawn(connection);
        Ok(Self { messages })
    }

    /// Waits until nothing that matters has come for `quiet`, but not longer than ten times that.
    pub async fn settle(&mut self, quiet: Duration) {
        let patience = Instant::now() + 10 * quiet;
        while Instant::now() < patience && timeout(quiet, self.next()).await == Ok(true) {}
    }

    /// Waits for the next change that may matter: not those of pods' devices, nor
    /// of netpath's own routes. `false` once the socket is closed.
    pub async fn next(&mut self) -> bool {
        loop {
            match self.messages.next().await {
                None => return false,
                Some((message, _)) if matters(&message.payload) => return true,
                Some(_) => {}
            }
        }
    }
}

fn matters(payload: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
    let NetlinkPayload::InnerMessage(message) = payload else {
        // The loss of messages (ENOBUFS) comes as a payload that is not understood: look anew.
        return true;
    };
    match message {
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
            route.header.protocol != RouteProtocol::Other(PROTOCOL) && !is_of_one_segment(route)
        }
        // Every device has a link-local address, pods' ports too.
        RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
            address.header.scope != AddressScope::Link
        }
        // Ports come and go with the pods: nothing of the node's own hangs on them.
        RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => !link
            .attributes
            .iter()
            .any(|attribute| matches!(attribute, LinkAttribute::IfName(name) if is_pod_device(name))),
        _ => true,
    }
}

/// Whether a route is to link-local addresses or groups of IPv6, which each device has by itself.
fn is_of_one_segment(route: &RouteMessage) -> bool {
    route.attributes.iter().any(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet6(to)) => to.is_unicast_link_local() || to.is_multicast(),
        _ => false,
    })
}
