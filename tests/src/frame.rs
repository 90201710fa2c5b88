//! Whole frames, built by a library of its own (etherparse), so that no checksum in a test comes from the code under test.

use anyhow::{Context as _, Result};
use etherparse::{
    EtherType, Ethernet2Header, IcmpEchoHeader, Icmpv4Header, Icmpv4Type, IpFragOffset, IpNumber, Ipv4Header,
    TcpHeader, UdpHeader,
};
use netpath_common::abi::Mac;

/// An address and a port.
pub type Socket = ([u8; 4], u16);

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
    /// The first segment of a connection.
    pub const SYN: Self = Self {
        syn: true,
        ack: false,
        fin: false,
        rst: false,
    };
    /// The second.
    pub const SYN_ACK: Self = Self {
        syn: true,
        ack: true,
        fin: false,
        rst: false,
    };
    /// Any in the middle.
    pub const ACK: Self = Self {
        syn: false,
        ack: true,
        fin: false,
        rst: false,
    };
    /// The last of one direction.
    pub const FIN_ACK: Self = Self {
        syn: false,
        ack: true,
        fin: true,
        rst: false,
    };
}

/// What a frame's Ethernet and IPv4 headers say beside the addresses of the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Ethernet destination.
    pub to: Mac,
    /// Ethernet source.
    pub from: Mac,
    /// Time to live.
    pub ttl: u8,
    /// Not to be fragmented.
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

    /// An IPv4 packet of any protocol around `payload`.
    pub fn ipv4(&self, source: [u8; 4], destination: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
        let ethernet = Ethernet2Header {
            source: self.from,
            destination: self.to,
            ether_type: EtherType::IPV4,
        };
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
        [&ethernet.to_bytes()[..], &ip.to_bytes()[..], payload].concat()
    }

    /// A UDP datagram.
    ///
    /// # Errors
    /// If the payload is too long for a datagram.
    pub fn udp(&self, source: Socket, destination: Socket, payload: &[u8]) -> Result<Vec<u8>> {
        let ip = bare_ipv4(source.0, destination.0, 17);
        let udp = UdpHeader::with_ipv4_checksum(source.1, destination.1, &ip, payload).context("UDP header")?;
        Ok(self.ipv4(source.0, destination.0, 17, &[&udp.to_bytes()[..], payload].concat()))
    }

    /// A UDP datagram without a checksum (RFC 768: the field is zero).
    ///
    /// # Errors
    /// If the payload is too long for a datagram.
    pub fn udp_without_checksum(&self, source: Socket, destination: Socket, payload: &[u8]) -> Result<Vec<u8>> {
        let udp = UdpHeader::without_ipv4_checksum(source.1, destination.1, payload.len()).context("UDP header")?;
        Ok(self.ipv4(source.0, destination.0, 17, &[&udp.to_bytes()[..], payload].concat()))
    }

    /// A TCP segment.
    ///
    /// # Errors
    /// If the payload is too long for a segment.
    pub fn tcp(&self, source: Socket, destination: Socket, flags: TcpFlags, payload: &[u8]) -> Result<Vec<u8>> {
        let mut tcp = TcpHeader::new(source.1, destination.1, 0x1000, 0xfaf0);
        tcp.acknowledgment_number = 0x2000;
        tcp.syn = flags.syn;
        tcp.ack = flags.ack;
        tcp.fin = flags.fin;
        tcp.rst = flags.rst;
        tcp.checksum = tcp
            .calc_checksum_ipv4_raw(source.0, destination.0, payload)
            .context("TCP header")?;
        Ok(self.ipv4(source.0, destination.0, 6, &[&tcp.to_bytes()[..], payload].concat()))
    }

    /// The reset of a connection, under a sequence number, or under none with what it acknowledges.
    ///
    /// # Errors
    /// Never, of a segment without payload.
    pub fn reset(
        &self,
        source: Socket,
        destination: Socket,
        sequence: u32,
        acknowledges: Option<u32>,
    ) -> Result<Vec<u8>> {
        let mut tcp = TcpHeader::new(source.1, destination.1, sequence, 0);
        tcp.rst = true;
        tcp.ack = acknowledges.is_some();
        tcp.acknowledgment_number = acknowledges.unwrap_or(0);
        tcp.checksum = tcp
            .calc_checksum_ipv4_raw(source.0, destination.0, &[])
            .context("TCP header")?;
        Ok(self.ipv4(source.0, destination.0, 6, &tcp.to_bytes()))
    }

    /// An ICMP echo request.
    pub fn echo(&self, source: [u8; 4], destination: [u8; 4], id: u16, payload: &[u8]) -> Vec<u8> {
        self.icmp(
            source,
            destination,
            Icmpv4Type::EchoRequest(IcmpEchoHeader { id, seq: 1 }),
            payload,
        )
    }

    /// Its answer.
    pub fn echo_reply(&self, source: [u8; 4], destination: [u8; 4], id: u16, payload: &[u8]) -> Vec<u8> {
        self.icmp(
            source,
            destination,
            Icmpv4Type::EchoReply(IcmpEchoHeader { id, seq: 1 }),
            payload,
        )
    }

    /// Any ICMP message.
    pub fn icmp(&self, source: [u8; 4], destination: [u8; 4], kind: Icmpv4Type, payload: &[u8]) -> Vec<u8> {
        let icmp = Icmpv4Header::with_checksum(kind, payload);
        self.ipv4(source, destination, 1, &[&icmp.to_bytes()[..], payload].concat())
    }

    /// VXLAN (RFC 7348, section 5) around an inner frame, UDP without a checksum.
    ///
    /// # Errors
    /// If the inner frame is too long.
    pub fn vxlan(&self, source: Socket, destination: Socket, vni: u32, inner: &[u8]) -> Result<Vec<u8>> {
        let vni = vni.to_be_bytes();
        let header = [0x08, 0, 0, 0, vni[1], vni[2], vni[3], 0];
        self.udp_without_checksum(source, destination, &[&header[..], inner].concat())
    }
}

/// An ARP message over Ethernet (RFC 826): operation 1 asks, 2 answers.
pub fn arp(ethernet: (Mac, Mac), operation: u8, sender: (Mac, [u8; 4]), target: (Mac, [u8; 4])) -> Vec<u8> {
    let (from, to) = ethernet;
    let ethernet = Ethernet2Header {
        source: from,
        destination: to,
        ether_type: EtherType::ARP,
    };
    [
        &ethernet.to_bytes()[..],
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

fn bare_ipv4(source: [u8; 4], destination: [u8; 4], protocol: u8) -> Ipv4Header {
    Ipv4Header {
        source,
        destination,
        protocol: IpNumber(protocol),
        ..Ipv4Header::default()
    }
}
