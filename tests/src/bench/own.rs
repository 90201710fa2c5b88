//! netpath's own arms: which paths of its sites are timed.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};

use super::{
    arms::{self, Selection},
    measure::{Arm, Group},
    site::{
        Seat, Site,
        ground::Ground,
        services::{SERVICE_PORT, Served},
    },
    workload::{Ends, PORT},
};

/// One path: from whom to whom, and by which address.
struct Own {
    name: &'static str,
    group: Group,
    ground: Ground,
    client: Seat,
    server: Seat,
    by: Address,
}

/// The address that a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Address {
    /// The pod's own.
    Pod,
    /// The pod's own, of IPv6.
    Pod6,
    /// A service's.
    Service,
    /// A service's, of IPv6.
    Service6,
    /// The first node's, at a service's port there.
    Node,
}

const fn own(name: &'static str, group: Group, ground: Ground, (client, server): (Seat, Seat), by: Address) -> Own {
    Own {
        name,
        group,
        ground,
        client,
        server,
        by,
    }
}

const NEAR: (Seat, Seat) = (Seat::Client, Seat::Near);
const FAR: (Seat, Seat) = (Seat::Client, Seat::Far);

const OWN: [Own; 13] = {
    use Address::{Node, Pod, Pod6, Service, Service6};
    use Ground::{Crowded, Routed, Segment};
    [
        own(arms::NETPATH, Group::SameNode, Segment, NEAR, Pod),
        own(arms::NETPATH_6, Group::SameNode, Segment, NEAR, Pod6),
        own(arms::NETPATH_DIRECT, Group::AcrossNodes, Segment, FAR, Pod),
        own(arms::NETPATH_DIRECT_6, Group::AcrossNodes, Segment, FAR, Pod6),
        own(arms::NETPATH_TUNNEL, Group::AcrossNodes, Routed, FAR, Pod),
        own(arms::NETPATH_TUNNEL_6, Group::AcrossNodes, Routed, FAR, Pod6),
        own(arms::NETPATH_SERVICE, Group::Service, Segment, NEAR, Service),
        own(arms::NETPATH_SERVICE_DIRECT, Group::Service, Segment, FAR, Service),
        own(arms::NETPATH_SERVICE_6, Group::Service, Segment, FAR, Service6),
        own(arms::NETPATH_SERVICE_MANY, Group::Service, Crowded, FAR, Service),
        own(arms::NETPATH_HOST, Group::Host, Segment, (Seat::Node, Seat::Far), Pod),
        own(
            arms::NETPATH_HOST_SERVICE,
            Group::Host,
            Segment,
            (Seat::Node, Seat::Far),
            Service,
        ),
        own(
            arms::NETPATH_NODE_PORT,
            Group::NodePort,
            Segment,
            (Seat::Outside, Seat::Far),
            Node,
        ),
    ]
};

/// Whether an arm on this ground is asked for.
pub fn wants(selection: &Selection<'_>, ground: Ground) -> bool {
    chosen(selection, ground).next().is_some()
}

/// The arms of a site. Each has a port of its own in its server's pod, and a service of its own if it asks one.
///
/// # Errors
/// When a path does not carry a connection; the error names the arm.
pub fn arms(selection: &Selection<'_>, site: &Site) -> Result<Vec<Arm>> {
    let served = |number: u8, own: &Own| Served {
        number,
        backend: own.server,
        port: PORT + 1 + u16::from(number),
    };
    let chosen: Vec<_> = (0..).zip(chosen(selection, site.ground())).collect();
    let services: Vec<_> = chosen
        .iter()
        .filter(|(_, own)| !matches!(own.by, Address::Pod | Address::Pod6))
        .map(|(number, own)| served(*number, own))
        .collect();
    site.serve(&services)?;
    chosen
        .iter()
        .map(|(number, own)| {
            own.open(site, served(*number, own))
                .with_context(|| own.name.to_owned())
        })
        .collect()
}

fn chosen<'a>(selection: &'a Selection<'_>, ground: Ground) -> impl Iterator<Item = &'static Own> + 'a {
    OWN.iter()
        .filter(move |own| own.ground == ground && selection.wants(own.name))
}

impl Own {
    fn open(&self, site: &Site, served: Served) -> Result<Arm> {
        let (ipv4, ipv6) = site.addresses(self.server)?;
        let target: SocketAddr = match self.by {
            Address::Pod => (ipv4, served.port).into(),
            Address::Pod6 => (ipv6, served.port).into(),
            Address::Service => (served.address(), SERVICE_PORT).into(),
            Address::Service6 => (served.address6(), SERVICE_PORT).into(),
            Address::Node => (site.node_address(0), served.node_port()).into(),
        };
        let (client, server) = (site.namespace(self.client)?, site.namespace(self.server)?);
        Ok(Arm {
            name: self.name,
            group: self.group,
            ends: Ends::open(&client, &server, served.port, target)?,
            nodes: Vec::new(),
            links: Vec::new(),
        })
    }
}
