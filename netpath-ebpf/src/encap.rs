//! VXLAN (RFC 7348): the outer headers that carry a packet to a node behind a router, written and taken off by the
//! programs themselves.
//!
//! The outer header takes neither TOS nor ECN from the inner: RFC 6040's compatibility mode (section 4.1), so that a
//! congested router drops rather than marks what nobody would see.

use netpath_common::{
    abi::{Mac, config::Config},
    reason::Reason,
};

use crate::{
    ethernet,
    family::Family,
    ipv4,
    packet::{ETHERNET, Packet, VXLAN4},
    v4::V4,
    v6::{self, V6},
};

/// Where the outer UDP header begins, if the outer IPv4 header has no options.
const UDP: usize = ETHERNET + ipv4::HEADER;
const VXLAN: usize = UDP + 8;
/// Where the inner Ethernet header begins.
pub const INNER: usize = VXLAN + 8;

/// The I flag: the network identifier is valid.
const VALID_VNI: u8 = 0x08;
/// Tunnels send from here on, so that the flows of two nodes spread over a fabric's links (RFC 7348, section 5).
const FIRST_SOURCE_PORT: u16 = 0xc000;
const UDP_PROTOCOL: u8 = 17;

/// The inner frame's destination. No bridge lies behind a tunnel's end, so that it decides nothing; it only must not be
/// the receiver's own address as the source is not to be either.
pub const PEER_MAC: Mac = [0x02, b'n', b'p', 0, 0, 0];

/// A VXLAN packet's own headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// The network, if the header says that it is valid.
    pub vni: Option<u32>,
    /// What the inner frame carries.
    pub ethertype: u16,
    /// The protocol that the inner packet carries, if that is IP.
    pub protocol: u8,
    /// Whether the inner packet is a fragment, if that is IP. One of IPv6 is not told behind other headers.
    pub fragment: bool,
}

/// Reads the headers of a frame known to be UDP to VXLAN's port, over IPv4 without options.
///
/// # Errors
/// [`Reason::Malformed`] if there is no whole inner header.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P) -> Result<Vxlan, Reason> {
    let [flags, _, _, _, v0, v1, v2, _] = *packet.view::<8>(VXLAN).ok_or(Reason::Malformed)?;
    let inner = packet
        .view::<{ ETHERNET + ipv4::HEADER }>(INNER)
        .ok_or(Reason::Malformed)?;
    let ethertype = u16::from_be_bytes([inner[12], inner[13]]);
    let [f0, f1] = [inner[ETHERNET + 6], inner[ETHERNET + 7]];
    let (protocol, fragment) = if ethertype == V6::ETHERTYPE {
        (inner[ETHERNET + V6::PROTOCOL], f0 == v6::FRAGMENT)
    } else {
        // More fragments, or an offset.
        (
            inner[ETHERNET + V4::PROTOCOL],
            u16::from_be_bytes([f0, f1]) & 0x3fff != 0,
        )
    };
    Ok(Vxlan {
        vni: if flags & VALID_VNI != 0 {
            Some(u32::from_be_bytes([0, v0, v1, v2]))
        } else {
            None
        },
        ethertype,
        protocol,
        fragment,
    })
}

/// Wraps the frame, which carries `ethertype`, for the tunnel to `node`. `hash` spreads its flows.
///
/// # Errors
/// [`Reason::RewriteFailed`].
#[inline(never)]
pub fn wrap<P: Packet>(
    packet: &mut P,
    config: &Config,
    node: [u8; 4],
    hash: u32,
    ethertype: u16,
) -> Result<(), Reason> {
    // A packet larger than 64 KiB that is yet to be segmented (BIG TCP) says 0 in both lengths.
    let ip_len = packet.len() + VXLAN4 - ETHERNET;
    let ip_len = if ip_len > 0xffff { 0 } else { ip_len as u16 };
    let udp_len = ip_len.saturating_sub(ipv4::HEADER as u16);
    let source_port = FIRST_SOURCE_PORT | (hash as u16 & !FIRST_SOURCE_PORT);
    let mut headers = [0; ETHERNET + VXLAN4];
    // The neighbour that the kernel finds gives the outer Ethernet addresses.
    headers[12..14].copy_from_slice(&ethernet::IPV4.to_be_bytes());
    headers[ETHERNET..UDP].copy_from_slice(&ipv4::header(config.node4, node, UDP_PROTOCOL, ip_len));
    headers[UDP..UDP + 2].copy_from_slice(&source_port.to_be_bytes());
    headers[UDP + 2..UDP + 4].copy_from_slice(&config.vxlan_port.to_be_bytes());
    headers[UDP + 4..UDP + 6].copy_from_slice(&udp_len.to_be_bytes());
    headers[VXLAN] = VALID_VNI;
    headers[VXLAN + 4..VXLAN + 8].copy_from_slice(&(config.vni << 8).to_be_bytes());
    headers[INNER..INNER + 6].copy_from_slice(&PEER_MAC);
    headers[INNER + 6..INNER + 12].copy_from_slice(&config.overlay_mac);
    headers[INNER + 12..].copy_from_slice(&ethertype.to_be_bytes());
    packet.encapsulate(&headers)
}
