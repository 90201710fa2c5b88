//! What netpath is compared with, each built whole in namespaces of its own: a bare veth pair, the kernel's bridge,
//! flannel's two backends, and all of these under the rules of kube-proxy.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result};

use super::{
    netlink::{End, Mac},
    netns::Namespace,
    rules::Rules,
    workload::PORT,
};

/// MTU of every wire.
pub const WIRE_MTU: u32 = 1500;
/// MTU of what goes through VXLAN.
pub const OVERLAY_MTU: u32 = WIRE_MTU - 50;
/// A pod's `eth0`.
pub const POD_DEVICE: u32 = 2;
/// A node's uplink.
pub const UPLINK: u32 = 5;
/// A node's VXLAN device.
const VXLAN: u32 = 6;
/// A node's bridge.
const BRIDGE: u32 = 10;
/// The port of a node's first pod.
const FIRST_PORT: u32 = 11;

/// A client pod, a server pod, and the nodes that carry them.
pub struct Pair {
    /// The client's namespace.
    pub client: Arc<Namespace>,
    /// The server's namespace.
    pub server: Arc<Namespace>,
    /// The server's address.
    pub address: IpAddr,
    /// The nodes' namespaces.
    pub nodes: Vec<Arc<Namespace>>,
    /// What holds programs to their devices.
    pub links: Vec<OwnedFd>,
}

/// How packets of one node reach another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Inside the kernel's VXLAN, as flannel sets it up.
    Vxlan,
    /// Routed to the other node as they are (flannel's host-gw).
    HostGateway,
}

/// One veth pair between two pods and nothing else: the limit. `pod` gives their addresses, by node and host.
///
/// # Errors
/// Those of the kernel.
pub fn bare<A: Into<IpAddr>>(pod: fn(u8, u8) -> A) -> Result<Pair> {
    let (client, server) = (Arc::new(Namespace::new()?), Arc::new(Namespace::new()?));
    let near = End {
        name: "eth0",
        index: POD_DEVICE,
        mac: mac(1, 2),
    };
    let far = End {
        name: "eth0",
        index: POD_DEVICE,
        mac: mac(1, 3),
    };
    client.net.veth(&near, &far, &server, WIRE_MTU)?;
    for (namespace, host) in [(&client, 2), (&server, 3)] {
        // Nobody else is on the wire who could have the address.
        namespace.sysctl("ipv6/conf/eth0/accept_dad", "0")?;
        namespace.net.address(POD_DEVICE, pod(1, host), 24)?;
    }
    Ok(Pair {
        client,
        server,
        address: pod(1, 3).into(),
        nodes: Vec::new(),
        links: Vec::new(),
    })
}

/// Two pods on a bridge; under kube-proxy's rules, if any.
///
/// # Errors
/// Those of the kernel and of [`Rules::install`].
pub fn bridge(rules: Rules) -> Result<Pair> {
    let node = Arc::new(node(1, WIRE_MTU)?);
    let client = attach(&node, 1, 2, WIRE_MTU)?;
    let server = attach(&node, 1, 3, WIRE_MTU)?;
    filter(&node, rules, pod(1, 3))?;
    Ok(Pair {
        client,
        server,
        address: pod(1, 3).into(),
        nodes: vec![node],
        links: Vec::new(),
    })
}

/// A pod on each of two nodes that one wire joins; both under kube-proxy's rules, if any.
///
/// # Errors
/// Those of the kernel and of [`Rules::install`].
pub fn across(way: Way, rules: Rules) -> Result<Pair> {
    let mtu = match way {
        Way::Vxlan => OVERLAY_MTU,
        Way::HostGateway => WIRE_MTU,
    };
    let nodes = [Arc::new(node(1, mtu)?), Arc::new(node(2, mtu)?)];
    join(&nodes)?;
    for (number, node) in (1..).zip(&nodes) {
        lead(node, number, 3 - number, way)?;
        filter(node, rules, pod(2, 2))?;
    }
    let client = attach(&nodes[0], 1, 2, mtu)?;
    let server = attach(&nodes[1], 2, 2, mtu)?;
    Ok(Pair {
        client,
        server,
        address: pod(2, 2).into(),
        nodes: nodes.into(),
        links: Vec::new(),
    })
}

/// The same, asked from outside for a port of the first node whose backend is on the second.
///
/// # Errors
/// As [`across`].
pub fn through_a_node(rules: Rules) -> Result<Pair> {
    let pair = across(Way::HostGateway, rules)?;
    Ok(Pair {
        client: outside(&pair.nodes[1])?,
        ..pair
    })
}

