//! A node with two pods, a service and a wire to the outside, in both families; and what sends fragments there and hears whole
//! datagrams.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use anyhow::{Context, Result};
use netpath_agent::datapath::{
    attach, load,
    maps::{Counters, Table},
    tables,
};
use netpath_common::{
    abi::{
        Layouts,
        config::Config,
        endpoint::{Endpoint, KIND_HOST},
        held::Held,
        route::{Route, RouteKey, VIA_SERVICE, VIA_TUNNEL},
        service::BackendKey,
    },
    hook::Hook,
    reason::Reason,
};
use netpath_tests::{
    entries,
    frame::{Frame, Ip, Socket, ip_packet},
    lab::{
        namespace::Namespace,
        wire::{self, End},
    },
};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, socket};
use serde_json::json;

use crate::cni::{
    families::{NODE6, dual, node},
    link,
    node::{GATEWAY, NODE, Node, sizes},
};

pub const VNI: u32 = 78;
pub const VXLAN: u16 = 4789;
/// Where a client's datagrams come from, where the service has them, and where the server hears them.
pub const CLIENT_PORT: u16 = 7_000;
pub const SERVICE_PORT: u16 = 53;
pub const NODE_PORT: u16 = 30_053;
pub const TARGET: u16 = 5_353;
/// The tunnel's end outside.
pub const FAR_NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 10);

/// An address family of the ground.
pub trait Both: Ip + Layouts {
    /// Whoever stands there.
    fn at(place: Place) -> Self;
    fn ip(self) -> IpAddr;
    /// The node's name for a tunnel's end.
    fn tunnel_end() -> Self;
    /// How many fragments were put to the test of reassembly in a namespace.
    fn reassembled(namespace: &Namespace) -> Result<u64>;
}

#[derive(Clone, Copy)]
pub enum Place {
    /// The node.
    Node,
    /// The first pod.
    Client,
    /// The second.
    Server,
    /// A host on the node's wire.
    Outside,
    /// A pod behind the tunnel.
    Far,
    /// The service.
    Service,
}

impl Both for [u8; 4] {
    fn at(place: Place) -> Self {
        match place {
            Place::Node => NODE.octets(),
            Place::Client => [10, 244, 1, 2],
            Place::Server => [10, 244, 1, 3],
            Place::Outside => [192, 168, 50, 9],
            Place::Far => [10, 244, 9, 2],
            Place::Service => [10, 96, 0, 53],
        }
    }

    fn ip(self) -> IpAddr {
        self.into()
    }

    fn tunnel_end() -> Self {
        FAR_NODE.octets()
    }

    fn reassembled(namespace: &Namespace) -> Result<u64> {
        let text = namespace.run(|| Ok(fs::read_to_string("/proc/thread-self/net/snmp")?))?;
        let mut rows = text.lines().filter_map(|line| line.strip_prefix("Ip: "));
        let (names, values) = (rows.next().context("no row")?, rows.next().context("no row")?);
        let mut cells = names.split(' ').zip(values.split(' '));
        let found = cells.find(|(name, _)| *name == "ReasmReqds").context("no such count")?;
        Ok(found.1.parse()?)
    }
}

impl Both for [u8; 16] {
    fn at(place: Place) -> Self {
        let text = match place {
            Place::Node => NODE6,
            Place::Client => "fd00:244:1::2",
            Place::Server => "fd00:244:1::3",
            Place::Outside => "2001:db8:50::9",
            Place::Far => "fd00:244:9::2",
            Place::Service => "fd00:96::53",
        };
        text.parse().map_or([0; 16], |address: Ipv6Addr| address.octets())
    }

    fn ip(self) -> IpAddr {
        self.into()
    }

    fn tunnel_end() -> Self {
        FAR_NODE.to_ipv6_mapped().octets()
    }

    fn reassembled(namespace: &Namespace) -> Result<u64> {
        let text = namespace.run(|| Ok(fs::read_to_string("/proc/thread-self/net/snmp6")?))?;
        let row = text.lines().find_map(|line| line.strip_prefix("Ip6ReasmReqds"));
        Ok(row.context("no such count")?.trim().parse()?)
    }
}

/// A node with two pods, a service and a wire to the outside.
pub struct Ground {
    pub client: Namespace,
    pub server: Namespace,
    pub outside: Namespace,
    pub node: Node,
}

