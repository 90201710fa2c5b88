//! tc egress of the bridge: what the node's stack sends to its pods and to services. The bridge delivers to the pods by
//! itself; services are translated here.

use netpath_common::{abi::config::Config, reason::Reason};

use crate::{
    arp, ethernet, family::Family, forward::forward, neighbour, packet::Packet, scratch::Scratch, tables::BothTables,
    v4::V4, v6::V6, verdict::Verdict, way::Origin,
};

/// Takes a frame from the node to its verdict.
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
    match frame.ethertype {
        ethernet::IPV4 if !frame.is_multicast() => {
            V4::parse(packet, &mut scratch.v4.header)?;
            forward::<V4, P, T>(packet, tables, config, scratch, Origin::Host)
        }
        ethernet::ARP => arp::from_host(packet, tables, config),
        ethernet::IPV6 => {
            V6::parse(packet, &mut scratch.v6.header)?;
            if neighbour::is_message(packet, &scratch.v6.header) {
                return neighbour::from_host(packet, tables, config, scratch).verdict();
            }
            if frame.is_multicast() {
                return Ok(Verdict::Pass(Reason::ToStack));
            }
            forward::<V6, P, T>(packet, tables, config, scratch, Origin::Host)
        }
        _ => Ok(Verdict::Pass(Reason::ToStack)),
    }
}
