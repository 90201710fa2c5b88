//! Routes of the node's own stack: brought to the plan by the difference to what the kernel holds. A route is netpath's by
//! its protocol; no other is ever touched.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use nix::libc::{EEXIST, ESRCH, RT_TABLE_LOCAL};

use super::encapsulation;
use super::link::{Link, family};
use super::neighbour::service_next_hop;
use super::{Error, Netlink, Result, is_errno, kernel};
use crate::plan::{KernelRoute, Way};

/// The protocol that marks a route as netpath's: 'N'. `ip route show proto 78` lists them.
pub const PROTOCOL: u8 = 78;

/// The metric that a route of IPv6 gets where none is asked for (`IP6_RT_PRIO_USER`); in IPv4 that is none.
const USUAL_METRIC6: u32 = 1024;
/// The families that routes are of.
const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// A route that is not netpath's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignRoute {
    /// Where to.
    pub destination: IpNet,
    /// The next hop, if it has one alone.
    pub gateway: Option<IpAddr>,
    /// The device's index, if it has one alone.
    pub device: Option<u32>,
    /// Who made it, as `/etc/iproute2/rt_protos` numbers them.
    pub protocol: u8,
}

/// What [`Netlink::apply_routes`] did.
#[derive(Debug, Default)]
pub struct RoutesReport {
    /// Routes that were not there, or led elsewhere.
    pub set: usize,
    /// Routes that the plan no longer holds.
    pub deleted: usize,
    /// What could not be done; the rest was.
    pub errors: Vec<Error>,
}

