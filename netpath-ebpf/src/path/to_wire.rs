//! tc egress of the uplink and of the vxlan device: what the node's stack sends out. Packets that another hook sent here
//! are done already and do not come this far.

use netpath_common::reason::Reason;

use crate::{
    conntrack, ethernet,
    family::{Family, Fragment},
    flow::{self, Kind},
    fragment, icmp_quote,
    nat::{self, Target},
    packet::Packet,
    scratch::{Notes, Scratch},
    tables::{BothTables, Tables},
    v4::V4,
    v6::V6,
    verdict::Verdict,
};

/// Takes a frame that leaves the node to its verdict.
#[inline(always)]
pub fn run<P: Packet, T: BothTables>(packet: &mut P, tables: &mut T, scratch: &mut Scratch) -> Verdict {
    super::verdict(steps(packet, tables, scratch))
}

/// A backend on the node's own network answers through its stack.
#[inline(always)]
fn steps<P: Packet, T: BothTables>(packet: &mut P, tables: &mut T, scratch: &mut Scratch) -> Result<Verdict, Reason> {
    match ethernet::parse(packet)?.ethertype {
        _ if packet.vlan() != 0 => {}
        ethernet::IPV4 => answer::<V4, P, T>(packet, tables, &mut scratch.v4)?,
        ethernet::IPV6 => answer::<V6, P, T>(packet, tables, &mut scratch.v6)?,
        _ => {}
    }
    Ok(Verdict::Pass(Reason::ToStack))
}

/// Gives an answer of the stack, if it belongs to a translated connection, the addresses that its receiver expects.
#[inline(always)]
fn answer<F: Family, P: Packet, T: Tables<F::Addr>>(
    packet: &mut P,
    tables: &mut T,
    notes: &mut Notes<F::Addr>,
) -> Result<(), Reason> {
    F::parse(packet, &mut notes.header)?;
    flow::parse::<F, P, T>(packet, tables, notes)?;
    if notes.header.fragment == Fragment::First {
        fragment::remember::<F, T>(tables, notes);
    }
    notes.to = notes.flow.tuple;
    tables.settle(notes);
    let translated = match notes.flow.kind {
        Kind::Other | Kind::LostTail => false,
        Kind::Error => match icmp_quote::translate::<F, P, T>(packet, tables, notes) {
            Target::Drop(reason) => return Err(reason),
            target => target == Target::New,
        },
        Kind::Tcp | Kind::Sctp | Kind::Udp | Kind::Echo | Kind::Tail => conntrack::find(tables, notes) == Target::New,
    };
    // The stack has chosen the way by the destination: only the source may still change.
    if translated && notes.to.destination == notes.flow.tuple.destination {
        nat::rewrite::<F, P, T>(packet, tables, notes)?;
    }
    Ok(())
}
