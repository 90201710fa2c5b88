//! tc ingress of the vxlan device: the tunnelled packets that the kernel unpacked, because they are UDP yet to be
//! segmented or were fragmented outside.

use netpath_common::{abi::config::Config, reason::Reason};

use crate::{
    ethernet,
    family::Family,
    forward::forward,
    packet::{Packet, Tunnel},
    scratch::Scratch,
    tables::BothTables,
    v4::V4,
    v6::{self, V6},
    verdict::Verdict,
    way::{self, Origin},
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
    if !is_ours(packet, tables, config) {
        return Err(Reason::TunnelFromStranger);
    }
    match ethernet::parse(packet)?.ethertype {
        ethernet::IPV4 => {
            V4::parse(packet, &mut scratch.v4.header)?;
            forward::<V4, P, T>(packet, tables, config, scratch, Origin::Tunnel)
        }
        ethernet::IPV6 if super::serves_ipv6(config) => {
            V6::parse(packet, &mut scratch.v6.header)?;
            forward::<V6, P, T>(packet, tables, config, scratch, Origin::Tunnel)
        }
        _ => Err(Reason::FamilyNotServed),
    }
}

/// Whether a frame came from another node, through a tunnel of this network that ends where other nodes know this one's to end.
/// The kernel ends tunnels at all of the node's addresses; at one that is not the node's for others, a pod's own tunnel could
/// end under the address of the node that the pod is on.
#[inline(never)]
fn is_ours<P: Packet, T: BothTables>(packet: &P, tables: &T, config: &Config) -> bool {
    let Some(Tunnel { sender, end, vni }) = packet.tunnel() else {
        return false;
    };
    vni == config.vni
        && match (v6::mapped(&sender), v6::mapped(&end)) {
            (Some(sender), Some(end)) => end == config.node4 && way::is_node(tables, &sender),
            (None, None) => end == config.node6 && way::is_node(tables, &sender),
            _ => false,
        }
}
