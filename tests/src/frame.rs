//! Whole frames, built by a library of its own (etherparse), so that no checksum in a test comes from the code under test.

mod family;

use anyhow::{Context as _, Result};
use etherparse::{
    EtherType, Ethernet2Header, IcmpEchoHeader, IpFragOffset, IpNumber, Ipv4Header, Ipv6FragmentHeader, Ipv6Header,
    TcpHeader, UdpHeader,
};
use netpath_common::abi::Mac;

pub use self::family::Ip;

/// An address and a port.
pub type Socket<A = [u8; 4]> = (A, u16);

/// TCP flags of a test's segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags {
    /// Opens.
    pub syn: bool,
    /// Acknowledges.
    pub ack: bool,
    /// Ends.
    pub fin: bool,
    /// Breaks off.
    pub rst: bool,
}

impl TcpFlags {
    const NONE: Self = Self {
        syn: false,
        ack: false,
        fin: false,
        rst: false,
    };
    /// Any in the middle.
    pub const ACK: Self = Self {
        ack: true,
        ..Self::NONE
    };
    /// The first segment of a connection.
    pub const SYN: Self = Self {
        syn: true,
        ..Self::NONE
    };
    /// The second.
    pub const SYN_ACK: Self = Self { syn: true, ..Self::ACK };
    /// The last of one direction.
    pub const FIN_ACK: Self = Self { fin: true, ..Self::ACK };
}

/// What a frame's Ethernet and IP headers say beside the addresses of the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Ethernet destination.
    pub to: Mac,
    /// Ethernet source.
    pub from: Mac,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Not to be fragmented; IPv6 does not ask.
    pub dont_fragment: bool,
    /// Identification.
    pub identification: u16,
    /// Fragment offset in units of 8 bytes.
    pub offset: u16,
    /// Whether more fragments follow.
    pub more: bool,
}

impl Frame {
    /// A frame from one MAC address to another, time to live 64, not to be fragmented.
    pub fn new(from: Mac, to: Mac) -> Self {
        Self {
            to,
            from,
            ttl: 64,
            dont_fragment: true,
            identification: 0,
            offset: 0,
            more: false,
        }
    }

    /// With another time to live.
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// As a fragment of a datagram: offset in units of 8 bytes, and whether more follow.
    pub fn fragment(mut self, identification: u16, offset: u16, more: bool) -> Self {
        self.identification = identification;
        self.offset = offset;
        self.more = more;
        self.dont_fragment = false;
        self
    }

    /// To be fragmented on the way if need be.
    pub fn may_fragment(mut self) -> Self {
        self.dont_fragment = false;
        self
    }

    fn ethernet(&self, ether_type: EtherType) -> [u8; Ethernet2Header::LEN] {
        let header = Ethernet2Header {
            source: self.from,
            destination: self.to,
            ether_type,
        };
        header.to_bytes()
    }

    /// An IPv4 packet of any protocol around `payload`.
    pub fn ipv4(&self, source: [u8; 4], destination: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut ip = Ipv4Header {
            total_len: (20 + payload.len()) as u16,
            identification: self.identification,
            dont_fragment: self.dont_fragment,
            more_fragments: self.more,
            fragment_offset: IpFragOffset::try_new(self.offset).unwrap_or_default(),
            time_to_live: self.ttl,
            protocol: IpNumber(protocol),
            source,
            destination,
            ..Ipv4Header::default()
        };
        ip.header_checksum = ip.calc_header_checksum();
        [&self.ethernet(EtherType::IPV4)[..], &ip.to_bytes()[..], payload].concat()
    }

    /// An IPv6 packet of any protocol around `payload`: a fragment of one if an offset or more are set.
    pub fn ipv6(&self, source: [u8; 16], destination: [u8; 16], protocol: u8, payload: &[u8]) -> Vec<u8> {
        let fragment = Ipv6FragmentHeader {
            next_header: IpNumber(protocol),
            fragment_offset: IpFragOffset::try_new(self.offset).unwrap_or_default(),
            more_fragments: self.more,
            identification: self.identification.into(),
        };
        if !fragment.is_fragmenting_payload() {
            return self.ipv6_behind(source, destination, protocol, &[], payload);
        }
        self.ipv6_behind(source, destination, 44, &fragment.to_bytes(), payload)
    }

    /// An IPv6 packet whose header says that `next` follows, which `extensions` are, if there are any.
    pub fn ipv6_behind(
        &self,
        source: [u8; 16],
        destination: [u8; 16],
        next: u8,
        extensions: &[u8],
        payload: &[u8],
    ) -> Vec<u8> {
        let ip = Ipv6Header {
            payload_length: (extensions.len() + payload.len()) as u16,
            next_header: IpNumber(next),
            hop_limit: self.ttl,
            source,
            destination,
            ..Ipv6Header::default()
        };
        [
            &self.ethernet(EtherType::IPV6)[..],
            &ip.to_bytes()[..],
            extensions,
            payload,
        ]
        .concat()
    }

    /// A UDP datagram.
    ///
    /// # Errors
    /// If the payload is too long for a datagram.
    pub fn udp<A: Ip>(&self, source: Socket<A>, destination: Socket<A>, payload: &[u8]) -> Result<Vec<u8>> {
        let datagram = datagram(source, destination, payload)?;
        Ok(A::packet(self, source.0, destination.0, 17, &datagram))
    }

