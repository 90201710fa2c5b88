//! tc ingress of the vxlan device: the tunnelled packets that the kernel unpacked, because they are UDP yet to be
//! segmented or were fragmented outside.

use netpath_common::{abi::config::Config, reason::Reason};

use crate::{
    ethernet,
    family::Family,
    forward::{Origin, forward},
    packet::Packet,
    scratch::Scratch,
    tables::BothTables,
    v4::V4,
    v6::V6,
    verdict::Verdict,
    way,
};

/// Takes an unpacked frame to its verdict.
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
    match packet.tunnel() {
        Some((sender, vni)) if vni == config.vni && way::is_node(tables, sender) => {}
        _ => return Err(Reason::TunnelFromStranger),
    }
    match ethernet::parse(packet)?.ethertype {
        ethernet::IPV4 => {
            V4::parse(packet, &mut scratch.v4.header)?;
            forward::<V4, P, T>(
                packet,
                tables,
                config,
                &mut scratch.v4,
                &mut scratch.next_hop,
                Origin::Tunnel,
            )
        }
        ethernet::IPV6 if super::serves_ipv6(config) => {
            V6::parse(packet, &mut scratch.v6.header)?;
            forward::<V6, P, T>(
                packet,
                tables,
                config,
                &mut scratch.v6,
                &mut scratch.next_hop,
                Origin::Tunnel,
            )
        }
        _ => Err(Reason::FamilyNotServed),
    }
}
