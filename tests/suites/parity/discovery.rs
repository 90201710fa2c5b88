//! Frames that ask for neighbours, by name: what one family alone has.

use etherparse::Icmpv6Type;
use netpath_common::hook::Hook;
use netpath_tests::frame::{Frame, arp};

use super::{Visit, named::visit};
use crate::logic::node::{BRIDGE, GATEWAY, MAC_A, MAC_BRIDGE, POD_A, POD_B, PORT_A, WEB, six};

/// ARP's, and those of neighbour discovery.
pub fn discovery() -> Vec<(&'static str, Visit)> {
    let from_pod = |frame: Vec<u8>| visit(Hook::FromPod, PORT_A, frame);
    let solicits = |frame: Frame, source: [u8; 16], target: [u8; 16]| {
        let option = [&[1, 1][..], &frame.from].concat();
        let payload = [&target[..], &option].concat();
        frame
            .ttl(255)
            .icmp(source, solicited(target), Icmpv6Type::NeighborSolicitation, &payload)
    };
    let group = Frame::new(MAC_A, [0x33, 0x33, 0xff, 0, 0, 1]);
    let from_host = Frame::new(MAC_BRIDGE, [0x33, 0x33, 0xff, 0, 0, 1]);
    vec![
        (
            "ARP for the gateway",
            from_pod(arp((MAC_A, [0xff; 6]), 1, (MAC_A, POD_A), ([0; 6], GATEWAY))),
        ),
        (
            "ARP for nobody",
            from_pod(arp((MAC_A, [0xff; 6]), 1, (MAC_A, POD_A), ([0; 6], [10, 244, 1, 99]))),
        ),
        (
            "a solicitation of the gateway",
            from_pod(solicits(group, six(POD_A), six(GATEWAY))),
        ),
        (
            "a solicitation of a pod",
            from_pod(solicits(group, six(POD_A), six(POD_B))),
        ),
        (
            "a solicitation of nobody",
            from_pod(solicits(group, six(POD_A), six([10, 244, 1, 99]))),
        ),
        (
            "a solicitation by another",
            from_pod(solicits(group, six(POD_B), six(GATEWAY))),
        ),
        ("a probe", from_pod(solicits(group, [0; 16], six(POD_A)))),
        (
            "the stack solicits a pod",
            visit(Hook::FromHost, BRIDGE, solicits(from_host, six(GATEWAY), six(POD_B))),
        ),
        (
            "the stack solicits a service",
            visit(Hook::FromHost, BRIDGE, solicits(from_host, six(GATEWAY), six(WEB))),
        ),
    ]
}

/// The group in which whoever has the address is solicited (RFC 4291, section 2.7.1).
fn solicited(target: [u8; 16]) -> [u8; 16] {
    let mut group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
    group[13..].copy_from_slice(&target[13..]);
    group
}