    /// The fragments of a UDP datagram, of `part` bytes each but for the last, in the order of their offsets.
    ///
    /// # Errors
    /// If the payload is too long for a datagram.
    pub fn udp_in_parts<A: Ip>(
        &self,
        identification: u16,
        (source, destination): (Socket<A>, Socket<A>),
        payload: &[u8],
        part: usize,
    ) -> Result<Vec<Vec<u8>>> {
        let datagram = datagram(source, destination, payload)?;
        let parts = datagram.chunks(part).zip((0..).step_by(part));
        let frames = parts.map(|(bytes, begin)| {
            let more = begin + part < datagram.len();
            let frame = self.fragment(identification, (begin / 8) as u16, more);
            A::packet(&frame, source.0, destination.0, 17, bytes)
        });
        Ok(frames.collect())
    }

    /// A UDP datagram without a checksum (RFC 768: the field is zero).
    ///
    /// # Errors
    /// If the payload is too long for a datagram.
    pub fn udp_without_checksum<A: Ip>(
        &self,
        source: Socket<A>,
        destination: Socket<A>,
        payload: &[u8],
    ) -> Result<Vec<u8>> {
        let udp = udp_header(source, destination, payload)?;
        let datagram = [&udp.to_bytes()[..], payload].concat();
        Ok(A::packet(self, source.0, destination.0, 17, &datagram))
    }

    /// A TCP segment.
    ///
    /// # Errors
    /// If the payload is too long for a segment.
    pub fn tcp<A: Ip>(
        &self,
        source: Socket<A>,
        destination: Socket<A>,
        flags: TcpFlags,
        payload: &[u8],
    ) -> Result<Vec<u8>> {
        let mut tcp = TcpHeader::new(source.1, destination.1, 0x1000, 0xfaf0);
        tcp.acknowledgment_number = 0x2000;
        tcp.syn = flags.syn;
        tcp.ack = flags.ack;
        tcp.fin = flags.fin;
        tcp.rst = flags.rst;
        self.segment(source.0, destination.0, tcp, payload)
    }

    /// The reset of a connection, under a sequence number, or under none with what it acknowledges.
    ///
    /// # Errors
    /// Never, of a segment without payload.
    pub fn reset<A: Ip>(
        &self,
        source: Socket<A>,
        destination: Socket<A>,
        sequence: u32,
        acknowledges: Option<u32>,
    ) -> Result<Vec<u8>> {
        let mut tcp = TcpHeader::new(source.1, destination.1, sequence, 0);
        tcp.rst = true;
        tcp.ack = acknowledges.is_some();
        tcp.acknowledgment_number = acknowledges.unwrap_or(0);
        self.segment(source.0, destination.0, tcp, &[])
    }

    fn segment<A: Ip>(&self, source: A, destination: A, mut tcp: TcpHeader, payload: &[u8]) -> Result<Vec<u8>> {
        tcp.checksum = A::tcp_checksum(&tcp, source, destination, payload)?;
        let segment = [&tcp.to_bytes()[..], payload].concat();
        Ok(A::packet(self, source, destination, 6, &segment))
    }

    /// An ICMP echo request.
    pub fn echo<A: Ip>(&self, source: A, destination: A, id: u16, payload: &[u8]) -> Vec<u8> {
        let kind = A::echo_request(IcmpEchoHeader { id, seq: 1 });
        self.icmp(source, destination, kind, payload)
    }

    /// Its answer.
    pub fn echo_reply<A: Ip>(&self, source: A, destination: A, id: u16, payload: &[u8]) -> Vec<u8> {
        let kind = A::echo_reply(IcmpEchoHeader { id, seq: 1 });
        self.icmp(source, destination, kind, payload)
    }

    /// Any message of the family's ICMP.
    pub fn icmp<A: Ip>(&self, source: A, destination: A, kind: A::Icmp, payload: &[u8]) -> Vec<u8> {
        let header = A::icmp_header(kind, source, destination, payload);
        let message = [&header[..], payload].concat();
        A::packet(self, source, destination, A::ICMP, &message)
    }

    /// VXLAN (RFC 7348, section 5) around an inner frame, UDP without a checksum.
    ///
    /// # Errors
    /// If the inner frame is too long.
    pub fn vxlan<A: Ip>(&self, source: Socket<A>, destination: Socket<A>, vni: u32, inner: &[u8]) -> Result<Vec<u8>> {
        let vni = vni.to_be_bytes();
        let header = [0x08, 0, 0, 0, vni[1], vni[2], vni[3], 0];
        self.udp_without_checksum(source, destination, &[&header[..], inner].concat())
    }
}

/// A UDP header that has no checksum yet.
fn udp_header<A>(source: Socket<A>, destination: Socket<A>, payload: &[u8]) -> Result<UdpHeader> {
    UdpHeader::without_ipv4_checksum(source.1, destination.1, payload.len()).context("UDP header")
}

/// A UDP datagram with its checksum.
fn datagram<A: Ip>(source: Socket<A>, destination: Socket<A>, payload: &[u8]) -> Result<Vec<u8>> {
    let mut udp = udp_header(source, destination, payload)?;
    udp.checksum = A::udp_checksum(&udp, source.0, destination.0, payload)?;
    Ok([&udp.to_bytes()[..], payload].concat())
}

/// An ARP message over Ethernet (RFC 826): operation 1 asks, 2 answers.
pub fn arp((from, to): (Mac, Mac), operation: u8, sender: (Mac, [u8; 4]), target: (Mac, [u8; 4])) -> Vec<u8> {
    [
        &Frame::new(from, to).ethernet(EtherType::ARP)[..],
        &[0, 1, 8, 0, 6, 4, 0, operation],
        &sender.0,
        &sender.1,
        &target.0,
        &target.1,
    ]
    .concat()
}

/// The IP packet of a frame, without its Ethernet header.
pub fn ip_packet(frame: &[u8]) -> &[u8] {
    frame.get(14..).unwrap_or_default()
}
