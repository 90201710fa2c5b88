//! Told by the kernel when devices, addresses or routes change, so that the node's facts are looked at anew.

use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::route::RouteProtocol;
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
    pub fn listen() -> Result<Self> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv4Route,
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
    match payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route)) => {
            route.header.protocol != RouteProtocol::Other(PROTOCOL)
        }
        // Ports come and go with the pods: nothing of the node's own hangs on them.
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link)) => !link
            .attributes
            .iter()
            .any(|attribute| matches!(attribute, LinkAttribute::IfName(name) if is_pod_device(name))),
        // Also the loss of messages (ENOBUFS) comes as a payload that is not understood: look anew.
        _ => true,
    }
}
