//! tc egress of a pod's veth: what the node's stack and the bridge send to the pod. Packets that another hook delivers
//! with `bpf_redirect_peer` do not come by here.

use netpath_common::reason::Reason;

use crate::{
    conntrack, ethernet,
    family::Family,
    flow::{self, Kind},
    icmp_quote,
    nat::{self, Target},
    packet::Packet,
    tables::Tables,
    v4::V4,
    verdict::Verdict,
};

/// Takes a frame to a pod to its verdict.
#[inline(always)]
pub fn run<P: Packet, T: Tables<[u8; 4]>>(packet: &mut P, tables: &mut T) -> Verdict<[u8; 4]> {
    super::verdict(steps(packet, tables))
}

#[inline(always)]
fn steps<P: Packet, T: Tables<[u8; 4]>>(packet: &mut P, tables: &mut T) -> Result<Verdict<[u8; 4]>, Reason> {
    if ethernet::parse(packet)?.ethertype == ethernet::IPV4 {
        answer::<V4, P, T>(packet, tables)?;
    }
    Ok(Verdict::Pass(Reason::ToEndpoint))
}

/// Gives an answer of the stack, if it belongs to a translated connection, the addresses that its receiver expects: a
/// backend on the node's own network answers through its stack.
///
/// # Errors
/// [`Reason::Malformed`], [`Reason::RewriteFailed`].
#[inline(always)]
pub(super) fn answer<F: Family, P: Packet, T: Tables<F::Addr>>(packet: &mut P, tables: &mut T) -> Result<(), Reason> {
    let header = F::parse(packet)?;
    let flow = flow::parse::<F, P, T>(packet, tables, &header)?;
    let mut to = flow.tuple;
    let translated = match flow.kind {
        Kind::Other | Kind::LostTail => false,
        Kind::Error => match icmp_quote::translate::<F, P, T>(packet, tables, &flow, &mut to) {
            Target::Drop(reason) => return Err(reason),
            target => target == Target::New,
        },
        Kind::Tcp | Kind::Udp | Kind::Echo | Kind::Tail => conntrack::find(tables, &flow, &mut to),
    };
    // The stack has chosen the way by the destination: only the source may still change.
    if translated && to.destination == flow.tuple.destination {
        nat::rewrite::<F, P>(packet, &flow, &to)?;
    }
    Ok(())
}
