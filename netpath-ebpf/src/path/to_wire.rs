//! tc egress of the uplink and of the vxlan device: what the node's stack sends out. Packets that another hook sent here
//! are done already and do not come this far.

use netpath_common::reason::Reason;

use super::to_pod::answer_of_stack;
use crate::{packet::Packet, scratch::Scratch, tables::BothTables, verdict::Verdict};

/// Takes a frame that leaves the node to its verdict.
#[inline(always)]
pub fn run<P: Packet, T: BothTables>(packet: &mut P, tables: &mut T, scratch: &mut Scratch) -> Verdict {
    super::verdict(steps(packet, tables, scratch))
}

#[inline(always)]
fn steps<P: Packet, T: BothTables>(packet: &mut P, tables: &mut T, scratch: &mut Scratch) -> Result<Verdict, Reason> {
    answer_of_stack(packet, tables, scratch)?;
    Ok(Verdict::Pass(Reason::ToStack))
}
