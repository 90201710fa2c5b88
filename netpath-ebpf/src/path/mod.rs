//! The hooks, each as the list of steps that a packet, or a socket's call, takes there. Every `run` ends in a verdict.

pub mod from_host;
pub mod from_overlay;
pub mod from_pod;
pub mod from_socket;
pub mod from_wire;
pub mod to_socket;
pub mod to_wire;

use netpath_common::{abi::config::Config, reason::Reason};

use crate::verdict::Verdict;

/// A step that failed is a drop, with the step's reason.
#[inline(always)]
fn verdict(steps: Result<Verdict, Reason>) -> Verdict {
    match steps {
        Ok(verdict) => verdict,
        Err(reason) => Verdict::Drop(reason),
    }
}

/// Whether the node's pods have IPv6 addresses.
#[inline(always)]
fn serves_ipv6(config: &Config) -> bool {
    config.gateway6 != [0; 16]
}
