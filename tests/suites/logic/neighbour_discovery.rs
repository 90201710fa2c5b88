//! Neighbour discovery: who is answered, by whom, and what a pod may claim.

use etherparse::{
    Icmpv6Type,
    icmpv6::{NeighborAdvertisementHeader, RouterAdvertisementHeader},
};
use netpath_common::{abi::Mac, reason::Reason};
use netpath_tests::{frame::Frame, verdict::Verdict};

use super::node::*;

/// Where solicitations of an address go (RFC 4291, section 2.7.1; RFC 2464, section 7).
fn group(target: [u8; 16]) -> (Mac, [u8; 16]) {
    let [.., a, b, c] = target;
    (
        [0x33, 0x33, 0xff, a, b, c],
        [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c],
    )
}

/// The address that an interface of this MAC address gives itself.
fn link_local(mac: Mac) -> [u8; 16] {
    let [a, b, c, d, e, f] = mac;
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]
}

/// An option that says a MAC address: 1 the sender's, 2 the target's.
fn option(kind: u8, mac: Mac) -> Vec<u8> {
    [&[kind, 1][..], &mac].concat()
}

fn solicitation(mac: Mac, source: [u8; 16], target: [u8; 16]) -> Vec<u8> {
    let (to, destination) = group(target);
    let payload = [&target[..], &option(1, mac)].concat();
    let frame = Frame::new(mac, to).ttl(255);
    frame.icmp(source, destination, Icmpv6Type::NeighborSolicitation, &payload)
}

/// Who has `target` at `mac` says so.
fn advertisement(mac: Mac, target: [u8; 16], asked: (Mac, [u8; 16]), router: bool) -> Vec<u8> {
    let flags = NeighborAdvertisementHeader {
        router,
        solicited: true,
        r#override: true,
    };
    let payload = [&target[..], &option(2, mac)].concat();
    let frame = Frame::new(mac, asked.0).ttl(255);
    frame.icmp(target, asked.1, Icmpv6Type::NeighborAdvertisement(flags), &payload)
}

#[test]
fn the_gateway_and_pods_are_found() {
    let ll = link_local(MAC_A);
    for (source, target, mac, router) in [
        (six(POD_A), six(GATEWAY), MAC_BRIDGE, true),
        (ll, six(GATEWAY), MAC_BRIDGE, true),
        (six(POD_A), link_local(MAC_BRIDGE), MAC_BRIDGE, true),
        (six(POD_A), six(NODE), MAC_BRIDGE, true),
        (six(POD_A), six(POD_B), MAC_B, false),
    ] {
        let outcome = pod_a_sends(&mut tables(), solicitation(MAC_A, source, target));
        let answer = advertisement(mac, target, (MAC_A, source), router);
        assert_eq!(outcome, (Verdict::Bounce(Reason::NeighbourReply), answer));
    }
}

#[test]
fn a_known_neighbour_is_asked_again_by_its_own_address() {
    let frame = Frame::new(MAC_A, MAC_BRIDGE).ttl(255);
    let asked = frame.icmp(
        six(POD_A),
        six(GATEWAY),
        Icmpv6Type::NeighborSolicitation,
        &six(GATEWAY),
    );
    let answer = advertisement(MAC_BRIDGE, six(GATEWAY), (MAC_A, six(POD_A)), true);
    let outcome = pod_a_sends(&mut tables(), asked);
    assert_eq!(outcome, (Verdict::Bounce(Reason::NeighbourReply), answer));
}

#[test]
fn nobody_else_is() {
    let dropped = |frame: Vec<u8>, reason| {
        let outcome = pod_a_sends(&mut tables(), frame.clone());
        assert_eq!(outcome, (Verdict::Drop(reason), frame));
    };
    dropped(
        solicitation(MAC_A, six(POD_A), six([10, 244, 1, 99])),
        Reason::NeighbourUnknown,
    );
    dropped(solicitation(MAC_A, six(POD_A), six(POD_PEER)), Reason::NeighbourUnknown);
    dropped(solicitation(MAC_A, six(POD_B), six(GATEWAY)), Reason::NeighbourSpoofed);
    // Probes: of its own address, of the link's, of another's.
    dropped(solicitation(MAC_A, [0; 16], six(POD_A)), Reason::Ipv6Noise);
    dropped(solicitation(MAC_A, [0; 16], link_local(MAC_A)), Reason::Ipv6Noise);
    dropped(solicitation(MAC_A, [0; 16], six(POD_B)), Reason::NeighbourSpoofed);
}

