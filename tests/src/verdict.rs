//! A verdict with all that belongs to it, so that it can be compared as one value.

use netpath_common::reason::Reason;
use netpath_ebpf::{
    scratch::Scratch,
    verdict::{self, NextHop},
};

/// What became of a packet, as [`verdict::Verdict`] has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// On into the node's stack.
    Pass(Reason),
    /// Thrown away.
    Drop(Reason),
    /// Into the pod behind a bridge port.
    Endpoint {
        /// The port.
        ifindex: u32,
    },
    /// Out of the uplink.
    Wire {
        /// Why.
        reason: Reason,
        /// The next hop.
        next_hop: NextHop,
    },
    /// No further here.
    Kept(Reason),
    /// Back out of the device it came from.
    Bounce(Reason),
}

impl Verdict {
    /// A verdict, and what was noted on the way to it.
    pub fn new(verdict: verdict::Verdict, scratch: &Scratch) -> Self {
        match verdict {
            verdict::Verdict::Pass(reason) => Self::Pass(reason),
            verdict::Verdict::Drop(reason) => Self::Drop(reason),
            verdict::Verdict::Endpoint { ifindex } => Self::Endpoint { ifindex },
            verdict::Verdict::Wire(reason) => Self::Wire {
                reason,
                next_hop: scratch.next_hop,
            },
            verdict::Verdict::Kept(reason) => Self::Kept(reason),
            verdict::Verdict::Bounce(reason) => Self::Bounce(reason),
        }
    }

    /// The reason that is counted.
    pub fn reason(&self) -> Reason {
        match *self {
            Self::Pass(reason)
            | Self::Drop(reason)
            | Self::Kept(reason)
            | Self::Bounce(reason)
            | Self::Wire { reason, .. } => reason,
            Self::Endpoint { .. } => Reason::ToEndpoint,
        }
    }
}