impl Netlink {
    /// Brings netpath's routes to exactly `wanted`. A route that changes is never away: the new one stands before the old
    /// one goes. One failure leaves the others to be done.
    ///
    /// # Errors
    /// [`Error::Kernel`] if the routes that are there cannot be read. What single routes come to is in the report.
    pub async fn apply_routes<'a>(&self, wanted: impl IntoIterator<Item = &'a KernelRoute>) -> Result<RoutesReport> {
        let mut report = RoutesReport::default();
        let mut present: BTreeMap<IpNet, Vec<(Option<KernelRoute>, RouteMessage)>> = BTreeMap::new();
        for message in self.own_routes().await? {
            if let Some(destination) = destination(&message) {
                present
                    .entry(destination)
                    .or_default()
                    .push((understood(&message), message));
            }
        }
        for route in wanted {
            let mut there = present.remove(&route.destination).unwrap_or_default();
            let settled = there.iter().position(|(found, _)| found.as_ref() == Some(route));
            let done = match settled {
                Some(position) => {
                    there.swap_remove(position);
                    Ok(())
                }
                None => self.add_route(route, !there.is_empty()).await.map(|()| report.set += 1),
            };
            match done {
                Ok(()) => self.delete_routes(there, &mut report).await,
                Err(error) => report.errors.push(error),
            }
        }
        for there in present.into_values() {
            self.delete_routes(there, &mut report).await;
        }
        Ok(report)
    }

    /// Takes every route of netpath's away.
    ///
    /// # Errors
    /// As [`Self::apply_routes`].
    pub async fn remove_routes(&self) -> Result<RoutesReport> {
        self.apply_routes([]).await
    }

    /// netpath's routes, each as a person would name it.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub async fn own_route_names(&self) -> Result<Vec<String>> {
        let routes = self.own_routes().await?;
        Ok(routes.iter().map(name).collect())
    }

    /// The routes that are netpath's, as the kernel tells them.
    async fn own_routes(&self) -> Result<Vec<RouteMessage>> {
        let mut filter = RouteMessage::default();
        filter.header.protocol = RouteProtocol::Other(PROTOCOL);
        filter.header.table = RouteHeader::RT_TABLE_MAIN;
        let routes = self.routes_like(filter, "list routes of protocol 78").await?;
        // An old kernel may ignore the filter; what is not ours must not even be looked at.
        let ours = |route: &RouteMessage| route.header.protocol == RouteProtocol::Other(PROTOCOL) && in_main(route);
        Ok(routes.into_iter().filter(ours).collect())
    }

    /// The routes of the main table that are not netpath's.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub async fn foreign_routes(&self) -> Result<Vec<ForeignRoute>> {
        let others = |route: &&RouteMessage| route.header.protocol != RouteProtocol::Other(PROTOCOL);
        let routes = self.main_routes().await?;
        Ok(routes.iter().filter(others).filter_map(foreign).collect())
    }

    /// The main table of the namespace, whoever added its routes: destination and gateway.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub async fn routes(&self) -> Result<Vec<(IpNet, Option<IpAddr>)>> {
        let routes = self.main_routes().await?;
        Ok(routes
            .iter()
            .filter_map(|route| Some((destination(route)?, gateway(route))))
            .collect())
    }

    async fn main_routes(&self) -> Result<Vec<RouteMessage>> {
        let mut filter = RouteMessage::default();
        filter.header.table = RouteHeader::RT_TABLE_MAIN;
        let mut routes = self.routes_like(filter, "list routes").await?;
        routes.retain(in_main);
        Ok(routes)
    }

    /// Where the kernel's local table leads to the node itself: its addresses, and what others set there. Not the link-local
    /// addresses of IPv6 (RFC 4291, section 2.5.6), of which each device has its own: they say nothing of the node.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub async fn local_routes(&self) -> Result<Vec<IpNet>> {
        let mut filter = RouteMessage::default();
        filter.header.table = RT_TABLE_LOCAL;
        let routes = self.routes_like(filter, "list local routes").await?;
        let local = routes.iter().filter(|route| route.header.kind == RouteType::Local);
        let of_link = |range: &IpNet| matches!(range.addr(), IpAddr::V6(address) if address.is_unicast_link_local());
        Ok(local.filter_map(destination).filter(|range| !of_link(range)).collect())
    }

    /// The routes of both families that a filter lets through.
    async fn routes_like(&self, mut filter: RouteMessage, action: &str) -> Result<Vec<RouteMessage>> {
        let mut all = Vec::new();
        for family in FAMILIES {
            filter.header.address_family = family;
            let routes = self.handle.route().get(filter.clone()).execute();
            let routes: Vec<RouteMessage> = routes.try_collect().await.map_err(kernel(action))?;
            // A kernel without IPv6 answers with what it has.
            all.extend(routes.into_iter().filter(|route| route.header.address_family == family));
        }
        Ok(all)
    }

    async fn add_route(&self, route: &KernelRoute, beside: bool) -> Result<()> {
        let message = message(route);
        let mut request =
            rtnetlink::packet_core::NetlinkMessage::from(netlink_packet_route::RouteNetlinkMessage::NewRoute(message));
        use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST};
        // Never NLM_F_REPLACE: it takes whatever route has the same destination and metric, also somebody else's.
        let how = if beside { NLM_F_APPEND } else { NLM_F_EXCL };
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | how;
        match self.execute(request).await {
            Err(error) if is_errno(&error, EEXIST) => Err(Error::Taken {
                object: format!("route to {}", route.destination),
                found: "another route to the same destination, not made by netpath, is in the main table".into(),
                remedy: format!(
                    "look at it with `ip route show {0}` and delete it, or give it a metric",
                    route.destination
                ),
            }),
            answer => answer.map_err(kernel(format!("add the route to {}", route.destination))),
        }
    }

    /// Adds a device's way to everywhere. `onlink` if the gateway is in no prefix that the device has.
    pub(super) async fn add_default_route(
        &self,
        device: &Link,
        gateway: IpAddr,
        onlink: bool,
    ) -> std::result::Result<(), rtnetlink::Error> {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(gateway),
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Static,
            scope: RouteScope::Universe,
            kind: RouteType::Unicast,
            flags: if onlink {
                RouteFlags::Onlink
            } else {
                RouteFlags::empty()
            },
            ..RouteHeader::default()
        };
        message.attributes.push(RouteAttribute::Gateway(gateway.into()));
        message.attributes.push(RouteAttribute::Oif(device.index));
        self.handle.route().add(message).execute().await
    }

    async fn delete_routes(&self, routes: Vec<(Option<KernelRoute>, RouteMessage)>, report: &mut RoutesReport) {
        for (_, mut message) in routes {
            let name = destination(&message).map_or_else(|| "?".into(), |net| net.to_string());
            message.header.flags &= RouteFlags::Onlink;
            match self.handle.route().del(message).execute().await {
                Ok(()) => report.deleted += 1,
                Err(error) if is_errno(&error, ESRCH) => {}
                Err(error) => report.errors.push(kernel(format!("delete the route to {name}"))(error)),
            }
        }
    }

    /// Sends a request that is answered by an acknowledgement alone.
    async fn execute(
        &self,
        request: rtnetlink::packet_core::NetlinkMessage<netlink_packet_route::RouteNetlinkMessage>,
    ) -> std::result::Result<(), rtnetlink::Error> {
        use futures::StreamExt;
        let mut answers = self.handle.clone().request(request)?;
        while let Some(answer) = answers.next().await {
            if let rtnetlink::packet_core::NetlinkPayload::Error(error) = answer.payload
                && error.code.is_some()
            {
                return Err(rtnetlink::Error::NetlinkError(error));
            }
        }
        Ok(())
    }
}