/// RFC 4861, section 7.1.1.
#[test]
fn a_message_from_beyond_the_link_is_none() {
    let good = solicitation(MAC_A, six(POD_A), six(GATEWAY));
    let with = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        frame
    };
    // The hop limit, the code, a target of a group, and the end within the target.
    for frame in [with(21, 254), with(55, 1), with(62, 0xff), good[..70].to_vec()] {
        let outcome = pod_a_sends(&mut tables(), frame.clone());
        assert_eq!(outcome, (Verdict::Drop(Reason::Malformed), frame));
    }
}

#[test]
fn a_pod_claims_its_own_address_alone() {
    let says = |target: [u8; 16], mac, source| {
        let payload = [&target[..], &option(2, mac)].concat();
        let kind = Icmpv6Type::NeighborAdvertisement(NeighborAdvertisementHeader {
            router: false,
            solicited: true,
            r#override: true,
        });
        let frame = Frame::new(MAC_A, MAC_BRIDGE).ttl(255);
        pod_a_sends(&mut tables(), frame.icmp(source, six(GATEWAY), kind, &payload)).0
    };
    let passed = Verdict::Pass(Reason::ToStack);
    let spoofed = Verdict::Drop(Reason::NeighbourSpoofed);
    assert_eq!(says(six(POD_A), MAC_A, six(POD_A)), passed);
    assert_eq!(says(link_local(MAC_A), MAC_A, link_local(MAC_A)), passed);
    assert_eq!(says(six(POD_B), MAC_A, six(POD_A)), spoofed);
    assert_eq!(says(six(GATEWAY), MAC_A, six(POD_A)), spoofed);
    assert_eq!(says(six(POD_A), MAC_B, six(POD_A)), spoofed);
    assert_eq!(says(six(POD_A), MAC_A, six(POD_B)), spoofed);
}

#[test]
fn no_pod_is_a_router() {
    let all_nodes = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let all_routers = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let frame = Frame::new(MAC_A, [0x33, 0x33, 0, 0, 0, 1]).ttl(255);
    let advertises = Icmpv6Type::RouterAdvertisement(RouterAdvertisementHeader {
        cur_hop_limit: 64,
        managed_address_config: false,
        other_config: false,
        router_lifetime: 1800,
    });
    let said = |kind, to| {
        let frame = frame.icmp(link_local(MAC_A), to, kind, &[0; 32]);
        pod_a_sends(&mut tables(), frame).0
    };
    assert_eq!(said(advertises, all_nodes), Verdict::Drop(Reason::RouterFromPod));
    assert_eq!(
        said(Icmpv6Type::Redirect, six(POD_B)),
        Verdict::Drop(Reason::RouterFromPod)
    );
    assert_eq!(
        said(Icmpv6Type::RouterSolicitation, all_routers),
        Verdict::Drop(Reason::Ipv6Noise)
    );
}

#[test]
fn the_stack_finds_pods_and_services() {
    for (target, mac) in [(six(POD_B), MAC_B), (six(WEB), MAC_OVERLAY)] {
        let asked = solicitation(MAC_BRIDGE, six(GATEWAY), target);
        let answer = advertisement(mac, target, (MAC_BRIDGE, six(GATEWAY)), false);
        let outcome = host_sends(&mut tables(), asked);
        assert_eq!(outcome, (Verdict::Bounce(Reason::NeighbourReply), answer));
    }
    for target in [six([10, 244, 1, 99]), six(GATEWAY)] {
        let asked = solicitation(MAC_BRIDGE, six(NODE), target);
        let outcome = host_sends(&mut tables(), asked.clone());
        assert_eq!(outcome, (Verdict::Pass(Reason::ToStack), asked));
    }
}
