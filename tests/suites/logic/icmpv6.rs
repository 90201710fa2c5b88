//! Errors of ICMPv6: those the node makes, and those that pass.

use anyhow::Result;
use etherparse::{
    Icmpv6Type,
    icmpv6::{DestUnreachableCode, TimeExceededCode},
};
use netpath_common::{abi::service::v6::Frontend, reason::Reason};
use netpath_tests::{
    frame::{Frame, TcpFlags, ip_packet},
    verdict::Verdict,
};

use super::{
    ipv6::{PORT, SEEN, SERVER, at, in_tunnel, masqueraded},
    node::*,
};

/// What is quoted of a frame by an error of ours: its own headers take 48 of 1280 bytes.
fn quote(frame: &[u8]) -> &[u8] {
    let packet = ip_packet(frame);
    &packet[..packet.len().min(1_232)]
}

/// An ICMPv6 error as a tunnelled or plain answer has it, under the hop limit of its maker.
fn unreachable(frame: Frame, source: [u8; 16], destination: [u8; 16], quoted: &[u8]) -> Vec<u8> {
    let kind = Icmpv6Type::DestinationUnreachable(DestUnreachableCode::Port);
    frame.icmp(source, destination, kind, quoted)
}

#[test]
fn nobody_home_is_told_by_reset_or_icmp() -> Result<()> {
    let back = Frame::new(MAC_BRIDGE, MAC_A);
    let mut tables = tables();
    let syn = from_a().tcp(at(POD_A, PORT), at(EMPTY, 80), TcpFlags::SYN, b"early")?;
    let reset = back.reset(at(EMPTY, 80), at(POD_A, PORT), 0, Some(0x1006))?;
    assert_eq!(pod_a_sends(&mut tables, syn), (Verdict::Bounce(Reason::Refused), reset));
    let late = from_a().tcp(at(POD_A, PORT), at(EMPTY, 80), TcpFlags::ACK, b"late")?;
    let reset = back.reset(at(EMPTY, 80), at(POD_A, PORT), 0x2000, None)?;
    assert_eq!(
        pod_a_sends(&mut tables, late),
        (Verdict::Bounce(Reason::Refused), reset)
    );
    let frontend = |protocol| Frontend {
        address: six(EMPTY),
        port: 80,
        protocol,
        reserved: 0,
    };
    let empty = tables.v6.services[&frontend(6)];
    tables.v6.services.insert(frontend(17), empty);
    let datagram = from_a().udp(at(POD_A, PORT), at(EMPTY, 80), b"anyone there?")?;
    let error = unreachable(back, six(EMPTY), six(POD_A), quote(&datagram));
    assert_eq!(
        pod_a_sends(&mut tables, datagram),
        (Verdict::Bounce(Reason::Refused), error)
    );
    Ok(())
}

#[test]
fn too_large_and_too_old_are_told() -> Result<()> {
    let back = Frame::new(MAC_BRIDGE, MAC_A);
    let large = from_a().udp(at(POD_A, PORT), at(POD_FAR, 80), &[1; 1420])?;
    let too_big = Icmpv6Type::PacketTooBig { mtu: 1450 };
    let error = back.icmp(six(GATEWAY), six(POD_A), too_big, quote(&large));
    assert_eq!(
        pod_a_sends(&mut tables(), large),
        (Verdict::Bounce(Reason::TooBig), error)
    );
    let old = from_a()
        .ttl(1)
        .udp(at(POD_A, PORT), at(POD_PEER, 33_434), b"trace it")?;
    let expired = Icmpv6Type::TimeExceeded(TimeExceededCode::HopLimitExceeded);
    let error = back.icmp(six(GATEWAY), six(POD_A), expired, quote(&old));
    assert_eq!(
        pod_a_sends(&mut tables(), old),
        (Verdict::Bounce(Reason::Expired), error)
    );
    Ok(())
}

/// To the byte, at every length up to the most and beyond it; not what pads a short frame.
#[test]
fn an_error_quotes_as_much_as_fits() -> Result<()> {
    let expired = Icmpv6Type::TimeExceeded(TimeExceededCode::HopLimitExceeded);
    for length in (0..12).chain(1_176..1_192).chain([1_400]) {
        let payload: Vec<u8> = (0..length).map(|place| (place * 7 + 1) as u8).collect();
        let sent = from_a().ttl(1).udp(at(POD_A, PORT), at(POD_PEER, 33_434), &payload)?;
        let answer = Frame::new(MAC_BRIDGE, MAC_A).icmp(six(GATEWAY), six(POD_A), expired, quote(&sent));
        let padded = [sent, vec![0xee; 8]].concat();
        let (verdict, frame) = pod_a_sends(&mut tables(), padded);
        assert_eq!(
            (verdict, frame),
            (Verdict::Bounce(Reason::Expired), answer),
            "{length} bytes"
        );
    }
    Ok(())
}

