//! Addresses of one link, groups, and who may send from which.

use anyhow::Result;
use netpath_common::reason::Reason;
use netpath_tests::{frame::Frame, verdict::Verdict};

use super::{super::node::*, at};

#[test]
fn a_pod_sends_from_its_own_address_alone() -> Result<()> {
    let link = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 1, 2];
    for source in [six(POD_B), link, [0; 16]] {
        let sent = from_a().udp((source, PORT), at(POD_B, 53), b"who")?;
        let outcome = pod_a_sends(&mut tables(), sent.clone());
        assert_eq!(outcome, (Verdict::Drop(Reason::SpoofedAddress), sent));
    }
    Ok(())
}

#[test]
fn nothing_is_forwarded_to_or_from_an_address_of_a_link() -> Result<()> {
    let link = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    let sent = from_a().udp(at(POD_A, PORT), (link, 53), b"who")?;
    let outcome = pod_a_sends(&mut tables(), sent.clone());
    assert_eq!(outcome, (Verdict::Drop(Reason::NoRoute), sent));
    let sent = from_wire().udp((link, 53), at(POD_A, PORT), b"who")?;
    let outcome = wire_brings(&mut tables(), sent.clone());
    assert_eq!(outcome, (Verdict::Pass(Reason::ToStack), sent));
    Ok(())
}

#[test]
fn groups_are_left_to_the_bridge_and_reports_are_noise() -> Result<()> {
    let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfb];
    let link = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 1, 2];
    let frame = Frame::new(MAC_A, [0x33, 0x33, 0, 0, 0, 0xfb]);
    let sent = frame.udp(at(POD_A, 5353), (group, 5353), b"name")?;
    let outcome = pod_a_sends(&mut tables(), sent.clone());
    assert_eq!(outcome, (Verdict::Pass(Reason::ToStack), sent));
    // Of a group (RFC 3810, section 5.2), behind the option that makes routers look.
    let report = [&[143, 0, 0, 0, 0, 0, 0, 1][..], &[0; 20]].concat();
    let sent = frame.ipv6_behind(link, group, 0, &[58, 0, 5, 2, 0, 0, 1, 0], &report);
    let outcome = pod_a_sends(&mut tables(), sent.clone());
    assert_eq!(outcome, (Verdict::Drop(Reason::Ipv6Noise), sent));
    Ok(())
}
