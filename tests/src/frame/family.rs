//! What differs between frames of IPv4 and IPv6: the packet's headers, the sums that cover addresses, and ICMP.

use anyhow::{Context as _, Result};
use etherparse::{
    IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, TcpHeader, UdpHeader, icmpv4, icmpv6,
};

use super::Frame;

/// An address family whose frames are built.
pub trait Ip: Copy {
    /// The bytes of an IP header without options.
    const HEADER: usize;
    /// The protocol number of its ICMP.
    const ICMP: u8;
    /// A message of its ICMP: type, code and what stands in the header's second word.
    type Icmp;

    /// A packet of any protocol.
    fn packet(frame: &Frame, source: Self, destination: Self, protocol: u8, payload: &[u8]) -> Vec<u8>;

    /// The checksum of a UDP header.
    ///
    /// # Errors
    /// If the payload is too long for a datagram.
    fn udp_checksum(udp: &UdpHeader, source: Self, destination: Self, payload: &[u8]) -> Result<u16>;

    /// The checksum of a TCP header.
    ///
    /// # Errors
    /// If the payload is too long for a segment.
    fn tcp_checksum(tcp: &TcpHeader, source: Self, destination: Self, payload: &[u8]) -> Result<u16>;

    /// The header of an ICMP message, with its checksum.
    fn icmp_header(kind: Self::Icmp, source: Self, destination: Self, payload: &[u8]) -> Vec<u8>;

    /// Nobody listens on that port.
    fn unreachable() -> Self::Icmp;

    /// The way takes no more than so many bytes.
    fn too_big(mtu: u16) -> Self::Icmp;

    /// The packet's time ran out.
    fn expired() -> Self::Icmp;

    /// An echo request.
    fn echo_request(echo: IcmpEchoHeader) -> Self::Icmp;

    /// An echo reply.
    fn echo_reply(echo: IcmpEchoHeader) -> Self::Icmp;
}

macro_rules! family {
    ($address:ty, header: $header:literal, packet: $packet:ident, udp: $udp:ident, tcp: $tcp:ident, icmp: $number:literal, $icmp:ident,
     $icmp_header:expr, unreachable: $unreachable:expr, too_big: $too_big:expr, expired: $expired:expr) => {
        impl Ip for $address {
            const HEADER: usize = $header;
            const ICMP: u8 = $number;
            type Icmp = $icmp;

            fn packet(frame: &Frame, source: Self, destination: Self, protocol: u8, payload: &[u8]) -> Vec<u8> {
                frame.$packet(source, destination, protocol, payload)
            }

            fn udp_checksum(udp: &UdpHeader, source: Self, destination: Self, payload: &[u8]) -> Result<u16> {
                udp.$udp(source, destination, payload).context("UDP header")
            }

            fn tcp_checksum(tcp: &TcpHeader, source: Self, destination: Self, payload: &[u8]) -> Result<u16> {
                tcp.$tcp(source, destination, payload).context("TCP header")
            }

            fn icmp_header(kind: $icmp, source: Self, destination: Self, payload: &[u8]) -> Vec<u8> {
                $icmp_header(kind, source, destination, payload)
                    .to_bytes()
                    .to_vec()
            }

            fn unreachable() -> $icmp {
                $icmp::DestinationUnreachable($unreachable)
            }

            fn too_big(mtu: u16) -> $icmp {
                $too_big(mtu)
            }

            fn expired() -> $icmp {
                $icmp::TimeExceeded($expired)
            }

            fn echo_request(echo: IcmpEchoHeader) -> $icmp {
                $icmp::EchoRequest(echo)
            }

            fn echo_reply(echo: IcmpEchoHeader) -> $icmp {
                $icmp::EchoReply(echo)
            }
        }
    };
}

family! {
    [u8; 4], header: 20, packet: ipv4, udp: calc_checksum_ipv4_raw, tcp: calc_checksum_ipv4_raw, icmp: 1, Icmpv4Type,
    |kind, _, _, payload| Icmpv4Header::with_checksum(kind, payload),
    unreachable: icmpv4::DestUnreachableHeader::Port,
    too_big: |next_hop_mtu| {
        Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu })
    },
    expired: icmpv4::TimeExceededCode::TtlExceededInTransit
}
family! {
    [u8; 16], header: 40, packet: ipv6, udp: calc_checksum_ipv6_raw, tcp: calc_checksum_ipv6_raw, icmp: 58, Icmpv6Type,
    |kind: Icmpv6Type, source, destination, payload| Icmpv6Header {
        // It fails for payloads of more than 4 GiB alone.
        checksum: kind.calc_checksum(source, destination, payload).unwrap_or_default(),
        icmp_type: kind,
    },
    unreachable: icmpv6::DestUnreachableCode::Port,
    too_big: |mtu: u16| Icmpv6Type::PacketTooBig { mtu: mtu.into() },
    expired: icmpv6::TimeExceededCode::HopLimitExceeded
}