/// The request that adds a route.
fn message(route: &KernelRoute) -> RouteMessage {
    let destination = route.destination;
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(destination.addr()),
        destination_prefix_length: destination.prefix_len(),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Other(PROTOCOL),
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message
        .attributes
        .push(RouteAttribute::Destination(destination.network().into()));
    message.attributes.push(RouteAttribute::PrefSource(route.source.into()));
    let (device, gateway) = match route.way {
        Way::Gateway { device, gateway } => (device, Some(gateway)),
        Way::Link { device } => (device, Some(service_next_hop(route.source))),
        Way::Tunnel {
            device,
            vni,
            local,
            remote,
        } => {
            message.header.scope = RouteScope::Link;
            let (kind, parts) = encapsulation::of(vni, local, remote);
            message.attributes.push(RouteAttribute::EncapType(kind));
            message.attributes.push(RouteAttribute::Encap(parts));
            (device, None)
        }
    };
    message.attributes.push(RouteAttribute::Oif(device));
    if let Some(gateway) = gateway {
        // The planner knows the next hop to be on the device's segment; the kernel need not find a route to it first.
        message.header.flags = RouteFlags::Onlink;
        message.attributes.push(RouteAttribute::Gateway(gateway.into()));
    }
    message
}

/// A route of the kernel's as the plan would write it; `None` if no plan writes such a one.
fn understood(message: &RouteMessage) -> Option<KernelRoute> {
    let destination = destination(message)?;
    let (mut device, mut source, mut tunnel) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => device = Some(*index),
            RouteAttribute::PrefSource(found) => source = address(found),
            RouteAttribute::Encap(parts) => tunnel = Some(encapsulation::ends(parts)?),
            RouteAttribute::Priority(USUAL_METRIC6) if destination.addr().is_ipv6() => {}
            RouteAttribute::Priority(_) | RouteAttribute::MultiPath(_) => return None,
            _ => {}
        }
    }
    let (device, source) = (device?, source?);
    let way = match (gateway(message), tunnel) {
        (Some(gateway), None) if gateway == service_next_hop(source) => Way::Link { device },
        (Some(gateway), None) => Way::Gateway { device, gateway },
        (None, Some((vni, local, remote))) => Way::Tunnel {
            device,
            vni,
            local,
            remote,
        },
        _ => return None,
    };
    Some(KernelRoute {
        destination,
        way,
        source,
    })
}

/// The route's destination and way.
fn name(message: &RouteMessage) -> String {
    let to = destination(message).map_or_else(|| "?".into(), |net| net.to_string());
    match understood(message).map(|route| route.way) {
        Some(Way::Gateway { gateway, .. }) => format!("{to} via {gateway}"),
        Some(Way::Tunnel { remote, .. }) => format!("{to} through the tunnel to {remote}"),
        Some(Way::Link { .. }) => format!("{to} on the bridge"),
        None => to,
    }
}

fn destination(message: &RouteMessage) -> Option<IpNet> {
    let found = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(found) => address(found),
        _ => None,
    });
    let everywhere = match message.header.address_family {
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    IpNet::new(found.unwrap_or(everywhere), message.header.destination_prefix_length).ok()
}

/// The next hop, if the route has one alone.
fn gateway(message: &RouteMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(found) => address(found),
        _ => None,
    })
}

fn address(found: &RouteAddress) -> Option<IpAddr> {
    match found {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn foreign(message: &RouteMessage) -> Option<ForeignRoute> {
    let device = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    Some(ForeignRoute {
        destination: destination(message)?,
        gateway: gateway(message),
        device,
        protocol: message.header.protocol.into(),
    })
}

fn in_main(message: &RouteMessage) -> bool {
    let table = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    table.unwrap_or(message.header.table.into()) == u32::from(RouteHeader::RT_TABLE_MAIN)
}
