//! The IPv4 family. Its header's own layout is [`crate::ipv4`].

use netpath_common::{
    abi::{
        bridge::Port,
        config::{Config, ROUTE_PREFIXES},
    },
    reason::Reason,
};

use crate::{
    csum, encap, ethernet,
    family::{Complaint, Family, Fragment, Header},
    ipv4,
    packet::{ETHERNET, Packet},
    verdict::NextHop,
};

const TTL: usize = ETHERNET + 8;
const CHECKSUM: usize = ETHERNET + 10;
const SOURCE: usize = ETHERNET + 12;
const DESTINATION: usize = ETHERNET + 16;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

const UNREACHABLE: u8 = 3;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;

/// IPv4.
#[derive(Clone, Copy, Debug)]
pub struct V4;

impl Family for V4 {
    type Addr = [u8; 4];

    const ETHERTYPE: u16 = ethernet::IPV4;
    const HEADER: usize = ipv4::HEADER;
    const PROTOCOL: usize = 9;
    const SOURCE: usize = 12;
    const DESTINATION: usize = 16;
    const CHECKSUM: Option<usize> = Some(10);
    const ICMP: u8 = 1;
    const ECHO: u8 = 8;
    const ECHO_REPLY: u8 = 0;
    const ICMP_COVERS_ADDRESSES: bool = false;
    /// RFC 1812, section 4.3.2.3.
    const ERROR: usize = 576;

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        matches!(kind, UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM)
    }

    /// RFC 792; RFC 1191, section 4.
    #[inline(always)]
    fn says(complaint: Complaint) -> (u8, u8) {
        match complaint {
            Complaint::TooBig => (UNREACHABLE, 4),
            Complaint::PortUnreachable => (UNREACHABLE, 3),
            Complaint::Expired => (TIME_EXCEEDED, 0),
        }
    }

    #[inline(always)]
    fn parse_at<const AT: usize, P: Packet>(packet: &P, header: &mut Header<[u8; 4]>) -> Result<(), Reason> {
        let frame_len = packet.len();
        let gso = packet.gso_size() != 0;
        let ip = packet.view::<{ ipv4::HEADER }>(AT).ok_or(Reason::Malformed)?;
        let words = usize::from(ip[0] & 0x0f);
        if ip[0] >> 4 != 4 || words < 5 {
            return Err(Reason::Malformed);
        }
        let header_len = words * 4;
        let total_len = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        // A packet larger than 64 KiB that is yet to be segmented (BIG TCP) says 0.
        let big = gso && total_len == 0;
        if !big && (total_len < header_len || AT + total_len > frame_len) {
            return Err(Reason::Malformed);
        }
        let flags = u16::from_be_bytes([ip[6], ip[7]]);
        let fragment = if flags & FRAGMENT_OFFSET != 0 {
            Fragment::Later
        } else if flags & MORE_FRAGMENTS != 0 {
            Fragment::First
        } else {
            Fragment::Whole
        };
        *header = Header {
            // Whole, not byte by byte: the compiler would keep four registers for each, and spill them.
            source: *packet.view(AT + Self::SOURCE).ok_or(Reason::Malformed)?,
            destination: *packet.view(AT + Self::DESTINATION).ok_or(Reason::Malformed)?,
            protocol: ip[9],
            ttl: ip[8],
            dont_fragment: flags & DONT_FRAGMENT != 0,
            options: words != 5,
            payload: AT + header_len,
            fragment,
            identification: u32::from(u16::from_be_bytes([ip[4], ip[5]])),
        };
        Ok(())
    }

    #[inline(always)]
    fn quoted<P: Packet>(packet: &P, at: usize) -> Option<(usize, u8)> {
        let ip = packet.view::<{ ipv4::HEADER }>(at)?;
        let plain = ip[0] == 0x45 && ip[6] & 0x1f == 0 && ip[7] == 0;
        plain.then_some((at + ipv4::HEADER, ip[Self::PROTOCOL]))
    }

    #[inline(always)]
    fn payload_len<P: Packet>(packet: &P) -> Result<usize, Reason> {
        let length = *packet.view::<2>(ETHERNET + 2).ok_or(Reason::Malformed)?;
        Ok(usize::from(u16::from_be_bytes(length)).saturating_sub(ipv4::HEADER))
    }

    #[inline(always)]
    fn store<P: Packet>(
        packet: &mut P,
        source: &[u8; 4],
        destination: &[u8; 4],
        protocol: u8,
        payload_len: u16,
    ) -> Result<(), Reason> {
        let total_len = if payload_len == 0 {
            0
        } else {
            ipv4::HEADER as u16 + payload_len
        };
        packet.store(ETHERNET, &ipv4::header(*source, *destination, protocol, total_len))
    }

    #[inline(always)]
    fn label<P: Packet>(_packet: &mut P, _hash: u32) -> Result<(), Reason> {
        Ok(())
    }

    #[inline(always)]
    fn readdress<P: Packet>(
        packet: &mut P,
        source: &[u8; 4],
        destination: &[u8; 4],
        difference: u32,
    ) -> Result<(), Reason> {
        let checksum = *packet.view(CHECKSUM).ok_or(Reason::Malformed)?;
        packet.store(CHECKSUM, &csum::adapt(checksum, difference))?;
        packet.store(SOURCE, source)?;
        packet.store(DESTINATION, destination)
    }

    #[inline(always)]
    fn age<P: Packet>(packet: &mut P) -> Result<(), Reason> {
        let [ttl, protocol, c0, c1] = *packet.view::<4>(TTL).ok_or(Reason::Malformed)?;
        let aged = ttl.wrapping_sub(1);
        let checksum = csum::adapt([c0, c1], csum::difference(&[ttl, protocol], &[aged, protocol]));
        packet.store(TTL, &[aged, protocol, checksum[0], checksum[1]])
    }

    #[inline(always)]
    fn node(config: &Config) -> [u8; 4] {
        config.node4
    }

    #[inline(always)]
    fn gateway(config: &Config) -> [u8; 4] {
        config.gateway4
    }

    #[inline(always)]
    fn pod(port: &Port) -> [u8; 4] {
        port.address4
    }

    #[inline(always)]
    fn route_prefixes(config: &Config) -> [u8; ROUTE_PREFIXES] {
        config.route_prefixes4
    }

    #[inline(always)]
    fn tunnel_room(_end: &[u8; 4]) -> u32 {
        encap::room::<V4>() as u32
    }

    #[inline(always)]
    fn wrap<P: Packet>(packet: &mut P, config: &Config, end: &[u8; 4], hash: u32) -> Result<(), Reason> {
        encap::wrap::<V4, P>(packet, config, end, hash, Self::ETHERTYPE)
    }

    #[inline(always)]
    fn next_hop(address: &[u8; 4]) -> NextHop {
        NextHop::v4(*address)
    }
}
