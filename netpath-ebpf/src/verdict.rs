//! What becomes of a packet: the end of every way. The hook that ran the steps turns it into what its kernel asks for.

use netpath_common::reason::Reason;

/// Whom the uplink's frame is for: a neighbour whose MAC address the kernel knows or finds out. All fields have a value for
/// every family, and the
/// address is aligned, so that it is copied by words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(4))]
pub struct NextHop {
    /// The family of its address.
    pub family: Neighbour,
    /// The address: of IPv4 the first four bytes, and zeros.
    pub address: [u8; 16],
}

/// The kinds of neighbours, by the numbers of their address families (`AF_INET`, `AF_INET6`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Neighbour {
    /// The one that the kernel's routes name for the packet.
    #[default]
    Routed,
    /// One with an IPv4 address.
    V4 = 2,
    /// One with an IPv6 address.
    V6 = 10,
}

impl NextHop {
    /// The kernel's routes decide.
    pub const ROUTED: Self = Self {
        family: Neighbour::Routed,
        address: [0; 16],
    };

    /// An IPv4 neighbour; all zero lets the kernel's routes decide.
    #[inline(always)]
    pub fn v4(address: [u8; 4]) -> Self {
        let [a, b, c, d] = address;
        Self {
            family: if address == [0; 4] {
                Neighbour::Routed
            } else {
                Neighbour::V4
            },
            address: [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        }
    }

    /// An IPv6 neighbour; all zero lets the kernel's routes decide.
    #[inline(always)]
    pub fn v6(address: [u8; 16]) -> Self {
        Self {
            family: if address == [0; 16] {
                Neighbour::Routed
            } else {
                Neighbour::V6
            },
            address,
        }
    }
}

/// The end of a packet's way, with the reason that is counted.
///
/// The layout is fixed so that all variants have a word in the same place: the compiler then keeps a verdict in registers.
/// Otherwise it copies one by words, some of them never written, and the verifier refuses such a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Verdict {
    /// Go on into the node's stack, as if no program had been there.
    Pass(Reason),
    /// Throw the packet away.
    Drop(Reason),
    /// Into the pod behind a bridge port: `bpf_redirect_peer` where the hook may, else out of that port.
    Endpoint {
        /// The port.
        ifindex: u32,
    },
    /// Out of the uplink, to the next hop that is noted in [`crate::scratch`]: `ToPeer`, `ToTunnel` or `ToOutside`.
    Wire(Reason),
    /// No further here: it is held, or was taken in anew. A program that can do neither leaves it to the next.
    Kept(Reason),
    /// Back out of the device it came from; the frame's addresses are turned already.
    Bounce(Reason),
}

impl Verdict {
    /// The reason to count.
    #[inline(always)]
    pub fn reason(&self) -> Reason {
        match self {
            Verdict::Pass(reason)
            | Verdict::Drop(reason)
            | Verdict::Wire(reason)
            | Verdict::Kept(reason)
            | Verdict::Bounce(reason) => *reason,
            Verdict::Endpoint { .. } => Reason::ToEndpoint,
        }
    }
}