/// A host on the nodes' wire that is no node, beside this one: 172.18.0.3.
///
/// # Errors
/// Those of the kernel.
pub fn outside(neighbour: &Namespace) -> Result<Arc<Namespace>> {
    let namespace = Arc::new(Namespace::new()?);
    let end = End {
        name: "eth0",
        index: UPLINK,
        mac: mac(0xff, 3),
    };
    neighbour.net.macvlan(&end, UPLINK, &namespace)?;
    namespace.net.address(UPLINK, uplink(3), 24)?;
    Ok(namespace)
}

/// A wire between two nodes' uplinks, 172.18.0.1 and 172.18.0.2.
fn join(nodes: &[Arc<Namespace>; 2]) -> Result<()> {
    let [one, two] = [1, 2].map(|number| End {
        name: "eth0",
        index: UPLINK,
        mac: mac(0xff, number),
    });
    nodes[0].net.veth(&one, &two, &nodes[1], WIRE_MTU)?;
    for (number, node) in (1..).zip(nodes) {
        node.net.address(UPLINK, uplink(number), 24)?;
    }
    Ok(())
}

/// The routes of a node to another node's pods.
fn lead(node: &Namespace, number: u8, other: u8, way: Way) -> Result<()> {
    let subnet = pod(other, 0);
    match way {
        Way::HostGateway => node.net.route(subnet, 24, Some(uplink(other)), UPLINK),
        Way::Vxlan => {
            let end = End {
                name: "flannel.1",
                index: VXLAN,
                mac: mac(0xfe, number),
            };
            node.net.vxlan(&end, uplink(number), UPLINK, OVERLAY_MTU)?;
            node.net.address(VXLAN, pod(number, 0), 32)?;
            node.net.neighbour(VXLAN, subnet, mac(0xfe, other))?;
            node.net.remote_end(VXLAN, mac(0xfe, other), uplink(other))?;
            node.net.route(subnet, 24, Some(subnet), VXLAN)
        }
    }
}

/// A node with a bridge that has the gateway's address.
fn node(number: u8, mtu: u32) -> Result<Namespace> {
    let node = Namespace::new()?;
    node.sysctl("ipv4/ip_forward", "1")?;
    node.net.bridge(
        &End {
            name: "cni0",
            index: BRIDGE,
            mac: mac(number, 1),
        },
        mtu,
    )?;
    node.net.address(BRIDGE, pod(number, 1), 24)?;
    Ok(node)
}

/// A pod's namespace, and the veth pair that joins it to a port of a node.
///
/// # Errors
/// Those of the kernel.
pub fn plug(node: &Namespace, port: u32, (number, host): (u8, u8), mtu: u32) -> Result<Arc<Namespace>> {
    let namespace = Arc::new(Namespace::new()?);
    let near = End {
        name: &format!("veth{host}"),
        index: port,
        mac: mac(number, 0x80 + host),
    };
    let far = End {
        name: "eth0",
        index: POD_DEVICE,
        mac: mac(number, host),
    };
    node.net.veth(&near, &far, &namespace, mtu)?;
    Ok(namespace)
}

/// A pod on a node's bridge.
fn attach(node: &Namespace, number: u8, host: u8, mtu: u32) -> Result<Arc<Namespace>> {
    let port = FIRST_PORT + u32::from(host);
    let namespace = plug(node, port, (number, host), mtu)?;
    node.net.enslave(port, BRIDGE)?;
    namespace.net.address(POD_DEVICE, pod(number, host), 24)?;
    namespace
        .net
        .route(Ipv4Addr::UNSPECIFIED, 0, Some(pod(number, 1)), POD_DEVICE)?;
    Ok(namespace)
}

/// Bridged packets go through netfilter with rules, and past it without.
fn filter(node: &Namespace, rules: Rules, backend: Ipv4Addr) -> Result<()> {
    const SWITCH: &str = "bridge/bridge-nf-call-iptables";
    if rules == Rules::None {
        // Without br_netfilter there is no switch, and nothing to switch off.
        let there = node.run(|| Ok(Path::new("/proc/sys/net").join(SWITCH).exists()))?;
        return if there { node.sysctl(SWITCH, "0") } else { Ok(()) };
    }
    node.sysctl(SWITCH, "1")
        .context("the module br_netfilter is needed: modprobe br_netfilter")?;
    rules.install(node, (backend, PORT))
}

/// Host `host` of node `number`'s pod subnet.
pub fn pod(number: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, number, host)
}

/// The same of IPv6.
pub fn pod6(number: u8, host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x10, number.into(), 0, 0, 0, 0, host.into())
}

/// A node's address.
pub fn uplink(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 18, 0, number)
}

/// A locally administered address.
pub fn mac(number: u8, host: u8) -> Mac {
    [0x02, 0, 0, 0, number, host]
}