impl Ground {
    /// Builds it, with the XDP program on the wire too if that is wanted.
    pub fn new(xdp: bool) -> Result<Self> {
        let node = node()?;
        if xdp {
            load::load_with_xdp(&node.pins, &sizes(256))?;
        }
        let outside = node.pod("outside")?;
        for namespace in [&node.namespace, &outside] {
            namespace.set("ipv6/conf/default/accept_dad", "0")?;
        }
        let end = |namespace| End {
            namespace,
            device: "eth0",
        };
        wire::cable(end(&node.namespace), end(&outside))?;
        wire::address(end(&node.namespace), NODE, 24)?;
        wire::address(end(&outside), FAR_NODE, 24)?;
        wire::address(end(&outside), <[u8; 4]>::at(Place::Outside), 24)?;
        wire::address(end(&node.namespace), <[u8; 16]>::at(Place::Node), 64)?;
        wire::address(end(&outside), <[u8; 16]>::at(Place::Outside), 64)?;
        let uplink = link(&node.namespace, "eth0")?;
        let mut config = tables::config(&node.pins)?;
        // What XDP has translated the stack hands on to the pod.
        for parameter in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            node.namespace.set(parameter, "1")?;
        }
        let whole = Config {
            uplink_ifindex: uplink.index,
            uplink_mac: uplink.mac,
            vni: VNI,
            vxlan_port: VXLAN,
            route_prefixes4: [24, 16, 32, 0],
            route_prefixes6: [64, 112, 0, 0],
            ..config.get()?
        };
        config.set(&whole)?;
        let host = Endpoint {
            kind: KIND_HOST,
            ..Endpoint::default()
        };
        node.endpoints()?.insert(&GATEWAY.octets(), &host)?;
        let pods = ["client", "server"].map(|name| {
            let pod = node.pod(name)?;
            node.call("ADD", name, Some(&pod), dual(json!({})))?.ok()?;
            anyhow::Ok(pod)
        });
        let [client, server] = pods;
        let ground = Self {
            client: client?,
            server: server?,
            outside,
            node,
        };
        ground.fill::<[u8; 4]>(&[(Place::Service, 16), (Place::Far, 24)])?;
        ground.fill::<[u8; 16]>(&[(Place::Service, 112), (Place::Far, 64)])?;
        // The tunnel's end is a node of the cluster, whatever is within.
        ground.route(FAR_NODE.octets(), 32, VIA_TUNNEL)?;
        let hooks = [Hook::FromWire, Hook::ToWire]
            .into_iter()
            .chain(xdp.then_some(Hook::FromWireXdp));
        for hook in hooks {
            ground
                .node
                .namespace
                .run(|| Ok(attach::attach(&ground.node.pins, hook, "eth0")?))?;
        }
        Ok(ground)
    }

    /// The service and the ways of a family.
    fn fill<A: Both>(&self, subnets: &[(Place, u32)]) -> Result<()> {
        for &(place, prefix_len) in subnets {
            let mut subnet = A::at(place);
            let bytes = bytemuck::bytes_of_mut(&mut subnet);
            bytes[prefix_len as usize / 8..].fill(0);
            let via = if matches!(place, Place::Far) {
                VIA_TUNNEL
            } else {
                VIA_SERVICE
            };
            self.route(subnet, prefix_len, via)?;
        }
        let backend = entries::backend(A::at(Place::Server), TARGET);
        tables::backends::<A>(&self.node.pins)?.insert(&BackendKey { set: 1, slot: 0 }, &backend)?;
        let service = entries::service(1, 1);
        for (place, port) in [(Place::Service, SERVICE_PORT), (Place::Node, NODE_PORT)] {
            let frontend = entries::frontend(A::at(place), port, 17);
            tables::services::<A>(&self.node.pins)?.insert(&frontend, &service)?;
        }
        Ok(())
    }

    fn route<A: Both>(&self, address: A, prefix_len: u32, via: u8) -> Result<()> {
        let route = Route {
            node: A::tunnel_end(),
            next_hop: A::tunnel_end(),
            via,
            reserved: [0; 3],
        };
        tables::routes::<A>(&self.node.pins)?.insert(&RouteKey { address, prefix_len }.into(), &route.into())?;
        Ok(())
    }

    /// How often a hook gave a reason.
    pub fn counted(&self, hook: Hook, reason: Reason) -> Result<u64> {
        Ok(Counters::open(&self.node.pins)?.get(hook, reason)?.packets)
    }

    /// How many fragments are held.
    pub fn held<A: Both>(&self) -> Result<usize> {
        Ok(Table::<A::HeldKey, Held>::open(&self.node.pins, A::NAMES.held)?.count()?)
    }
}

/// A socket for datagrams of whoever stands there.
pub fn hears<A: Both>(namespace: &Namespace, place: Place, port: u16) -> Result<UdpSocket> {
    let socket = namespace.run(|| Ok(UdpSocket::bind((A::at(place).ip(), port))?))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    Ok(socket)
}

/// The datagram that comes next, and from where.
pub fn heard(socket: &UdpSocket) -> Result<(Vec<u8>, SocketAddr)> {
    let mut buffer = vec![0; 65_536];
    let (length, from) = socket.recv_from(&mut buffer).context("no whole datagram")?;
    buffer.truncate(length);
    Ok((buffer, from))
}

/// A socket that sends IP packets as they are.
pub fn raw<A: Both>(namespace: &Namespace) -> Result<OwnedFd> {
    let family = if size_of::<A>() == 4 {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    namespace.run(|| {
        Ok(socket(
            family,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::Raw,
        )?)
    })
}

pub fn send<A: Both>(socket: &OwnedFd, to: A, frames: impl IntoIterator<Item = Vec<u8>>) -> Result<()> {
    let to = SockaddrStorage::from(SocketAddr::new(to.ip(), 0));
    for frame in frames {
        sendto(socket.as_raw_fd(), ip_packet(&frame), &to, MsgFlags::empty())?;
    }
    Ok(())
}

/// Bytes of which no two parts are alike.
pub fn payload(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// The fragments of a datagram, in the order of their offsets.
pub fn fragments<A: Both>(
    id: u16,
    from: Socket<A>,
    to: Socket<A>,
    payload: &[u8],
    part: usize,
) -> Result<Vec<Vec<u8>>> {
    let frame = Frame::new([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    frame.udp_in_parts(id, (from, to), payload, part)
}
