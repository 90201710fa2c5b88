//! What a packet's sender is told that goes no further: which answer it gets, if any, from whom, and by which way.

use netpath_common::{abi::config::Config, reason::Reason};

use crate::{
    deliver::into_tunnel,
    family::{Complaint, Family, Fragment},
    flow::{Kind, TCP},
    icmp,
    packet::Packet,
    reset,
    scratch::Notes,
    tables::Tables,
    verdict::{NextHop, Verdict},
    way::{self, End, Origin},
};

/// Answers with an ICMP error where that is allowed (RFC 1122, section 3.2.2; RFC 4443, section 2.4): not about an error, not
/// about a later fragment. Who finds nobody on a port of TCP gets a reset, but for packets with options. A refusal is from whom
/// the packet was for, what is wrong on its way from this node, and it says `mtu` of the packets that pass; to what came through a
/// tunnel the answer goes through the one that leads to the sender.
///
/// # Errors
/// Where it is not allowed, the reason of a silent drop; [`Reason::Malformed`], [`Reason::RewriteFailed`].
#[inline(always)]
pub fn answer<F: Family, P: Packet, T: Tables<F::Addr>>(
    packet: &mut P,
    tables: &mut T,
    config: &Config,
    notes: &mut Notes<F::Addr>,
    next_hop: &mut NextHop,
    origin: Origin,
    (complaint, mtu): (Complaint, u16),
) -> Result<Verdict, Reason> {
    let (reason, silent) = match complaint {
        Complaint::TooBig => (Reason::TooBig, Reason::TooBigSilent),
        Complaint::Expired => (Reason::Expired, Reason::ExpiredSilent),
        Complaint::PortUnreachable => (Reason::Refused, Reason::RefusedSilent),
    };
    let later = notes.header.fragment == Fragment::Later;
    let reset = complaint == Complaint::PortUnreachable && notes.header.protocol == TCP;
    if notes.flow.kind == Kind::Error || later || reset && notes.header.options {
        return Err(silent);
    }
    notes.to.source = match complaint {
        Complaint::PortUnreachable => notes.flow.tuple.destination,
        Complaint::TooBig | Complaint::Expired => speaker::<F>(config, origin),
    };
    notes.to.destination = notes.flow.tuple.source;
    way::find::<F, T>(tables, config, notes);
    if origin == Origin::Tunnel && notes.way.end != End::Tunnel {
        return Err(silent);
    }
    if reset {
        reset::answer::<F, P>(packet, notes)?;
    } else {
        icmp::complain::<F, P, T>(packet, tables, notes, complaint, mtu)?;
    }
    if origin != Origin::Tunnel {
        return Ok(Verdict::Bounce(reason));
    }
    into_tunnel::<F, P>(packet, config, notes, next_hop)?;
    Ok(Verdict::Wire(reason))
}

/// The address under which this node complains.
#[inline(always)]
fn speaker<F: Family>(config: &Config, origin: Origin) -> F::Addr {
    match origin {
        Origin::Pod | Origin::Host => F::gateway(config),
        Origin::Wire | Origin::Tunnel => F::node(config),
    }
}
