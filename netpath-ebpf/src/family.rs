//! What differs between IPv4 and IPv6. All other steps are written over [`Family`], once.

use netpath_common::{
    abi::{
        bridge::Port,
        config::{Config, ROUTE_PREFIXES},
    },
    reason::Reason,
};

use crate::{
    packet::{ETHERNET, Packet},
    verdict::NextHop,
};

/// An IP address: `[u8; 4]` or `[u8; 16]`, in network order.
pub trait Address: Copy + PartialEq + Default {
    /// One that lies in a frame, if the frame does not end before.
    fn view<P: Packet>(packet: &P, offset: usize) -> Option<&Self>;

    /// Writes it into a frame.
    ///
    /// # Errors
    /// [`Reason::Malformed`] if the frame ends before.
    fn write<P: Packet>(&self, packet: &mut P, offset: usize) -> Result<(), Reason>;

    /// The address folded into 32 bits, for hashing.
    fn word(&self) -> u32;

    /// Whether it comes before another, as numbers do.
    fn precedes(&self, other: &Self) -> bool;

    /// The address with all but the first `prefix_len` bits cleared.
    fn masked(&self, prefix_len: u8) -> Self;

    /// Whether the address is a host's own on every host (RFC 1122, section 3.2.1.3; RFC 4291, section 2.5.3).
    fn is_loopback(&self) -> bool;

    /// Whether the address belongs to one link, so that nothing from or to it is ever forwarded. IPv4's link-local addresses are
    /// not among them: clouds have services of theirs there, beyond the link.
    fn is_of_link(&self) -> bool;

    /// Whether it is of a group.
    fn is_multicast(&self) -> bool;

    /// The one's complement sum of its 16-bit words, in native byte order, not folded.
    fn sum(&self) -> u32;

    /// What to add to a one's complement sum when this address becomes `new`, not folded.
    fn difference(&self, new: &Self) -> u32;
}

impl Address for [u8; 4] {
    #[inline(always)]
    fn view<P: Packet>(packet: &P, offset: usize) -> Option<&Self> {
        packet.view(offset)
    }

    #[inline(always)]
    fn write<P: Packet>(&self, packet: &mut P, offset: usize) -> Result<(), Reason> {
        packet.store(offset, self)
    }

    #[inline(always)]
    fn word(&self) -> u32 {
        u32::from_be_bytes(*self)
    }

    #[inline(always)]
    fn precedes(&self, other: &Self) -> bool {
        u32::from_be_bytes(*self) < u32::from_be_bytes(*other)
    }

    #[inline(always)]
    fn masked(&self, prefix_len: u8) -> Self {
        let mask = if prefix_len == 0 {
            0
        } else {
            u32::MAX << (32 - (u32::from(prefix_len) & 63).min(32))
        };
        (u32::from_be_bytes(*self) & mask).to_be_bytes()
    }

    #[inline(always)]
    fn is_loopback(&self) -> bool {
        self[0] == 127
    }

    #[inline(always)]
    fn is_of_link(&self) -> bool {
        false
    }

    #[inline(always)]
    fn is_multicast(&self) -> bool {
        self[0] & 0xf0 == 0xe0
    }

    #[inline(always)]
    fn sum(&self) -> u32 {
        crate::csum::sum(self)
    }

    #[inline(always)]
    fn difference(&self, new: &Self) -> u32 {
        crate::csum::difference(self, new)
    }
}

impl Address for [u8; 16] {
    #[inline(always)]
    fn view<P: Packet>(packet: &P, offset: usize) -> Option<&Self> {
        packet.view(offset)
    }

    #[inline(always)]
    fn write<P: Packet>(&self, packet: &mut P, offset: usize) -> Result<(), Reason> {
        packet.store(offset, self)
    }

    #[inline(always)]
    fn word(&self) -> u32 {
        let [a, b, c, d] = words(self);
        a ^ b ^ c ^ d
    }

    #[inline(always)]
    fn precedes(&self, other: &Self) -> bool {
        let [a, b, c, d] = words(self).map(u32::from_be);
        let [e, f, g, h] = words(other).map(u32::from_be);
        if a != e {
            a < e
        } else if b != f {
            b < f
        } else if c != g {
            c < g
        } else {
            d < h
        }
    }

    #[inline(always)]
    fn masked(&self, prefix_len: u8) -> Self {
        let [a, b, c, d] = words(self);
        let length = u32::from(prefix_len);
        let (first, last) = (mask(length), mask(length.saturating_sub(64)));
        let of = |mask: u64, shift: u32| ((mask >> shift) as u32).to_be();
        from_words([a & of(first, 32), b & of(first, 0), c & of(last, 32), d & of(last, 0)])
    }

    #[inline(always)]
    fn is_loopback(&self) -> bool {
        words(self) == [0, 0, 0, 1u32.to_be()]
    }

    /// fe80::/10 (RFC 4291, section 2.5.6).
    #[inline(always)]
    fn is_of_link(&self) -> bool {
        self[0] == 0xfe && self[1] & 0xc0 == 0x80
    }

    #[inline(always)]
    fn is_multicast(&self) -> bool {
        self[0] == 0xff
    }

    #[inline(always)]
    fn sum(&self) -> u32 {
        crate::csum::sum(self)
    }

    #[inline(always)]
    fn difference(&self, new: &Self) -> u32 {
        crate::csum::difference(self, new)
    }
}

/// The first `length` bits of half an address, or all of them.
#[inline(always)]
fn mask(length: u32) -> u64 {
    if length < 64 { !(u64::MAX >> length) } else { u64::MAX }
}

/// An address's words, in network order.
#[inline(always)]
pub fn words(address: &[u8; 16]) -> [u32; 4] {
    bytemuck::cast_ref::<[u8; 16], [[u8; 4]; 4]>(address).map(u32::from_ne_bytes)
}