/// A backend has closed its port: the client hears of the service, about the packet that it sent.
#[test]
fn an_error_about_a_service_quotes_the_service() -> Result<()> {
    let mut tables = tables();
    let limited = Frame::new([0; 6], [0; 6]).ttl(63);
    pod_a_sends(&mut tables, from_a().udp(at(POD_A, PORT), at(DATABASE, 53), b"who")?);
    let received = limited.udp(at(POD_A, SEEN), at(POD_FAR, 5353), b"who")?;
    let error = unreachable(
        Frame::new([9; 6], [8; 6]),
        six(POD_FAR),
        six(POD_A),
        ip_packet(&received),
    );
    let as_sent = limited.udp(at(POD_A, PORT), at(DATABASE, 53), b"who")?;
    let shown = unreachable(
        Frame::new(MAC_BRIDGE, MAC_A),
        six(DATABASE),
        six(POD_A),
        ip_packet(&as_sent),
    );
    let outcome = wire_brings(&mut tables, in_tunnel(&error)?);
    assert_eq!(outcome, (Verdict::Endpoint { ifindex: PORT_A }, shown));
    Ok(())
}

/// As above, about an echo: its checksum is quoted, and covers addresses.
#[test]
fn an_error_about_an_echo_quotes_its_checksum() -> Result<()> {
    let mut tables = tables();
    let (frame, _) = masqueraded(&mut tables, from_a().echo(six(POD_A), six(SERVER), 77, b"abcd"), 58);
    let router = six([198, 51, 100, 1]);
    let error = unreachable(from_wire(), router, six(NODE), ip_packet(&frame));
    let as_sent = from_a().ttl(63).echo(six(POD_A), six(SERVER), 77, b"abcd");
    let shown = unreachable(Frame::new(MAC_BRIDGE, MAC_A), router, six(POD_A), ip_packet(&as_sent));
    let outcome = wire_brings(&mut tables, error);
    assert_eq!(outcome, (Verdict::Endpoint { ifindex: PORT_A }, shown));
    Ok(())
}

/// The first fragment of a datagram: its header is before the ports, and `more` are to come.
fn first_fragment(of: Frame, source: [u8; 4], destination: [u8; 16], datagram: &[u8]) -> Vec<u8> {
    of.ipv6_behind(six(source), destination, 44, &[17, 0, 0, 1, 0, 0, 0x4e, 0x50], datagram)
}

/// A router finds a first fragment too large: who sent it learns of it, about the fragment that it sent.
#[test]
fn an_error_about_a_first_fragment_quotes_it_as_it_was_sent() -> Result<()> {
    let mut tables = tables();
    let whole = from_a().udp(at(POD_A, PORT), (six(SERVER), 4_000), &[5; 1_424])?;
    // A whole number of 8 bytes, as fragments before the last have.
    let datagram = &whole[54..54 + 1_392];
    let (verdict, left) = pod_a_sends(&mut tables, first_fragment(from_a(), POD_A, six(SERVER), datagram));
    assert_eq!(verdict.reason(), Reason::ToOutside);
    let router = six([198, 51, 100, 1]);
    let too_big = Icmpv6Type::PacketTooBig { mtu: 1_280 };
    let error = from_wire().icmpv6(router, six(NODE), too_big, quote(&left));
    let as_sent = first_fragment(from_a().ttl(63), POD_A, six(SERVER), datagram);
    let shown = Frame::new(MAC_BRIDGE, MAC_A).icmpv6(router, six(POD_A), too_big, quote(&as_sent));
    let outcome = wire_brings(&mut tables, error);
    assert_eq!(outcome, (Verdict::Endpoint { ifindex: PORT_A }, shown));
    // Of a later fragment nobody knows whose it is.
    let later = from_wire().ipv6_behind(six(NODE), six(SERVER), 44, &[17, 0, 0, 8, 0, 0, 0x4e, 0x50], &[7; 64]);
    let error = from_wire().icmpv6(router, six(NODE), too_big, ip_packet(&later));
    let (verdict, _) = wire_brings(&mut tables, error);
    assert_eq!(verdict, Verdict::Pass(Reason::ToHost));
    Ok(())
}

/// What is too large is told so also where headers are before its transport's; a reset would have to step over them.
#[test]
fn an_error_is_made_about_packets_with_extension_headers() -> Result<()> {
    let whole = from_a().udp(at(POD_A, PORT), at(POD_FAR, 80), &[1; 1_600])?;
    let large = first_fragment(from_a(), POD_A, six(POD_FAR), &whole[54..54 + 1_432]);
    let too_big = Icmpv6Type::PacketTooBig { mtu: 1_450 };
    let error = Frame::new(MAC_BRIDGE, MAC_A).icmpv6(six(GATEWAY), six(POD_A), too_big, quote(&large));
    assert_eq!(
        pod_a_sends(&mut tables(), large),
        (Verdict::Bounce(Reason::TooBig), error)
    );
    let padding = [6, 0, 1, 4, 0, 0, 0, 0];
    let syn = from_a().tcp(at(POD_A, PORT), at(EMPTY, 80), TcpFlags::SYN, b"")?;
    let behind = from_a().ipv6_behind(six(POD_A), six(EMPTY), 60, &padding, &syn[54..]);
    let (verdict, _) = pod_a_sends(&mut tables(), behind);
    assert_eq!(verdict, Verdict::Drop(Reason::RefusedSilent));
    Ok(())
}
