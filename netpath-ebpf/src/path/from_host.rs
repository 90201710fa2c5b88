//! tc egress of the bridge: what the node's stack sends to its pods and to services. The bridge delivers to the pods by
//! itself; services are translated here.

use netpath_common::{abi::config::Config, reason::Reason};

use crate::{
    arp, ethernet,
    family::Family,
    forward::{Origin, forward},
    packet::Packet,
    tables::Tables,
    v4::V4,
    verdict::Verdict,
};

/// Takes a frame from the node to its verdict.
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
    match frame.ethertype {
        ethernet::IPV4 if !frame.is_multicast() => {
            let header = V4::parse(packet)?;
            forward::<V4, P, T>(packet, tables, config, &header, Origin::Host)
        }
        ethernet::ARP => arp::from_host(packet, tables, config),
        _ => Ok(Verdict::Pass(Reason::ToStack)),
    }
}
