//! `np_conntrack4`, `np_conntrack6`: the translated connections. An LRU hash from a packet's tuple to what the packet must
//! become. Each connection has two entries, one a direction, a relayed one a single entry; packets that no service and no NAT touches
//! have none.

use super::family::families;

/// A connection was opened, or a datagram sent, and nothing has come back yet.
pub const STATE_NEW: u8 = 0;
/// Packets went both ways.
pub const STATE_ESTABLISHED: u8 = 1;
/// Of TCP both ends sent a FIN, or one a RST; of SCTP one sent an ABORT, SHUTDOWN ACK or SHUTDOWN COMPLETE. Now, and where one
/// end has closed, a new SYN or INIT of the same tuple is a new connection.
pub const STATE_CLOSING: u8 = 2;
/// TCP: who opened the connection sent a FIN, and may still be answered (RFC 9293, section 3.6: half-closed).
pub const STATE_CLIENT_CLOSED: u8 = 3;
/// TCP: who answers sent a FIN, and may still be sent to.
pub const STATE_SERVER_CLOSED: u8 = 4;

/// The entry is of the direction that opened the connection.
pub const DIRECTION_ORIGINAL: u8 = 0;
/// The entry is of the direction that answers.
pub const DIRECTION_REPLY: u8 = 1;
/// The entry is of a connection that is relayed as it is to the node of its backend, which answers by itself: there is no entry
/// of the other direction, and source and ports are the packet's own.
pub const DIRECTION_RELAYED: u8 = 2;

families! {
    /// What identifies a packet's connection and direction. For ICMP echoes both ports are the identifier.
    pub struct Tuple {
        /// Source address.
        pub source: A,
        /// Destination address.
        pub destination: A,
        /// Source port.
        pub source_port: u16,
        /// Destination port.
        pub destination_port: u16,
        /// IP protocol.
        pub protocol: u8,
        /// Zero.
        pub reserved: [u8; 3],
    }
    sizes: 16, 40;

    /// What a packet of the tuple becomes.
    pub struct Connection {
        /// The new source address.
        pub source: A,
        /// The new destination address.
        pub destination: A,
        /// The new source port.
        pub source_port: u16,
        /// The new destination port.
        pub destination_port: u16,
        /// `STATE_*`.
        pub state: u8,
        /// `DIRECTION_*`.
        pub direction: u8,
        /// [`DIRECTION_RELAYED`]: the time to live, or hop limit, that the first packet came with; else 0.
        pub ttl: u8,
        /// Zero.
        pub reserved: u8,
        /// When a packet was last seen, in seconds of the kernel's coarse monotonic clock.
        pub last_seen: u32,
        /// The set of backends that this connection's backend was chosen from; 0 for none.
        pub set: u32,
    }
    sizes: 24, 48;
}