/// The address that has these words.
#[inline(always)]
pub fn from_words(words: [u32; 4]) -> [u8; 16] {
    bytemuck::cast(words)
}

/// Where a packet stands in a fragmented datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fragment {
    /// It is whole.
    #[default]
    Whole,
    /// The first of several: it has the ports.
    First,
    /// A later one.
    Later,
}

/// An IP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// The protocol of the payload.
    pub protocol: u8,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Whether routers must not fragment the packet.
    pub dont_fragment: bool,
    /// Whether the header has options, or others behind it.
    pub options: bool,
    /// The offset of the payload in the frame, behind all options: at most 14 + 168
    /// where the header is the first.
    pub payload: usize,
    /// Where in a datagram.
    pub fragment: Fragment,
    /// The datagram's identification.
    pub identification: u32,
}

/// An address family.
pub trait Family {
    /// Its address.
    type Addr: Address;

    /// The EtherType.
    const ETHERTYPE: u16;

    /// The header's length without options, in bytes.
    const HEADER: usize;
    /// Where in it the payload's protocol stands.
    const PROTOCOL: usize;
    /// The source address.
    const SOURCE: usize;
    /// The destination address.
    const DESTINATION: usize;
    /// The header's own checksum, if it has one.
    const CHECKSUM: Option<usize>;

    /// The ICMP protocol number of the family.
    const ICMP: u8;
    /// The type of an ICMP echo request.
    const ECHO: u8;
    /// The type of its reply.
    const ECHO_REPLY: u8;
    /// Whether the checksum of ICMP covers a pseudo header, as those of TCP and UDP do.
    const ICMP_COVERS_ADDRESSES: bool;

    /// The most bytes of an ICMP error with its IP header.
    const ERROR: usize;

    /// Whether an ICMP message of this type is an error that quotes a packet.
    fn is_error(kind: u8) -> bool;

    /// An ICMP error's type and code.
    fn says(complaint: Complaint) -> (u8, u8);

    /// Reads and checks the IP header after the frame's Ethernet header, and what options follow.
    ///
    /// # Errors
    /// [`Reason::Malformed`].
    #[inline(always)]
    fn parse<P: Packet>(packet: &P, header: &mut Header<Self::Addr>) -> Result<(), Reason> {
        Self::parse_at::<ETHERNET, P>(packet, header)
    }

    /// The same of one that begins elsewhere in the frame.
    ///
    /// # Errors
    /// [`Reason::Malformed`].
    fn parse_at<const AT: usize, P: Packet>(packet: &P, header: &mut Header<Self::Addr>) -> Result<(), Reason>;

    /// Where the payload of a packet that is quoted at an offset begins, and its protocol; `None` for one with options, or of a
    /// later fragment.
    fn quoted<P: Packet>(packet: &P, at: usize) -> Option<(usize, u8)>;

    /// The length of what the header after the frame's Ethernet header announces behind the [`Family::HEADER`] bytes without
    /// options; 0 if it does not fit there.
    ///
    /// # Errors
    /// [`Reason::Malformed`].
    fn payload_len<P: Packet>(packet: &P) -> Result<usize, Reason>;

    /// Writes a header without options after the frame's Ethernet header, for a packet that this node makes itself. No payload
    /// says that the packet is too long for a length of its own.
    ///
    /// # Errors
    /// [`Reason::Malformed`].
    fn store<P: Packet>(
        packet: &mut P,
        source: &Self::Addr,
        destination: &Self::Addr,
        protocol: u8,
        payload_len: u16,
    ) -> Result<(), Reason>;

    /// Labels a packet that this node made by its flow, where the header has a place for that, so that routers that have more
    /// than one way to its receiver give each flow one (RFC 6438).
    ///
    /// # Errors
    /// [`Reason::Malformed`].
    fn label<P: Packet>(packet: &mut P, hash: u32) -> Result<(), Reason>;

    /// Replaces the addresses, and adapts what sums the header: by as much as [`Address::difference`] says of both together.
    ///
    /// # Errors
    /// [`Reason::Malformed`].
    fn readdress<P: Packet>(
        packet: &mut P,
        source: &Self::Addr,
        destination: &Self::Addr,
        difference: u32,
    ) -> Result<(), Reason>;

    /// Takes one from the time to live, which the caller knows to be at least 2.
    ///
    /// # Errors
    /// [`Reason::Malformed`].
    fn age<P: Packet>(packet: &mut P) -> Result<(), Reason>;

    /// The node's own address.
    fn node(config: &Config) -> Self::Addr;

    /// The node's gateway address in its pods' subnet.
    fn gateway(config: &Config) -> Self::Addr;

    /// The address that a port's pod has.
    fn pod(port: &Port) -> Self::Addr;

    /// The prefix lengths that routes have.
    fn route_prefixes(config: &Config) -> [u8; ROUTE_PREFIXES];

    /// What the tunnel to a node, whose end a route has as an address of the family, adds to a packet, in bytes.
    fn tunnel_room(end: &Self::Addr) -> u32;

    /// Wraps a frame that carries the family for this tunnel. `hash` spreads its flows.
    ///
    /// # Errors
    /// [`Reason::RewriteFailed`].
    fn wrap<P: Packet>(packet: &mut P, config: &Config, end: &Self::Addr, hash: u32) -> Result<(), Reason>;

    /// The neighbour that has an address of a route.
    fn next_hop(address: &Self::Addr) -> NextHop;
}

/// What an ICMP error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// The packet is larger than the way's MTU (RFC 1191, section 4; RFC 8201, section 3).
    TooBig,
    /// The time to live ran out.
    Expired,
    /// Nobody listens on the port.
    PortUnreachable,
}
