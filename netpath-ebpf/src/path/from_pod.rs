//! tc ingress of a pod's veth: what the pod sends. It is who it says, or goes nowhere.

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

/// Takes a frame from a pod to its verdict.
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
    let port = tables.port(packet.ifindex()).ok_or(Reason::UnknownPort)?;
    if frame.source != port.mac {
        return Err(Reason::SpoofedMac);
    }
    match frame.ethertype {
        ethernet::IPV4 => {
            let header = V4::parse(packet)?;
            if header.source != V4::pod(&port) {
                return Err(Reason::SpoofedAddress);
            }
            if frame.is_multicast() {
                return Ok(Verdict::Pass(Reason::ToStack));
            }
            forward::<V4, P, T>(packet, tables, config, &header, Origin::Pod)
        }
        ethernet::ARP => arp::from_pod(packet, tables, config, &port),
        // Solicitations and reports to groups, which a pod's stack sends unasked: dropped too, or the bridge would flood them.
        ethernet::IPV6 if frame.is_multicast() => Err(Reason::Ipv6Noise),
        ethernet::IPV6 => Err(Reason::FamilyNotServed),
        _ => Ok(Verdict::Pass(Reason::NotIp)),
    }
}
