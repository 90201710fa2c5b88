//! ARP is answered from the table.

use netpath_common::reason::Reason;
use netpath_tests::{frame::arp, verdict::Verdict};

use super::node::*;

const ALL: [u8; 6] = [0xff; 6];
const NOBODY: [u8; 6] = [0; 6];

#[test]
fn the_gateway_is_the_bridge() {
    let (verdict, frame) = pod_a_sends(&mut tables(), arp((MAC_A, ALL), 1, (MAC_A, POD_A), (NOBODY, GATEWAY)));
    assert_eq!(verdict, Verdict::Bounce(Reason::ArpReply));
    assert_eq!(
        frame,
        arp((MAC_BRIDGE, MAC_A), 2, (MAC_BRIDGE, GATEWAY), (MAC_A, POD_A))
    );
}

#[test]
fn a_pod_of_the_node_has_its_own_address() {
    let (verdict, frame) = pod_a_sends(&mut tables(), arp((MAC_A, ALL), 1, (MAC_A, POD_A), (NOBODY, POD_B)));
    assert_eq!(verdict, Verdict::Bounce(Reason::ArpReply));
    assert_eq!(frame, arp((MAC_B, MAC_A), 2, (MAC_B, POD_B), (MAC_A, POD_A)));
}

#[test]
fn an_address_that_nobody_has_gets_no_answer() {
    let asked = arp((MAC_A, ALL), 1, (MAC_A, POD_A), (NOBODY, [10, 244, 1, 200]));
    assert_eq!(
        pod_a_sends(&mut tables(), asked.clone()),
        (Verdict::Drop(Reason::ArpUnknown), asked)
    );
}

#[test]
fn a_pod_cannot_claim_anothers_address() {
    for sender in [(MAC_A, POD_B), (MAC_B, POD_A)] {
        for operation in [1, 2] {
            let lie = arp((MAC_A, ALL), operation, sender, (NOBODY, GATEWAY));
            assert_eq!(
                pod_a_sends(&mut tables(), lie.clone()),
                (Verdict::Drop(Reason::ArpSpoofed), lie)
            );
        }
    }
}

#[test]
fn a_probe_of_the_own_address_finds_silence() {
    let probe = arp((MAC_A, ALL), 1, (MAC_A, [0; 4]), (NOBODY, POD_A));
    assert_eq!(
        pod_a_sends(&mut tables(), probe.clone()),
        (Verdict::Pass(Reason::ToStack), probe)
    );
}

#[test]
fn the_host_finds_services_and_pods() {
    let ask = |target| arp((MAC_BRIDGE, ALL), 1, (MAC_BRIDGE, GATEWAY), (NOBODY, target));
    let (verdict, frame) = host_sends(&mut tables(), ask(WEB));
    assert_eq!(verdict, Verdict::Bounce(Reason::ArpReply));
    assert_eq!(
        frame,
        arp((MAC_OVERLAY, MAC_BRIDGE), 2, (MAC_OVERLAY, WEB), (MAC_BRIDGE, GATEWAY))
    );
    let (verdict, frame) = host_sends(&mut tables(), ask(POD_B));
    assert_eq!(verdict, Verdict::Bounce(Reason::ArpReply));
    assert_eq!(
        frame,
        arp((MAC_B, MAC_BRIDGE), 2, (MAC_B, POD_B), (MAC_BRIDGE, GATEWAY))
    );
}

#[test]
fn a_cut_message_is_malformed() {
    let mut cut = arp((MAC_A, ALL), 1, (MAC_A, POD_A), (NOBODY, GATEWAY));
    cut.truncate(40);
    assert_eq!(
        pod_a_sends(&mut tables(), cut.clone()),
        (Verdict::Drop(Reason::Malformed), cut)
    );
}
