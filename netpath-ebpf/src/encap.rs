//! VXLAN (RFC 7348): the outer headers that carry a packet to a node behind a router, written and taken off by the
//! programs themselves. They are of IPv4 or of IPv6, whatever both nodes have.
//!
//! The outer header takes neither TOS nor ECN from the inner: RFC 6040's compatibility mode (section 4.1), so that a
//! congested router drops rather than marks what nobody would see. UDP has no checksum, over IPv6 neither (RFC 6935): the
//! inner packet has its own, and a tunnel's end that was damaged on the way is no node's, or no tunnel of this network's.

use netpath_common::{
    abi::{Mac, config::Config},
    reason::Reason,
};

use crate::{
    family::Family,
    flow::UDP,
    packet::{ETHERNET, Packet, VXLAN},
    v4::V4,
    v6::{self, V6},
};

/// The length of a UDP header.
const UDP_HEADER: usize = 8;
/// The I flag: the network identifier is valid.
const VALID_VNI: u8 = 0x08;
/// Tunnels send from here on, so that the flows of two nodes spread over a fabric's links (RFC 7348, section 5).
const FIRST_SOURCE_PORT: u16 = 0xc000;

/// The inner frame's destination. No bridge lies behind a tunnel's end, so that it decides nothing; it only must not be
/// the receiver's own address as the source is not to be either.
pub const PEER_MAC: Mac = [0x02, b'n', b'p', 0, 0, 0];

/// What a tunnel over this family adds to a packet, in bytes.
#[inline(always)]
pub const fn room<O: Family>() -> usize {
    O::HEADER + VXLAN
}

/// Where the inner IP header begins, if the outer one has no options.
#[inline(always)]
pub const fn inner<O: Family>() -> usize {
    ETHERNET + room::<O>()
}

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

/// Reads the headers of a frame known to be UDP to VXLAN's port, over a header of the family without options.
///
/// # Errors
/// [`Reason::Malformed`] if there is no whole inner header of IPv4, or as much of one of IPv6.
#[inline(always)]
pub fn parse<O: Family, P: Packet>(packet: &P) -> Result<Vxlan, Reason> {
    let vxlan = ETHERNET + O::HEADER + UDP_HEADER;
    let [flags, _, _, _, v0, v1, v2, _] = *packet.view::<8>(vxlan).ok_or(Reason::Malformed)?;
    let inner = packet
        .view::<{ 2 + V4::HEADER }>(inner::<O>() - 2)
        .ok_or(Reason::Malformed)?;
    let ethertype = u16::from_be_bytes([inner[0], inner[1]]);
    let [f0, f1] = [inner[2 + 6], inner[2 + 7]];
    let (protocol, fragment) = if ethertype == V6::ETHERTYPE {
        (inner[2 + V6::PROTOCOL], f0 == v6::FRAGMENT)
    } else {
        // More fragments, or an offset.
        (inner[2 + V4::PROTOCOL], u16::from_be_bytes([f0, f1]) & 0x3fff != 0)
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
pub fn wrap<O: Family, P: Packet>(
    packet: &mut P,
    config: &Config,
    node: &O::Addr,
    hash: u32,
    ethertype: u16,
) -> Result<(), Reason> {
    // A packet larger than 64 KiB that is yet to be segmented (BIG TCP) says 0 in both lengths.
    let udp_len = packet.len() - ETHERNET + VXLAN;
    let udp_len = if O::HEADER + udp_len > 0xffff {
        0
    } else {
        udp_len as u16
    };
    packet.encapsulate(room::<O>(), O::ETHERTYPE, ethertype)?;
    // The neighbour that the kernel finds gives the outer Ethernet addresses.
    let mut ethernet = [0; ETHERNET];
    ethernet[12..].copy_from_slice(&O::ETHERTYPE.to_be_bytes());
    packet.store(0, &ethernet)?;
    O::store(packet, &O::node(config), node, UDP, udp_len)?;
    O::label(packet, hash)?;
    let source_port = FIRST_SOURCE_PORT | (hash as u16 & !FIRST_SOURCE_PORT);
    let ([s0, s1], [d0, d1]) = (source_port.to_be_bytes(), config.vxlan_port.to_be_bytes());
    let ([l0, l1], [v0, v1, v2, _]) = (udp_len.to_be_bytes(), (config.vni << 8).to_be_bytes());
    let ([p0, p1, p2, p3, p4, p5], [o0, o1, o2, o3, o4, o5]) = (PEER_MAC, config.overlay_mac);
    let [e0, e1] = ethertype.to_be_bytes();
    let headers: [u8; VXLAN] = [
        s0, s1, d0, d1, l0, l1, 0, 0, // UDP
        VALID_VNI, 0, 0, 0, v0, v1, v2, 0, // VXLAN
        p0, p1, p2, p3, p4, p5, o0, o1, o2, o3, o4, o5, e0, e1, // Ethernet
    ];
    packet.store(ETHERNET + O::HEADER, &headers)
}
