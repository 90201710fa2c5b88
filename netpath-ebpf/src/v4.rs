//! The IPv4 family: where its header, ICMP and quotes come together. Its header's own layout is [`crate::ipv4`].

use netpath_common::{
    abi::{
        bridge::Port,
        config::{Config, ROUTE_PREFIXES},
        conntrack::Tuple,
    },
    reason::Reason,
};

use crate::{
    csum, ethernet,
    family::{Address, Complaint, Family, Fragment, Header},
    icmp, icmp_quote,
    ipv4::HEADER,
    packet::{ETHERNET, Packet},
    reset,
};

const TTL: usize = ETHERNET + 8;
const CHECKSUM: usize = ETHERNET + 10;
const SOURCE: usize = ETHERNET + 12;
const DESTINATION: usize = ETHERNET + 16;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// IPv4.
#[derive(Clone, Copy, Debug)]
pub struct V4;

impl Family for V4 {
    type Addr = [u8; 4];

    const ETHERTYPE: u16 = ethernet::IPV4;
    const ICMP: u8 = 1;

    #[inline(always)]
    fn parse<P: Packet>(packet: &P) -> Result<Header<[u8; 4]>, Reason> {
        let frame_len = packet.len();
        let gso = packet.gso_size() != 0;
        let ip = packet.view::<HEADER>(ETHERNET).ok_or(Reason::Malformed)?;
        let words = usize::from(ip[0] & 0x0f);
        if ip[0] >> 4 != 4 || words < 5 {
            return Err(Reason::Malformed);
        }
        let header_len = words * 4;
        let total_len = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        // A packet larger than 64 KiB that is yet to be segmented (BIG TCP) says 0.
        let big = gso && total_len == 0;
        if !big && (total_len < header_len || ETHERNET + total_len > frame_len) {
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
        Ok(Header {
            // Whole, not byte by byte: the compiler would keep four registers for each, and spill them.
            source: *packet.view(SOURCE).ok_or(Reason::Malformed)?,
            destination: *packet.view(DESTINATION).ok_or(Reason::Malformed)?,
            protocol: ip[9],
            ttl: ip[8],
            dont_fragment: flags & DONT_FRAGMENT != 0,
            options: words != 5,
            payload: ETHERNET + header_len,
            fragment,
            identification: u32::from(u16::from_be_bytes([ip[4], ip[5]])),
        })
    }

    #[inline(always)]
    fn readdress<P: Packet>(packet: &mut P, source: [u8; 4], destination: [u8; 4]) -> Result<(), Reason> {
        let checksum = *packet.view(CHECKSUM).ok_or(Reason::Malformed)?;
        let old_source: [u8; 4] = *packet.view(SOURCE).ok_or(Reason::Malformed)?;
        let old_destination: [u8; 4] = *packet.view(DESTINATION).ok_or(Reason::Malformed)?;
        let difference = old_source.difference(&source) + old_destination.difference(&destination);
        packet.store(CHECKSUM, &csum::adapt(checksum, difference))?;
        packet.store(SOURCE, &source)?;
        packet.store(DESTINATION, &destination)
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
    fn complain<P: Packet>(packet: &mut P, complaint: Complaint, mtu: u16, from: [u8; 4]) -> Result<(), Reason> {
        if complaint == Complaint::PortUnreachable && reset::fits4(packet) {
            return reset::reset4(packet, from);
        }
        icmp::complain4(packet, complaint, mtu, from)
    }

    #[inline(always)]
    fn quoted<P: Packet>(packet: &P, icmp: usize) -> Option<Tuple<[u8; 4]>> {
        icmp_quote::quoted4(packet, icmp)
    }

    #[inline(always)]
    fn requote<P: Packet>(packet: &mut P, icmp: usize, tuple: &Tuple<[u8; 4]>) -> Result<(), Reason> {
        icmp_quote::requote4(packet, icmp, tuple)
    }
}
