//! Typical frames for each program, on the first node of a [`Site`].

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context as _, Result};
use netpath_agent::datapath::tables;
use netpath_common::{
    abi::{Mac, config::Config},
    hook::Hook,
};

use super::site::{Ground, NEAR_SERVICE, Site};
use crate::frame::{self, TcpFlags};

/// A frame on its way into a program.
pub struct Frame {
    /// The program.
    pub hook: Hook,
    /// What the frame is.
    pub what: &'static str,
    /// The device it is on.
    pub ifindex: u32,
    /// The frame that opened its connection, if the program must have seen that.
    pub first: Option<Vec<u8>>,
    /// The frame.
    pub bytes: Vec<u8>,
    /// The answer by which one knows that it went the way it was meant to.
    pub verdict: &'static str,
}

/// Somewhere outside the cluster (RFC 5737).
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The other node's uplink, or the gateway's.
const PEER_MAC: Mac = [0x02, 0, 0, 0, 0xff, 2];
const PAYLOAD: [u8; 64] = [0x5a; 64];

/// An address and a port.
type Ends = (Ipv4Addr, u16);

/// The frames of a node's everyday life; through the tunnel or not, as its ground has it.
///
/// # Errors
/// When the node's tables cannot be read.
pub fn typical(site: &Site) -> Result<Vec<Frame>> {
    let config = config(site)?;
    let (client, port) = site.endpoint(0)?;
    let (near, near_port) = site.endpoint(1)?;
    let (far, _) = site.endpoint(2)?;
    let gateway = Ipv4Addr::from(config.gateway4);
    let (node, peer) = (site.node_address(0), site.node_address(1));
    let uplink = (PEER_MAC, config.uplink_mac);
    let back = (config.uplink_mac, PEER_MAC);
    let out = (port.mac, config.bridge_mac);
    let down = (config.bridge_mac, port.mac);
    let pod = (client, 8080);
    let any = |address| (address, 40_000);
    let service = ends(NEAR_SERVICE);
    let known = |hook, what, ifindex, macs, source, destination, verdict| {
        let bytes = tcp(macs, source, destination, TcpFlags::ACK)?;
        anyhow::Ok(Frame {
            hook,
            what,
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
    let from_pod = |what, macs, to| known(Hook::FromPod, what, port.ifindex, macs, any(client), to, "redirect");
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
        let inner = from_wire("out of the tunnel", any(far), pod, "redirect")?;
        let tunnel = ((peer.octets(), 0xc123), (node.octets(), config.vxlan_port));
        let bytes = frame::Frame::new(uplink.0, uplink.1).vxlan(tunnel.0, tunnel.1, config.vni, &inner.bytes)?;
        return Ok(vec![
            from_pod("into the tunnel", out, (far, 8080))?,
            Frame { bytes, ..inner },
        ]);
    }
    let host = |what, macs, to, verdict| {
        known(
            Hook::FromHost,
            what,
            config.bridge_ifindex,
            macs,
            any(gateway),
            to,
            verdict,
        )
    };
    Ok(vec![
        foreign(site)?,
        from_pod("to a pod of the node", (port.mac, near_port.mac), (near, 8080))?,
        from_pod("to a pod of a direct node", out, (far, 8080))?,
        opened(from_pod("to a service", out, service), out, any(client), service)?,
        opened(
            from_pod("to the outside", out, (OUTSIDE, 443)),
            out,
            any(client),
            (OUTSIDE, 443),
        )?,
        from_wire("from a direct node to a pod", any(far), pod, "redirect")?,
        from_wire("to the node itself", any(peer), (node, 22), "pass")?,
        known(
            Hook::ToWire,
            "from the node itself",
            config.uplink_ifindex,
            back,
            (node, 22),
            any(peer),
            "pass",
        )?,
        host("to a pod", down, pod, "pass")?,
        opened(
            host("to a service", (config.bridge_mac, PEER_MAC), service, "redirect"),
            (config.bridge_mac, PEER_MAC),
            any(gateway),
            service,
        )?,
    ])
}

/// A frame that the program on a pod's veth looks at and leaves as it is.
///
/// # Errors
/// When the node's tables cannot be read.
pub fn foreign(site: &Site) -> Result<Frame> {
    let (_, port) = site.endpoint(0)?;
    let config = config(site)?;
    let mut bytes = [config.bridge_mac, port.mac].concat();
    // EtherType 0x88b5 is for local experiments (IEEE 802).
    bytes.extend([0x88, 0xb5]);
    bytes.extend(PAYLOAD);
    Ok(Frame {
        hook: Hook::FromPod,
        what: "not IP",
        ifindex: port.ifindex,
        first: None,
        bytes,
        verdict: "pass",
    })
}

fn config(site: &Site) -> Result<Config> {
    tables::config(&site.pins(0))?
        .get()
        .context("cannot read the node's configuration")
}

fn ends(address: SocketAddrV4) -> Ends {
    (*address.ip(), address.port())
}

/// A TCP segment.
fn tcp((from, to): (Mac, Mac), source: Ends, destination: Ends, flags: TcpFlags) -> Result<Vec<u8>> {
    let socket = |(address, port): Ends| (address.octets(), port);
    frame::Frame::new(from, to).tcp(socket(source), socket(destination), flags, &PAYLOAD)
}
