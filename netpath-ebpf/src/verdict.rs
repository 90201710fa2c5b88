//! What becomes of a packet: the end of every way. The hook that ran the steps turns it into what its kernel asks for.

use netpath_common::reason::Reason;

/// The end of a packet's way, with the reason that is counted. `A` is the address type of the underlay.
///
/// The layout is fixed so that all variants have a word in the same place: the compiler then keeps a verdict in registers.
/// Otherwise it copies one by words, some of them never written, and the verifier refuses such a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Verdict<A> {
    /// Go on into the node's stack, as if no program had been there.
    Pass(Reason),
    /// Throw the packet away.
    Drop(Reason),
    /// Into the pod behind a bridge port: `bpf_redirect_peer` where the hook may, else out of that port.
    Endpoint {
        /// The port.
        ifindex: u32,
    },
    /// Out of the uplink; the kernel's neighbour table gives the MAC address.
    Wire {
        /// `ToPeer`, `ToTunnel` or `ToOutside`.
        reason: Reason,
        /// The next hop; all zero lets the kernel's routes decide.
        next_hop: A,
    },
    /// Back out of the device it came from; the frame's addresses are turned already.
    Bounce(Reason),
}

impl<A> Verdict<A> {
    /// The reason to count.
    #[inline(always)]
    pub fn reason(&self) -> Reason {
        match self {
            Verdict::Pass(reason) | Verdict::Drop(reason) | Verdict::Bounce(reason) => *reason,
            Verdict::Wire { reason, .. } => *reason,
            Verdict::Endpoint { .. } => Reason::ToEndpoint,
        }
    }
}
