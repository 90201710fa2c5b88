//! The hooks, each as the list of steps that a packet, or a socket's call, takes there. Every `run` ends in a verdict.

pub mod from_host;
pub mod from_overlay;
pub mod from_pod;
pub mod from_socket;
pub mod from_wire;
pub mod to_pod;
pub mod to_socket;
pub mod to_wire;

use netpath_common::reason::Reason;

use crate::verdict::Verdict;

/// A step that failed is a drop, with the step's reason.
#[inline(always)]
fn verdict<A>(steps: Result<Verdict<A>, Reason>) -> Verdict<A> {
    match steps {
        Ok(verdict) => verdict,
        Err(reason) => Verdict::Drop(reason),
    }
}
