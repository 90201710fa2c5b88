//! tc ingress of the uplink, and the XDP program there: tunnels end, node ports are served, answers find their pods. What
//! is not ours passes untouched.

use netpath_common::{
    abi::{config::Config, endpoint::KIND_POD},
    reason::Reason,
};

use crate::{
    encap, ethernet,
    family::{Address, Family, Fragment, Header},
    flow::{TCP, UDP},
    forward::{Origin, forward},
    packet::{ETHERNET, Packet},
    scratch::Scratch,
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
    let arrived = match frame.ethertype {
        ethernet::IPV4 => arrive::<V4, P, T>(packet, tables, config, &mut scratch.v4.header)?,
        ethernet::IPV6 if super::serves_ipv6(config) => {
            arrive::<V6, P, T>(packet, tables, config, &mut scratch.v6.header)?
        }
        _ => Arrived::Left(Reason::ToStack),
    };
    let (ethertype, origin) = match arrived {
        Arrived::Left(reason) => return Ok(Verdict::Pass(reason)),
        Arrived::Plain => (frame.ethertype, Origin::Wire),
        Arrived::Unwrapped(ethertype) => {
            match ethertype {
                ethernet::IPV4 => V4::parse(packet, &mut scratch.v4.header)?,
                _ => V6::parse(packet, &mut scratch.v6.header)?,
            }
            (ethertype, Origin::Tunnel)
        }
    };
    match ethertype {
        ethernet::IPV4 => forward::<V4, P, T>(packet, tables, config, &mut scratch.v4, &mut scratch.next_hop, origin),
        _ => forward::<V6, P, T>(packet, tables, config, &mut scratch.v6, &mut scratch.next_hop, origin),
    }
}

/// How a packet came.
enum Arrived {
    /// As it is.
    Plain,
    /// In a tunnel, whose headers are off; it is of this EtherType.
    Unwrapped(u16),
    /// It is not for this program.
    Left(Reason),
}

/// Reads the header of a packet, and ends its tunnel if it came through one.
#[inline(always)]
fn arrive<O: Family, P: Packet, T: BothTables + Tables<O::Addr>>(
    packet: &mut P,
    tables: &T,
    config: &Config,
    header: &mut Header<O::Addr>,
) -> Result<Arrived, Reason> {
    O::parse(packet, header)?;
    if is_vxlan::<O, P>(packet, config, header) {
        unwrap::<O, P, T>(packet, tables, config, header)
    } else {
        Ok(Arrived::Plain)
    }
}

#[inline(always)]
fn is_vxlan<O: Family, P: Packet>(packet: &P, config: &Config, header: &Header<O::Addr>) -> bool {
    if header.protocol != UDP || header.destination != O::node(config) {
        return false;
    }
    if header.fragment == Fragment::Later {
        return false;
    }
    match packet.view::<4>(header.payload) {
        Some(ports) => u16::from_be_bytes([ports[2], ports[3]]) == config.vxlan_port,
        None => false,
    }
}

/// Ends the tunnel, if the packet comes from a node.
#[inline(never)]
fn unwrap<O: Family, P: Packet, T: BothTables + Tables<O::Addr>>(
    packet: &mut P,
    tables: &T,
    config: &Config,
    header: &Header<O::Addr>,
) -> Result<Arrived, Reason> {
    // Only the kernel puts fragments together, and steps over options; its vxlan device takes those.
    if header.fragment != Fragment::Whole || header.options {
        return Ok(Arrived::Left(Reason::ToOverlay));
    }
    let vxlan = encap::parse::<O, P>(packet)?;
    // Another network may share the port: its packets are its own device's.
    if vxlan.vni != Some(config.vni) {
        return Ok(Arrived::Left(Reason::ToStack));
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
        && (vxlan.protocol != TCP || vxlan.ethertype == ethernet::IPV6 && !is_for_pod::<O, P, T>(packet, tables)?)
    {
        return Ok(Arrived::Left(Reason::ToOverlay));
    }
    debug_assert_eq!(header.payload, ETHERNET + O::HEADER);
    packet.decapsulate(encap::room::<O>(), vxlan.ethertype)?;
    Ok(Arrived::Unwrapped(vxlan.ethertype))
}

/// Whether a tunnelled IPv6 packet is for a pod of this node.
#[inline(always)]
fn is_for_pod<O: Family, P: Packet, T: BothTables>(packet: &P, tables: &T) -> Result<bool, Reason> {
    let destination = <[u8; 16]>::read(packet, encap::inner::<O>() + V6::DESTINATION)?;
    let endpoint = Tables::<[u8; 16]>::endpoint(tables, destination);
    Ok(endpoint.is_some_and(|endpoint| endpoint.kind == KIND_POD))
}
