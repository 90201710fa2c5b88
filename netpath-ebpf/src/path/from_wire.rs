//! tc ingress of the uplink, and the XDP program there: tunnels end, node ports are served, answers find their pods. What
//! is not ours passes untouched.

use netpath_common::{abi::config::Config, reason::Reason};

use crate::{
    encap, ethernet,
    family::{Family, Fragment, Header},
    flow::UDP,
    forward::{Origin, forward},
    packet::{ETHERNET, Packet},
    tables::Tables,
    v4::V4,
    verdict::Verdict,
    way,
};

/// Takes a frame from the wire to its verdict.
#[inline(always)]
pub fn run<P: Packet, T: Tables<[u8; 4]>>(packet: &mut P, tables: &mut T, config: &Config) -> Verdict<[u8; 4]> {
    super::verdict(steps(packet, tables, config))
}

#[inline(always)]
fn steps<P: Packet, T: Tables<[u8; 4]>>(
    packet: &mut P,
    tables: &mut T,
    config: &Config,
) -> Result<Verdict<[u8; 4]>, Reason> {
    let frame = ethernet::parse(packet)?;
    if frame.ethertype != ethernet::IPV4 || frame.destination != config.uplink_mac {
        return Ok(Verdict::Pass(Reason::ToStack));
    }
    let mut header = V4::parse(packet)?;
    let mut origin = Origin::Wire;
    if is_vxlan(packet, config, &header) {
        match unwrap(packet, tables, config, &header)? {
            Unwrapped::Left(reason) => return Ok(Verdict::Pass(reason)),
            Unwrapped::Done => {}
        }
        header = V4::parse(packet)?;
        origin = Origin::Tunnel;
    }
    forward::<V4, P, T>(packet, tables, config, &header, origin)
}

/// What became of a tunnelled packet.
enum Unwrapped {
    /// Its outer headers are off.
    Done,
    /// It is not for this program.
    Left(Reason),
}

#[inline(always)]
fn is_vxlan<P: Packet>(packet: &P, config: &Config, header: &Header<[u8; 4]>) -> bool {
    if header.protocol != UDP || header.destination != config.node4 {
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
#[inline(always)]
fn unwrap<P: Packet, T: Tables<[u8; 4]>>(
    packet: &mut P,
    tables: &T,
    config: &Config,
    header: &Header<[u8; 4]>,
) -> Result<Unwrapped, Reason> {
    // Only the kernel puts fragments together, and steps over options; its vxlan device takes those.
    if header.fragment != Fragment::Whole || header.options {
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
    if vxlan.ethertype != ethernet::IPV4 {
        return Err(Reason::FamilyNotServed);
    }
    // Taking the headers off by hand leaves the marks of a tunnel on a packet that is yet to be segmented. TCP does not
    // mind; UDP is then lost without a trace, so the vxlan device must take it (kernel 6.18).
    if packet.gso_size() != 0 && vxlan.protocol == UDP {
        return Ok(Unwrapped::Left(Reason::ToOverlay));
    }
    debug_assert_eq!(header.payload, ETHERNET + crate::ipv4::HEADER);
    packet.decapsulate()?;
    Ok(Unwrapped::Done)
}
