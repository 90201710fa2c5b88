//! The transport header: which connection and direction a packet belongs to.

use netpath_common::{abi::conntrack::Tuple, reason::Reason};

use crate::{
    family::{Address, Family, Fragment},
    fragment,
    packet::Packet,
    scratch::Notes,
    sctp,
    tables::Tables,
};

/// TCP (RFC 9293).
pub const TCP: u8 = 6;
/// UDP (RFC 768).
pub const UDP: u8 = 17;
/// SCTP (RFC 9260).
pub const SCTP: u8 = 132;

/// TCP flag: no more data from the sender.
pub const FIN: u8 = 0x01;
/// TCP flag: the connection opens.
pub const SYN: u8 = 0x02;
/// TCP flag: the connection is gone.
pub const RST: u8 = 0x04;
/// TCP flag: acknowledges.
pub const ACK: u8 = 0x10;

/// What a packet is to its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A TCP segment.
    #[default]
    Tcp,
    /// An SCTP packet.
    Sctp,
    /// A UDP datagram.
    Udp,
    /// An ICMP echo or its reply: both ports are the identifier.
    Echo,
    /// An ICMP error: it belongs to the connection of the packet that it quotes.
    Error,
    /// A later fragment: its ports are in the tuple, but not in the packet.
    Tail,
    /// A later fragment whose first was not seen.
    LostTail,
    /// Something without ports.
    Other,
}

/// A packet's place among all connections. All fields have a value for every kind: variants that hold them would leave
/// some unset, and the verifier refuses what the compiler then makes of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow<A> {
    /// What the packet says.
    pub tuple: Tuple<A>,
    /// What kind of packet.
    pub kind: Kind,
    /// TCP: `FIN`, `SYN`, `RST`, `ACK`. SCTP: those that say the same as its first chunk ([`sctp::flags`]).
    pub flags: u8,
    /// The length of the transport header: 20 to 60 for TCP, 12 for SCTP, else 8.
    pub header_len: usize,
    /// The offset of the transport header.
    pub payload: usize,
}

impl<A> Flow<A> {
    /// Whether the packet asks for a new connection.
    #[inline(always)]
    pub fn opens(&self) -> bool {
        matches!(self.kind, Kind::Tcp | Kind::Sctp) && self.flags & (SYN | ACK | RST) == SYN
    }
}

/// The tuple of packets that answer those of `tuple`.
#[inline(always)]
pub fn reversed<A: Address>(tuple: &Tuple<A>) -> Tuple<A> {
    Tuple {
        source: tuple.destination,
        destination: tuple.source,
        source_port: tuple.destination_port,
        destination_port: tuple.source_port,
        protocol: tuple.protocol,
        reserved: [0; 3],
    }
}

/// Reads the transport header behind the IP header that is noted, and notes the flow. What a first fragment says the caller has remembered.
///
/// # Errors
/// [`Reason::Malformed`] if the packet ends within it.
#[inline(always)]
pub fn parse<F: Family, P: Packet, T: Tables<F::Addr>>(
    packet: &P,
    tables: &mut T,
    notes: &mut Notes<F::Addr>,
) -> Result<(), Reason> {
    let Notes { header, flow, .. } = notes;
    *flow = Flow {
        tuple: Tuple {
            source: header.source,
            destination: header.destination,
            protocol: header.protocol,
            ..Tuple::default()
        },
        kind: Kind::Other,
        flags: 0,
        header_len: 8,
        payload: header.payload,
    };
    if header.fragment == Fragment::Later {
        fragment::recall(tables, notes);
        return Ok(());
    }
    match header.protocol {
        TCP => {
            let tcp = packet.view::<20>(header.payload).ok_or(Reason::Malformed)?;
            let header_len = usize::from(tcp[12] >> 4) * 4;
            if header_len < 20 {
                return Err(Reason::Malformed);
            }
            flow.tuple.source_port = u16::from_be_bytes([tcp[0], tcp[1]]);
            flow.tuple.destination_port = u16::from_be_bytes([tcp[2], tcp[3]]);
            flow.kind = Kind::Tcp;
            flow.flags = tcp[13];
            flow.header_len = header_len;
        }
        UDP => {
            let udp = packet.view::<8>(header.payload).ok_or(Reason::Malformed)?;
            flow.tuple.source_port = u16::from_be_bytes([udp[0], udp[1]]);
            flow.tuple.destination_port = u16::from_be_bytes([udp[2], udp[3]]);
            flow.kind = Kind::Udp;
        }
        protocol if protocol == F::ICMP => {
            let icmp = packet.view::<8>(header.payload).ok_or(Reason::Malformed)?;
            match icmp[0] {
                kind if kind == F::ECHO || kind == F::ECHO_REPLY => {
                    flow.tuple.source_port = u16::from_be_bytes([icmp[4], icmp[5]]);
                    flow.tuple.destination_port = flow.tuple.source_port;
                    flow.kind = Kind::Echo;
                }
                kind if F::is_error(kind) => flow.kind = Kind::Error,
                _ => {}
            }
        }
        SCTP => sctp::parse(packet, flow)?,
        _ => {}
    }
    Ok(())
}
