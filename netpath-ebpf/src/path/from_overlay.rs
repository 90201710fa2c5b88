//! tc ingress of the vxlan device: the tunnelled packets that the kernel unpacked, because they are UDP yet to be
//! segmented or were fragmented outside.

use netpath_common::{abi::config::Config, reason::Reason};

use crate::{
    ethernet,
    family::Family,
    forward::{Origin, forward},
    packet::Packet,
    tables::Tables,
    v4::V4,
    verdict::Verdict,
    way,
};

/// Takes an unpacked frame to its verdict.
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
    match packet.tunnel() {
        Some((sender, vni)) if vni == config.vni && way::is_node(tables, sender) => {}
        _ => return Err(Reason::TunnelFromStranger),
    }
    if ethernet::parse(packet)?.ethertype != ethernet::IPV4 {
        return Err(Reason::FamilyNotServed);
    }
    let header = V4::parse(packet)?;
    forward::<V4, P, T>(packet, tables, config, &header, Origin::Tunnel)
}
