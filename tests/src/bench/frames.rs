//! Typical frames for each program, on the first node of a [`Site`].

use std::net::Ipv6Addr;

use anyhow::{Context as _, Result};
use netpath_agent::datapath::tables;
use netpath_common::{
    abi::{Mac, config::Config},
    hook::Hook,
};

use super::site::{
    Seat, Site,
    ground::Ground,
    services::{NEAR_SERVICE, SERVICE_PORT},
};
use crate::frame::{self, Ip, Socket, TcpFlags};

/// A frame on its way into a program.
pub struct Frame {
    /// The program.
    pub hook: Hook,
    /// What the frame is.
    pub what: String,
    /// The device it is on.
    pub ifindex: u32,
    /// The frame that opened its connection, if the program must have seen that.
    pub first: Option<Vec<u8>>,
    /// The frame.
    pub bytes: Vec<u8>,
    /// The answer by which one knows that it went the way it was meant to.
    pub verdict: &'static str,
}

/// The other node's uplink, or the gateway's.
const PEER_MAC: Mac = [0x02, 0, 0, 0, 0xff, 2];
const PAYLOAD: [u8; 64] = [0x5a; 64];

/// The hosts that frames go between, by their addresses in one family.
struct Hosts<A> {
    client: A,
    near: A,
    far: A,
    gateway: A,
    node: A,
    peer: A,
    /// Somewhere outside the cluster (RFC 5737, RFC 3849).
    outside: A,
    service: A,
}

/// The frames of a node's everyday life, in both families; through the tunnel or not, as its ground has it.
///
/// # Errors
/// When the node's tables cannot be read.
pub fn typical(site: &Site) -> Result<Vec<Frame>> {
    let config = config(site)?;
    let [client, near, far] = [Seat::Client, Seat::Near, Seat::Far].map(|seat| site.addresses(seat));
    let (client, near, far) = (client?, near?, far?);
    let four = Hosts {
        client: client.0.octets(),
        near: near.0.octets(),
        far: far.0.octets(),
        gateway: config.gateway4,
        node: config.node4,
        peer: site.node_address(1).octets(),
        outside: [198, 51, 100, 1],
        service: NEAR_SERVICE.address().octets(),
    };
    let six = Hosts {
        client: client.1.octets(),
        near: near.1.octets(),
        far: far.1.octets(),
        gateway: config.gateway6,
        node: config.node6,
        peer: site.node_address6(1).unwrap_or(Ipv6Addr::UNSPECIFIED).octets(),
        outside: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).octets(),
        service: NEAR_SERVICE.address6().octets(),
    };
    let mut frames = vec![foreign(site)?];
    frames.extend(of_family(site, &config, &four)?);
    let mut of_ipv6 = of_family(site, &config, &six)?;
    of_ipv6.iter_mut().for_each(|frame| frame.what += ", IPv6");
    frames.extend(of_ipv6);
    Ok(frames)
}

fn of_family<A: Ip>(site: &Site, config: &Config, hosts: &Hosts<A>) -> Result<Vec<Frame>> {
    let (port, near_port) = (site.endpoint(0)?, site.endpoint(1)?);
    let uplink = (PEER_MAC, config.uplink_mac);
    let back = (config.uplink_mac, PEER_MAC);
    let out = (port.mac, config.bridge_mac);
    let down = (config.bridge_mac, port.mac);
    let pod = (hosts.client, 8080);
    let any = |address| (address, 40_000);
    let (service, outside) = ((hosts.service, SERVICE_PORT), (hosts.outside, 443));
    let known = |hook, what: &str, ifindex, macs, source, destination, verdict| {
        let bytes = tcp(macs, source, destination, TcpFlags::ACK)?;
        anyhow::Ok(Frame {
            hook,
            what: what.to_owned(),
            ifindex,
            first: None,
            bytes,
            verdict,
        })
    };
    let opened = |frame: Result<Frame>, macs, source, destination| {
        anyhow::Ok(Frame {
            first: Some(tcp(macs, source, destination, TcpFlags::SYN)?),
            ..frame?
        })
    };
    let from_pod = |what, macs, to| {
        known(
            Hook::FromPod,
            what,
            port.ifindex,
            macs,
            any(hosts.client),
            to,
            "redirect",
        )
    };
    let from_wire = |what, source, destination, verdict| {
        known(
            Hook::FromWire,
            what,
            config.uplink_ifindex,
            uplink,
            source,
            destination,
            verdict,
        )
    };
    if site.ground() == Ground::Routed {
        let inner = from_wire("out of the tunnel", any(hosts.far), pod, "redirect")?;
        let (peer, node) = (site.node_address(1).octets(), config.node4);
        let bytes = frame::Frame::new(uplink.0, uplink.1).vxlan(
            (peer, 0xc123),
            (node, config.vxlan_port),
            config.vni,
            &inner.bytes,
        )?;
        return Ok(vec![
            from_pod("into the tunnel", out, (hosts.far, 8080))?,
            Frame { bytes, ..inner },
        ]);
    }
    let host = |what, macs, to, verdict| {
        known(
            Hook::FromHost,
            what,
            config.bridge_ifindex,
            macs,
            any(hosts.gateway),
            to,
            verdict,
        )
    };
    Ok(vec![
        from_pod("to a pod of the node", (port.mac, near_port.mac), (hosts.near, 8080))?,
        from_pod("to a pod of a direct node", out, (hosts.far, 8080))?,
        opened(from_pod("to a service", out, service), out, any(hosts.client), service)?,
        opened(
            from_pod("to the outside", out, outside),
            out,
            any(hosts.client),
            outside,
        )?,
        from_wire("from a direct node to a pod", any(hosts.far), pod, "redirect")?,
        from_wire("to the node itself", any(hosts.peer), (hosts.node, 22), "pass")?,
        known(
            Hook::ToWire,
            "from the node itself",
            config.uplink_ifindex,
            back,
            (hosts.node, 22),
            any(hosts.peer),
            "pass",
        )?,
        host("to a pod", down, pod, "pass")?,
        opened(
            host("to a service", (config.bridge_mac, PEER_MAC), service, "redirect"),
            (config.bridge_mac, PEER_MAC),
            any(hosts.gateway),
            service,
        )?,
    ])
}

/// A frame that the program on a pod's veth has no use for: it is neither ARP nor IP.
///
/// # Errors
/// When the node's tables cannot be read.
pub fn foreign(site: &Site) -> Result<Frame> {
    let port = site.endpoint(0)?;
    let config = config(site)?;
    let mut bytes = [config.bridge_mac, port.mac].concat();
    // EtherType 0x88b5 is for local experiments (IEEE 802).
    bytes.extend([0x88, 0xb5]);
    bytes.extend(PAYLOAD);
    Ok(Frame {
        hook: Hook::FromPod,
        what: "not IP".to_owned(),
        ifindex: port.ifindex,
        first: None,
        bytes,
        verdict: "drop",
    })
}

fn config(site: &Site) -> Result<Config> {
    tables::config(&site.pins(0))?
        .get()
        .context("cannot read the node's configuration")
}

/// A TCP segment.
fn tcp<A: Ip>((from, to): (Mac, Mac), source: Socket<A>, destination: Socket<A>, flags: TcpFlags) -> Result<Vec<u8>> {
    frame::Frame::new(from, to).tcp(source, destination, flags, &PAYLOAD)
}
