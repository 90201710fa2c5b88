//! The IPv6 family (RFC 8200). It has no checksum of the header, and every router's neighbours are told when a packet is too
//! large, since none fragments it. Headers may stand between its own and the transport's: as many as [`EXTENSIONS`] are stepped over.
//!
//! Nodes that both have IPv4 reach each other's tunnels over it. A route to such a node behind a router has the tunnel's end and
//! the next hop as IPv4-mapped addresses (RFC 4291, section 2.5.5.2); of any other, both are of IPv6.

use netpath_common::{
    abi::{
        bridge::Port,
        config::{Config, ROUTE_PREFIXES},
    },
    reason::Reason,
};

use crate::{
    csum, encap, ethernet,
    family::{Complaint, Family, Fragment, Header, words},
    packet::{ETHERNET, Packet},
    v4::V4,
    verdict::NextHop,
};

/// The header without extensions.
const HEADER: usize = 40;
const HOP_LIMIT: usize = ETHERNET + 7;
const SOURCE: usize = ETHERNET + 8;
const DESTINATION: usize = ETHERNET + 24;

/// How many extension headers are stepped over, and how many bytes they may have together. More of them no stack sends.
const EXTENSIONS: usize = 4;
const EXTENSIONS_LEN: usize = 128;

// Extension headers (RFC 8200, section 4), by their protocol numbers.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
/// The header of a fragment.
pub const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

const MORE_FRAGMENTS: u16 = 1;
const FRAGMENT_OFFSET: u16 = 0xfff8;
/// How long a fragment header is.
pub const FRAGMENT_LEN: usize = 8;

const UNREACHABLE: u8 = 1;
const PACKET_TOO_BIG: u8 = 2;
const TIME_EXCEEDED: u8 = 3;
const PARAMETER_PROBLEM: u8 = 4;

/// What the header of a packet that this node makes says of how far it may go.
const OWN_HOP_LIMIT: u8 = 64;

/// ICMPv6 (RFC 4443).
pub const ICMP: u8 = 58;

/// IPv6.
#[derive(Clone, Copy, Debug)]
pub struct V6;

impl Family for V6 {
    type Addr = [u8; 16];

