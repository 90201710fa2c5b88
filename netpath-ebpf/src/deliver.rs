//! The end of every IP packet's way: the frame's addresses, the outer headers, the device.

use netpath_common::{abi::config::Config, reason::Reason};

use crate::{
    ethernet,
    family::Family,
    hash,
    packet::{GSO_BY_FRAGS, Packet},
    scratch::Notes,
    verdict::{NextHop, Verdict},
    way::{End, Origin},
};

/// The last step: the frame's addresses, the outer headers, the device. Between two pods of a node the frame is right already,
/// unless a service changed whom it is for; otherwise it is `readdressed`.
///
/// # Errors
/// [`Reason::NoRoute`], [`Reason::NoEndpoint`] and [`Reason::NoFrontend`] where the way ends at nobody; [`Reason::Malformed`],
/// [`Reason::RewriteFailed`].
#[inline(always)]
pub fn send<F: Family, P: Packet>(
    packet: &mut P,
    config: &Config,
    notes: &Notes<F::Addr>,
    next_hop: &mut NextHop,
    origin: Origin,
    readdressed: bool,
) -> Result<Verdict, Reason> {
    let way = &notes.way;
    Ok(match way.end {
        End::Pod => {
            if readdressed {
                ethernet::readdress(packet, way.mac, config.bridge_mac)?;
            }
            Verdict::Endpoint { ifindex: way.ifindex }
        }
        End::Host => Verdict::Pass(Reason::ToHost),
        End::Direct => {
            *next_hop = F::next_hop(&way.next_hop);
            Verdict::Wire(Reason::ToPeer)
        }
        // No helper makes room for outer headers before SCTP that is yet to be segmented (kernel 6.18). A pod's goes on
        // through the kernel's own tunnel; the node's own was routed here, and would come here again.
        End::Tunnel if packet.gso_size() == GSO_BY_FRAGS => {
            return match origin {
                Origin::Pod => Ok(Verdict::Pass(Reason::ToStack)),
                _ => Err(Reason::RewriteFailed),
            };
        }
        End::Tunnel => {
            into_tunnel::<F, P>(packet, config, notes, next_hop)?;
            Verdict::Wire(Reason::ToTunnel)
        }
        // What no port of this node's answers went to the stack.
        End::Relayed => return Err(Reason::NoRoute),
        End::Vacant => return Err(Reason::NoEndpoint),
        End::Service => return Err(Reason::NoFrontend),
        End::Outside => {
            *next_hop = NextHop::ROUTED;
            Verdict::Wire(Reason::ToOutside)
        }
    })
}

/// Puts a packet into the tunnel that its way is.
///
/// # Errors
/// [`Reason::Malformed`], [`Reason::RewriteFailed`].
#[inline(always)]
pub fn into_tunnel<F: Family, P: Packet>(
    packet: &mut P,
    config: &Config,
    notes: &Notes<F::Addr>,
    next_hop: &mut NextHop,
) -> Result<(), Reason> {
    let hash = hash::tuple(&notes.flow.tuple, config.hash_seed);
    *next_hop = F::next_hop(&notes.way.next_hop);
    F::wrap(packet, config, &notes.way.node, hash)
}
