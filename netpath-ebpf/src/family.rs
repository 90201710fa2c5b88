//! What differs between IPv4 and IPv6. All other steps are written over [`Family`], once.

use netpath_common::{
    abi::{
        bridge::Port,
        config::{Config, ROUTE_PREFIXES},
        conntrack::Tuple,
    },
    reason::Reason,
};

use crate::packet::Packet;

/// An IP address: `[u8; 4]` or `[u8; 16]`, in network order.
pub trait Address: Copy + PartialEq + Default {
    /// The address folded into 32 bits, for hashing.
    fn word(&self) -> u32;

    /// Whether it comes before another, as numbers do.
    fn precedes(&self, other: &Self) -> bool;

    /// The address with all but the first `prefix_len` bits cleared.
    fn masked(&self, prefix_len: u8) -> Self;

    /// Whether the address is a host's own on every host (RFC 1122, section 3.2.1.3; RFC 4291, section 2.5.3).
    fn is_loopback(&self) -> bool;

    /// What to add to a one's complement sum when this address becomes `new`, not folded.
    fn difference(&self, new: &Self) -> u32;
}

impl Address for [u8; 4] {
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
    fn difference(&self, new: &Self) -> u32 {
        crate::csum::difference(self, new)
    }
}

impl Address for [u8; 16] {
    #[inline(always)]
    fn word(&self) -> u32 {
        let [a, b, c, d] = words(self);
        // Rotated, so that addresses which differ in two words by the same do not fall together.
        (a.rotate_left(13) ^ b.rotate_left(7)) ^ (c.rotate_left(19) ^ d)
    }

    #[inline(always)]
    fn precedes(&self, other: &Self) -> bool {
        let halves = |address: &Self| {
            let [a, b, c, d] = words(address);
            (u64::from(a) << 32 | u64::from(b), u64::from(c) << 32 | u64::from(d))
        };
        let ((high, low), (other_high, other_low)) = (halves(self), halves(other));
        high < other_high || high == other_high && low < other_low
    }

    #[inline(always)]
    fn masked(&self, prefix_len: u8) -> Self {
        let [a, b, c, d] = words(self);
        let length = u32::from(prefix_len);
        from_words([
            a & mask(length),
            b & mask(length.saturating_sub(32)),
            c & mask(length.saturating_sub(64)),
            d & mask(length.saturating_sub(96)),
        ])
    }

    #[inline(always)]
    fn is_loopback(&self) -> bool {
        words(self) == [0, 0, 0, 1]
    }

    #[inline(always)]
    fn difference(&self, new: &Self) -> u32 {
        crate::csum::difference(self, new)
    }
}

/// The first `length` bits of a word, or all of them.
#[inline(always)]
fn mask(length: u32) -> u32 {
    if length == 0 {
        0
    } else {
        u32::MAX << (32 - length.min(32))
    }
}

#[inline(always)]
fn words(address: &[u8; 16]) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    [
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
        u32::from_be_bytes([i, j, k, l]),
        u32::from_be_bytes([m, n, o, p]),
    ]
}

#[inline(always)]
fn from_words([a, b, c, d]: [u32; 4]) -> [u8; 16] {
    let [a, b, c, d] = [a.to_be_bytes(), b.to_be_bytes(), c.to_be_bytes(), d.to_be_bytes()];
    [
        a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3],
    ]
}

/// Where a packet stands in a fragmented datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// It is whole.
    Whole,
    /// The first of several: it has the ports.
    First,
    /// A later one.
    Later,
}

/// An IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Whether the header has options.
    pub options: bool,
    /// The offset of the payload in the frame: at most 14 + 60.
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

    /// The ICMP protocol number of the family.
    const ICMP: u8;

    /// Reads and checks the IP header after the frame's Ethernet header.
    ///
    /// # Errors
    /// [`Reason::Malformed`].
    fn parse<P: Packet>(packet: &P) -> Result<Header<Self::Addr>, Reason>;

    /// Replaces the addresses and adapts what the header itself sums.
    ///
    /// # Errors
    /// [`Reason::Malformed`].
    fn readdress<P: Packet>(packet: &mut P, source: Self::Addr, destination: Self::Addr) -> Result<(), Reason>;

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

    /// Turns the frame into an ICMP error about itself, sent by `from` to the packet's source, back the way it came; a segment
    /// of TCP that finds nobody on its port becomes a reset. `mtu` is the largest IP packet that would have passed, in bytes,
    /// and 0 for all but [`Complaint::TooBig`].
    ///
    /// # Errors
    /// [`Reason::RewriteFailed`], [`Reason::Malformed`]; [`Reason::RefusedSilent`] about a reset.
    fn complain<P: Packet>(packet: &mut P, complaint: Complaint, mtu: u16, from: Self::Addr) -> Result<(), Reason>;

    /// The tuple of the packet that the ICMP error at this offset quotes; `None` if it cannot be told.
    fn quoted<P: Packet>(packet: &P, icmp: usize) -> Option<Tuple<Self::Addr>>;

    /// Rewrites the quoted packet so that it has this tuple, and adapts all checksums.
    ///
    /// # Errors
    /// [`Reason::RewriteFailed`], [`Reason::Malformed`].
    fn requote<P: Packet>(packet: &mut P, icmp: usize, tuple: &Tuple<Self::Addr>) -> Result<(), Reason>;
}

/// What an ICMP error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// The packet is larger than the way's MTU (RFC 1191, section 4; RFC 8201).
    TooBig,
    /// The time to live ran out.
    Expired,
    /// Nobody listens on the port.
    PortUnreachable,
}