    const ETHERTYPE: u16 = ethernet::IPV6;
    const HEADER: usize = HEADER;
    const PROTOCOL: usize = 6;
    const SOURCE: usize = 8;
    const DESTINATION: usize = 24;
    const CHECKSUM: Option<usize> = None;
    const ICMP: u8 = ICMP;
    const ECHO: u8 = 128;
    const ECHO_REPLY: u8 = 129;
    const ICMP_COVERS_ADDRESSES: bool = true;
    /// RFC 4443, section 2.4 (c): what passes everywhere.
    const ERROR: usize = 1280;

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        matches!(kind, UNREACHABLE | PACKET_TOO_BIG | TIME_EXCEEDED | PARAMETER_PROBLEM)
    }

    /// RFC 4443, section 3.
    #[inline(always)]
    fn says(complaint: Complaint) -> (u8, u8) {
        match complaint {
            Complaint::TooBig => (PACKET_TOO_BIG, 0),
            Complaint::PortUnreachable => (UNREACHABLE, 4),
            Complaint::Expired => (TIME_EXCEEDED, 0),
        }
    }

    #[inline(never)]
    fn parse_at<const AT: usize, P: Packet>(packet: &P, header: &mut Header<[u8; 16]>) -> Result<(), Reason> {
        let frame_len = packet.len();
        let gso = packet.gso_size() != 0;
        let [version, _, _, _, l0, l1, next, hop_limit] = *packet.view::<8>(AT).ok_or(Reason::Malformed)?;
        let payload_len = usize::from(u16::from_be_bytes([l0, l1]));
        // A packet larger than 64 KiB that is yet to be segmented (BIG TCP) says 0.
        let big = gso && payload_len == 0;
        if version >> 4 != 6 || !big && AT + HEADER + payload_len > frame_len {
            return Err(Reason::Malformed);
        }
        header.source = *packet.view(AT + Self::SOURCE).ok_or(Reason::Malformed)?;
        header.destination = *packet.view(AT + Self::DESTINATION).ok_or(Reason::Malformed)?;
        header.ttl = hop_limit;
        header.dont_fragment = true;
        header.options = false;
        header.fragment = Fragment::Whole;
        header.identification = 0;
        let mut protocol = next;
        let mut extensions = 0;
        for _ in 0..EXTENSIONS {
            if !matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS)
                || header.fragment == Fragment::Later
            {
                break;
            }
            let at = AT + HEADER + extensions;
            let [next, length, b2, b3, i0, i1, i2, i3] = *packet.view::<8>(at).ok_or(Reason::Malformed)?;
            let mut bytes = 8;
            if protocol == FRAGMENT {
                let flags = u16::from_be_bytes([b2, b3]);
                header.identification = u32::from_be_bytes([i0, i1, i2, i3]);
                header.fragment = if flags & FRAGMENT_OFFSET != 0 {
                    Fragment::Later
                } else if flags & MORE_FRAGMENTS != 0 {
                    Fragment::First
                } else {
                    Fragment::Whole
                };
            } else {
                bytes += 8 * usize::from(length);
            }
            extensions += bytes;
            if extensions > EXTENSIONS_LEN || !big && extensions > payload_len {
                return Err(Reason::Malformed);
            }
            header.options = true;
            protocol = next;
        }
        header.protocol = protocol;
        header.payload = AT + HEADER + extensions;
        Ok(())
    }

    #[inline(always)]
    fn quoted<P: Packet>(packet: &P, at: usize) -> Option<(usize, u8)> {
        let ip = packet.view::<HEADER>(at)?;
        let (kind, next) = (ip[0] >> 4, ip[Self::PROTOCOL]);
        let behind = at + HEADER;
        match (kind, next) {
            // A first fragment that a router found too large is one that its sender must hear of.
            (6, FRAGMENT) => {
                let [next, _, f0, f1] = *packet.view::<4>(behind)?;
                let first = u16::from_be_bytes([f0, f1]) & FRAGMENT_OFFSET == 0;
                first.then_some((behind + FRAGMENT_LEN, next))
            }
            (6, _) => Some((behind, next)),
            _ => None,
        }
    }

    #[inline(always)]
    fn payload_len<P: Packet>(packet: &P) -> Result<usize, Reason> {
        let length = *packet.view::<2>(ETHERNET + 4).ok_or(Reason::Malformed)?;
        Ok(usize::from(u16::from_be_bytes(length)))
    }

    #[inline(always)]
    fn store<P: Packet>(
        packet: &mut P,
        source: &[u8; 16],
        destination: &[u8; 16],
        protocol: u8,
        payload_len: u16,
    ) -> Result<(), Reason> {
        let [l0, l1] = payload_len.to_be_bytes();
        packet.store(ETHERNET, &[0x60, 0, 0, 0, l0, l1, protocol, OWN_HOP_LIMIT])?;
        packet.store(SOURCE, source)?;
        packet.store(DESTINATION, destination)
    }

    #[inline(always)]
    fn label<P: Packet>(packet: &mut P, hash: u32) -> Result<(), Reason> {
        let [_, high, middle, low] = hash.to_be_bytes();
        packet.store(ETHERNET + 1, &[high & 0x0f, middle, low])
    }

    #[inline(always)]
    fn readdress<P: Packet>(
        packet: &mut P,
        source: &[u8; 16],
        destination: &[u8; 16],
        difference: u32,
    ) -> Result<(), Reason> {
        packet.store(SOURCE, source)?;
        packet.store(DESTINATION, destination)?;
        packet.note_change(difference);
        Ok(())
    }

    #[inline(always)]
    fn age<P: Packet>(packet: &mut P) -> Result<(), Reason> {
        let [next, limit] = *packet.view::<2>(HOP_LIMIT - 1).ok_or(Reason::Malformed)?;
        let aged = [next, limit.wrapping_sub(1)];
        packet.store(HOP_LIMIT - 1, &aged)?;
        packet.note_change(csum::difference(&[next, limit], &aged));
        Ok(())
    }

    #[inline(always)]
    fn node(config: &Config) -> [u8; 16] {
        config.node6
    }

    #[inline(always)]
    fn gateway(config: &Config) -> [u8; 16] {
        config.gateway6
    }

    #[inline(always)]
    fn pod(port: &Port) -> [u8; 16] {
        port.address6
    }

    #[inline(always)]
    fn route_prefixes(config: &Config) -> [u8; ROUTE_PREFIXES] {
        config.route_prefixes6
    }

    #[inline(always)]
    fn tunnel_room(end: &[u8; 16]) -> u32 {
        match mapped(end) {
            Some(_) => encap::room::<V4>() as u32,
            None => encap::room::<V6>() as u32,
        }
    }

    #[inline(always)]
    fn wrap<P: Packet>(packet: &mut P, config: &Config, end: &[u8; 16], hash: u32) -> Result<(), Reason> {
        match mapped(end) {
            Some(end) => encap::wrap::<V4, P>(packet, config, &end, hash, Self::ETHERTYPE),
            None => encap::wrap::<V6, P>(packet, config, end, hash, Self::ETHERTYPE),
        }
    }

    #[inline(always)]
    fn next_hop(address: &[u8; 16]) -> NextHop {
        match mapped(address) {
            Some(address) => NextHop::v4(address),
            None => NextHop::v6(*address),
        }
    }
}

/// The IPv4 address that an IPv4-mapped one stands for (RFC 4291, section 2.5.5.2).
#[inline(always)]
pub fn mapped(address: &[u8; 16]) -> Option<[u8; 4]> {
    const MARK: u32 = 0xffffu32.to_be();
    match words(address) {
        [0, 0, MARK, address] => Some(address.to_ne_bytes()),
        _ => None,
    }
}

/// The IPv4-mapped address that stands for an IPv4 address.
#[inline(always)]
pub fn mapping(address: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = address;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}
