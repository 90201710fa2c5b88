//! tc egress of the uplink and of the vxlan device: what the node's stack sends out. Packets that another hook sent here
//! are done already and do not come this far.

use netpath_common::reason::Reason;

use super::to_pod::answer;
use crate::{ethernet, packet::Packet, tables::Tables, v4::V4, verdict::Verdict};

/// Takes a frame that leaves the node to its verdict.
#[inline(always)]
pub fn run<P: Packet, T: Tables<[u8; 4]>>(packet: &mut P, tables: &mut T) -> Verdict<[u8; 4]> {
    super::verdict(steps(packet, tables))
}

#[inline(always)]
fn steps<P: Packet, T: Tables<[u8; 4]>>(packet: &mut P, tables: &mut T) -> Result<Verdict<[u8; 4]>, Reason> {
    if ethernet::parse(packet)?.ethertype == ethernet::IPV4 {
        answer::<V4, P, T>(packet, tables)?;
    }
    Ok(Verdict::Pass(Reason::ToStack))
}
