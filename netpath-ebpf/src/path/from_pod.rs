//! tc ingress of a pod's veth: what the pod sends. It is who it says, or goes nowhere.

use netpath_common::{
    abi::{bridge::Port, config::Config},
    reason::Reason,
};

use crate::{
    arp, ethernet,
    family::{Address, Family, Header},
    forward::forward,
    neighbour,
    packet::Packet,
    scratch::Scratch,
    tables::{BothTables, Tables},
    v4::V4,
    v6::V6,
    verdict::Verdict,
    way::Origin,
};

/// Takes a frame from a pod to its verdict.
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
    scratch.port = Tables::<[u8; 4]>::port(tables, packet.ifindex()).ok_or(Reason::UnknownPort)?;
    if frame.source != scratch.port.mac {
        return Err(Reason::SpoofedMac);
    }
    // Its tag would leave with it, into whatever VLAN the pod likes.
    if packet.vlan() != 0 {
        return Err(Reason::VlanFromPod);
    }
    match frame.ethertype {
        ethernet::IPV4 => {
            V4::parse(packet, &mut scratch.v4.header)?;
            match check::<V4>(&frame, &scratch.v4.header, &scratch.port)? {
                Checked::Group => Ok(Verdict::Pass(Reason::ToStack)),
                Checked::Host => forward::<V4, P, T>(packet, tables, config, scratch, Origin::Pod),
            }
        }
        ethernet::ARP => arp::from_pod(packet, tables, config, &scratch.port),
        ethernet::IPV6 if scratch.port.address6 == [0; 16] => Err(if frame.is_multicast() {
            Reason::Ipv6Noise
        } else {
            Reason::FamilyNotServed
        }),
        ethernet::IPV6 => {
            V6::parse(packet, &mut scratch.v6.header)?;
            if neighbour::is_message(packet, &scratch.v6.header) {
                return neighbour::from_pod(packet, tables, config, scratch).verdict();
            }
            let header = &scratch.v6.header;
            // Reports of groups, which come from addresses of the link or from none.
            let report = header.protocol == V6::ICMP && header.destination.is_multicast();
            if report && header.source != scratch.port.address6 {
                return Err(Reason::Ipv6Noise);
            }
            match check::<V6>(&frame, header, &scratch.port)? {
                Checked::Group => Ok(Verdict::Pass(Reason::ToStack)),
                Checked::Host => forward::<V6, P, T>(packet, tables, config, scratch, Origin::Pod),
            }
        }
        // A tag behind a tag is one: receivers take one off after the other, and find IP that nobody has looked at
        // (CVE-2021-27853).
        _ => Err(Reason::NotIp),
    }
}

/// Whom a pod's packet is for.
enum Checked {
    /// A group, or all.
    Group,
    /// One host.
    Host,
}

/// Checks the addresses of a pod's packet.
#[inline(always)]
fn check<F: Family>(frame: &ethernet::Header, header: &Header<F::Addr>, port: &Port) -> Result<Checked, Reason> {
    if header.source != F::pod(port) {
        return Err(Reason::SpoofedAddress);
    }
    if frame.is_multicast() {
        return Ok(Checked::Group);
    }
    if header.destination.is_of_link() {
        return Err(Reason::NoRoute);
    }
    Ok(Checked::Host)
}
