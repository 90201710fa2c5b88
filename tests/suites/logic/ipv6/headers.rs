//! Headers between IPv6's own and the transport's.

use anyhow::Result;
use netpath_common::reason::Reason;
use netpath_tests::{entries, frame::Frame, verdict::Verdict};

use super::{super::node::*, at, masqueraded};

#[test]
fn fragments_follow_their_first() -> Result<()> {
    let mut tables = tables();
    let datagram = from_a().udp(at(POD_A, PORT), at(WEB, 53), &[7; 64])?;
    let part = |frame: Frame, source, destination, bytes: &[u8]| frame.ipv6(source, destination, 17, bytes);
    let (head, tail) = datagram[54..].split_at(40);
    let first = from_a().fragment(9, 0, true);
    let later = from_a().fragment(9, 5, false);
    let backend = tables.v6.services[&entries::frontend(six(WEB), 80, 6)];
    let over_udp = entries::frontend(six(WEB), 53, 17);
    tables.v6.services.insert(over_udp, backend);
    let whole = Frame::new(MAC_BRIDGE, MAC_B).udp(at(POD_A, SEEN), at(POD_B, 8080), &[7; 64])?;
    let to_b = Frame::new(MAC_BRIDGE, MAC_B);
    for (frame, sent, received) in [(first, head, &whole[54..94]), (later, tail, &whole[94..])] {
        let outcome = pod_a_sends(&mut tables, part(frame, six(POD_A), six(WEB), sent));
        let expected = part(
            to_b.fragment(9, frame.offset, frame.more),
            six(POD_A),
            six(POD_B),
            received,
        );
        assert_eq!(outcome, (Verdict::Endpoint { ifindex: PORT_B }, expected));
    }
    Ok(())
}

#[test]
fn the_transport_is_found_behind_other_headers() -> Result<()> {
    let udp = from_a().udp(at(POD_A, PORT), at(SERVER, 53), b"who")?;
    // Hop-by-hop options, then 16 bytes of destination options: all of them padding.
    let options = [
        60, 0, 1, 4, 0, 0, 0, 0, //
        17, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let sent = from_a().ipv6_behind(six(POD_A), six(SERVER), 0, &options, &udp[54..]);
    let (frame, port) = masqueraded(&mut tables(), sent, 54 + 24);
    let plain = from_a().udp(at(NODE, port), at(SERVER, 53), b"who")?;
    let expected = from_a()
        .ttl(63)
        .ipv6_behind(six(NODE), six(SERVER), 0, &options, &plain[54..]);
    assert_eq!(frame, expected);
    Ok(())
}

#[test]
fn headers_without_end_are_malformed() -> Result<()> {
    let udp = from_a().udp(at(POD_A, PORT), at(POD_B, 53), b"who")?;
    let verdict = |next, options: &[u8]| {
        let sent = from_a().ipv6_behind(six(POD_A), six(POD_B), next, options, &udp[54..]);
        pod_a_sends(&mut tables(), sent).0
    };
    // One that is longer than the packet, and one beyond what is stepped over.
    assert_eq!(
        verdict(60, &[17, 4, 1, 4, 0, 0, 0, 0]),
        Verdict::Drop(Reason::Malformed)
    );
    let long = [&[17, 16, 1, 4, 0, 0, 0, 0][..], &[0; 128]].concat();
    assert_eq!(verdict(60, &long), Verdict::Drop(Reason::Malformed));
    // Of more headers than four nothing is known: such a packet passes between pods as one of a strange protocol.
    let five = [60, 0, 1, 4, 0, 0, 0, 0].repeat(5);
    assert_eq!(verdict(60, &five), Verdict::Endpoint { ifindex: PORT_B });
    Ok(())
}
