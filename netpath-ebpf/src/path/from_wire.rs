//! tc ingress of the uplink, and the XDP program there: tunnels end, node ports are served, answers find their pods. What
//! is not ours passes untouched.

use netpath_common::{
    abi::{config::Config, endpoint::KIND_POD},
    reason::Reason,
};

use crate::{
    encap, ethernet,
    family::{Address, Family, Fragment, Header},
    flow::{self, TCP, UDP},
    forward::{Origin, forward},
    fragment,
    packet::{ETHERNET, Packet},
    scratch::{Notes, Scratch},
    tables::{BothTables, Tables},
    v4::V4,
    v6::V6,
    verdict::Verdict,
    way,
};

/// Takes a frame from the wire to its verdict.
#[inline(always)]
pub fn run<P: Packet, T: BothTables>(
    packet: &mut P,
    tables: &mut T,
    config: &Config,
    scratch: &mut Scratch,
) -> Verdict {
    super::verdict(steps(packet, tables, config, scratch))
}

#[inline(always)]
fn steps<P: Packet, T: BothTables>(
    packet: &mut P,
    tables: &mut T,
    config: &Config,
    scratch: &mut Scratch,
) -> Result<Verdict, Reason> {
    let frame = ethernet::parse(packet)?;
    if frame.destination != config.uplink_mac {
        return Ok(Verdict::Pass(Reason::ToStack));
    }
    let mut ethertype = frame.ethertype;
    let mut origin = Origin::Wire;
    if ethertype == ethernet::IPV4 {
        V4::parse(packet, &mut scratch.v4.header)?;
        if is_vxlan(packet, config, &scratch.v4.header) {
            match unwrap(packet, tables, config, scratch)? {
                Unwrapped::Left(reason) => return Ok(Verdict::Pass(reason)),
                Unwrapped::Ended(verdict) => return Ok(verdict),
                Unwrapped::Done => {}
            }
            ethertype = ethernet::parse(packet)?.ethertype;
            origin = Origin::Tunnel;
            if ethertype == ethernet::IPV4 {
                V4::parse(packet, &mut scratch.v4.header)?;
            }
        }
    }
    match ethertype {
        ethernet::IPV4 => forward::<V4, P, T>(packet, tables, config, &mut scratch.v4, &mut scratch.next_hop, origin),
        ethernet::IPV6 if super::serves_ipv6(config) => {
            V6::parse(packet, &mut scratch.v6.header)?;
            forward::<V6, P, T>(packet, tables, config, &mut scratch.v6, &mut scratch.next_hop, origin)
        }
        _ => Ok(Verdict::Pass(Reason::ToStack)),
    }
}

/// What became of a tunnelled packet.
enum Unwrapped {
    /// Its outer headers are off.
    Done,
    /// It is not for this program.
    Left(Reason),
    /// It goes no further here.
    Ended(Verdict),
}

#[inline(always)]
fn is_vxlan<P: Packet>(packet: &P, config: &Config, header: &Header<[u8; 4]>) -> bool {
    if header.protocol != UDP || header.destination != config.node4 {
        return false;
    }
    // Only the kernel puts fragments together. They go to its stack as others do that are for the node: the later ones wait for
    // the first, which must be met for that.
    if header.fragment != Fragment::Whole {
        return false;
    }
    match packet.view::<4>(header.payload) {
        Some(ports) => u16::from_be_bytes([ports[2], ports[3]]) == config.vxlan_port,
        None => false,
    }
}

/// Ends the tunnel, if the packet comes from a node.
#[inline(always)]
fn unwrap<P: Packet, T: BothTables>(
    packet: &mut P,
    tables: &mut T,
    config: &Config,
    scratch: &mut Scratch,
) -> Result<Unwrapped, Reason> {
    let header = &scratch.v4.header;
    // Only the kernel steps over options; its vxlan device takes such packets.
    if header.options {
        return Ok(Unwrapped::Left(Reason::ToOverlay));
    }
    let vxlan = encap::parse(packet)?;
    // Another network may share the port: its packets are its own device's.
    if vxlan.vni != Some(config.vni) {
        return Ok(Unwrapped::Left(Reason::ToStack));
    }
    if !way::is_node(tables, header.source) {
        return Err(Reason::TunnelFromStranger);
    }
    match vxlan.ethertype {
        ethernet::IPV4 => {}
        ethernet::IPV6 if super::serves_ipv6(config) => {}
        _ => return Err(Reason::FamilyNotServed),
    }
    // Taking the headers off by hand leaves the marks of a tunnel on a packet that is yet to be segmented. TCP does not
    // mind; UDP is then lost without a trace, so the vxlan device must take it, and off SCTP no helper takes them (kernel
    // 6.18). So it must what may go out of one tunnel into another over IPv6: with those marks it cannot be wrapped again.
    if packet.gso_size() != 0
        && (vxlan.protocol != TCP || vxlan.ethertype == ethernet::IPV6 && !is_for_pod(packet, tables)?)
    {
        return Ok(Unwrapped::Left(Reason::ToOverlay));
    }
    debug_assert_eq!(header.payload, ETHERNET + crate::ipv4::HEADER);
    if vxlan.fragment {
        let ended = match vxlan.ethertype {
            ethernet::IPV4 => meet::<V4, P, T>(packet, tables, config, &mut scratch.v4),
            _ => meet::<V6, P, T>(packet, tables, config, &mut scratch.v6),
        };
        if let Some(reason) = ended {
            return fragment::ended(reason).map(Unwrapped::Ended);
        }
    }
    packet.decapsulate(vxlan.ethertype)?;
    Ok(Unwrapped::Done)
}

/// Why a tunnelled fragment goes no further, if it does not. It is held, and comes in anew, with its outer headers: they say
/// where it is from. One that is malformed is found so once they are off.
#[inline(always)]
fn meet<F: Family, P: Packet, T: Tables<F::Addr>>(
    packet: &mut P,
    tables: &mut T,
    config: &Config,
    notes: &mut Notes<F::Addr>,
) -> Option<Reason> {
    // Calls one after the other, so that their stacks do not add up.
    read_inner::<F, P, T>(packet, tables, notes).ok()?;
    fragment::meet::<F, P, T>(packet, tables, config, notes, Origin::Tunnel)
}

/// Notes header and flow of a tunnelled packet.
#[inline(never)]
fn read_inner<F: Family, P: Packet, T: Tables<F::Addr>>(
    packet: &P,
    tables: &mut T,
    notes: &mut Notes<F::Addr>,
) -> Result<(), Reason> {
    F::parse_at::<{ encap::INNER + ETHERNET }, P>(packet, &mut notes.header)?;
    flow::parse::<F, P, T>(packet, tables, notes)
}

/// Whether a tunnelled IPv6 packet is for a pod of this node.
#[inline(always)]
fn is_for_pod<P: Packet, T: BothTables>(packet: &P, tables: &T) -> Result<bool, Reason> {
    let destination = <[u8; 16]>::read(packet, encap::INNER + ETHERNET + V6::DESTINATION)?;
    let endpoint = Tables::<[u8; 16]>::endpoint(tables, destination);
    Ok(endpoint.is_some_and(|endpoint| endpoint.kind == KIND_POD))
}
