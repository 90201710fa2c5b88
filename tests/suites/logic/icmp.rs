//! Refusals and ICMP errors: those the node makes, and those that pass. Both families have them, of their own ICMP.

use anyhow::Result;
use etherparse::Icmpv6Type;
use netpath_common::reason::Reason;
use netpath_ebpf::{path, scratch::Scratch, verdict::NextHop};
use netpath_tests::{
    entries,
    frame::{Frame, TcpFlags, ip_packet},
    packet::HostPacket,
    verdict::Verdict,
};

use super::node::*;
use crate::families::in_both_families;

/// As much of a frame's packet as an error of the node's quotes.
fn quote<A: At>(frame: &[u8]) -> &[u8] {
    let packet = ip_packet(frame);
    &packet[..packet.len().min(A::QUOTED)]
}

/// The least that an error quotes of it: header and 8 bytes.
fn least<A: At>(frame: &[u8]) -> &[u8] {
    &ip_packet(frame)[..A::HEADER + 8]
}

/// A frame from the node to pod A.
fn to_a() -> Frame {
    Frame::new(MAC_BRIDGE, MAC_A)
}

in_both_families! {
    a_service_without_endpoints_refuses;
    a_reset_gets_no_answer;
    a_service_without_endpoints_refuses_datagrams_by_icmp;
    an_error_quotes_as_much_as_fits;
    too_large_for_the_tunnel_is_told_the_pod;
    too_large_for_the_tunnel_is_told_the_client;
    a_packet_yet_to_be_segmented_is_judged_by_its_segments;
    time_to_live_runs_out;
    no_error_about_an_error;
    an_error_about_a_service_quotes_the_service;
    an_error_about_a_masqueraded_connection_finds_the_pod;
    an_error_about_an_echo_quotes_its_checksum;
}

fn a_service_without_endpoints_refuses<A: At>() -> Result<()> {
    let (from, empty) = (at::<A>(POD_A, PORT), at::<A>(EMPTY, 80));
    let refuses = |sent: Vec<u8>| {
        let (verdict, frame) = pod_a_sends(&mut tables(), sent);
        assert_eq!(verdict, Verdict::Bounce(Reason::Refused));
        frame
    };
    // Frames are of sequence number 0x1000, and acknowledge 0x2000; a first segment counts one (RFC 9293, section 3.4).
    let syn = from_a().tcp(from, empty, TcpFlags::SYN, b"")?;
    assert_eq!(refuses(syn), to_a().reset(empty, from, 0, Some(0x1001))?);
    let with_data = from_a().tcp(from, empty, TcpFlags::SYN, b"early")?;
    assert_eq!(refuses(with_data), to_a().reset(empty, from, 0, Some(0x1006))?);
    let none = TcpFlags::default();
    let padded = [from_a().tcp(from, empty, none, b"odd")?, vec![0; 9]].concat();
    assert_eq!(
        refuses(padded),
        to_a().reset(empty, from, 0, Some(0x1003))?,
        "as short frames are"
    );
    let late = from_a().tcp(from, empty, TcpFlags::ACK, b"late")?;
    assert_eq!(refuses(late), to_a().reset(empty, from, 0x2000, None)?);
    Ok(())
}

fn a_reset_gets_no_answer<A: At>() -> Result<()> {
    for ack in [false, true] {
        let rst = TcpFlags {
            rst: true,
            ack,
            ..TcpFlags::default()
        };
        let sent = from_a().tcp(at::<A>(POD_A, PORT), at(EMPTY, 80), rst, b"")?;
        let (verdict, frame) = pod_a_sends(&mut tables(), sent.clone());
        assert_eq!((verdict, frame), (Verdict::Drop(Reason::RefusedSilent), sent));
    }
    Ok(())
}

fn a_service_without_endpoints_refuses_datagrams_by_icmp<A: At>() -> Result<()> {
    let mut tables = tables();
    let frontend = |protocol| entries::frontend(A::at(EMPTY), 80, protocol);
    let empty = A::of(&tables).services[&frontend(6)];
    A::of_mut(&mut tables).services.insert(frontend(17), empty);
    let sent = from_a().udp(at::<A>(POD_A, PORT), at(EMPTY, 80), b"who")?;
    let told = to_a().icmp(A::at(EMPTY), A::at(POD_A), A::unreachable(), ip_packet(&sent));
    let outcome = pod_a_sends(&mut tables, sent);
    assert_eq!(outcome, (Verdict::Bounce(Reason::Refused), told));
    Ok(())
}

/// To the byte, at every length up to the most and beyond it; not what pads a short frame.
fn an_error_quotes_as_much_as_fits<A: At>() -> Result<()> {
    let most = A::QUOTED - A::HEADER - 8;
    for length in (0..12).chain(most - 10..most + 10).chain([1_400]) {
        let payload: Vec<u8> = (0..length).map(|place| (place * 7 + 1) as u8).collect();
        let sent = from_a()
            .ttl(1)
            .udp(at::<A>(POD_A, PORT), at(POD_PEER, 33_434), &payload)?;
        let answer = to_a().icmp(A::at(GATEWAY), A::at(POD_A), A::expired(), quote::<A>(&sent));
        for padding in [0, 8, 46] {
            let padded = [sent.clone(), vec![0xee; padding]].concat();
            assert_eq!(
                pod_a_sends(&mut tables(), padded),
                (Verdict::Bounce(Reason::Expired), answer.clone()),
                "{length} bytes, and {padding} more"
            );
        }
    }
    Ok(())
}

fn too_large_for_the_tunnel_is_told_the_pod<A: At>() -> Result<()> {
    let fits = 1_450 - A::HEADER - 8;
    for (length, told) in [(fits, false), (fits + 1, true)] {
        let sent = from_a().udp(at::<A>(POD_A, PORT), at(POD_FAR, 80), &vec![1; length])?;
        let error = to_a().icmp(A::at(GATEWAY), A::at(POD_A), A::too_big(1_450), quote::<A>(&sent));
        let outcome = pod_a_sends(&mut tables(), sent);
        let is_told = outcome == (Verdict::Bounce(Reason::TooBig), error);
        assert_eq!(is_told, told, "{length} bytes: {:?}", outcome.0);
    }
    Ok(())
}

fn too_large_for_the_tunnel_is_told_the_client<A: At>() -> Result<()> {
    let sent = from_wire().tcp(at::<A>(CLIENT, 50_000), at(NODE, 30_054), TcpFlags::ACK, &[1; 1450])?;
    // It quotes what the client sent, not what it would have become.
    let told =
        Frame::new(MAC_UPLINK, MAC_ROUTER).icmp(A::at(NODE), A::at(CLIENT), A::too_big(1_450), quote::<A>(&sent));
    let outcome = wire_brings(&mut tables(), sent);
    assert_eq!(outcome, (Verdict::Bounce(Reason::TooBig), told));
    Ok(())
}

fn a_packet_yet_to_be_segmented_is_judged_by_its_segments<A: At>() -> Result<()> {
    let sent = from_a().tcp(at::<A>(POD_A, PORT), at(POD_FAR, 80), TcpFlags::ACK, &[1; 4000])?;
    let most = 1_450 - A::HEADER - 20;
    for (gso_size, fits) in [(most, true), (most + 1, false)] {
        let mut packet = HostPacket {
            gso_size,
            ..HostPacket::new(sent.clone(), PORT_A)
        };
        let mut scratch = Scratch::default();
        let verdict = path::from_pod::run(&mut packet, &mut tables(), &config(), &mut scratch);
        let verdict = Verdict::new(verdict, &scratch);
        let expected = if fits {
            Verdict::Wire {
                next_hop: NextHop::v4(ROUTER),
                reason: Reason::ToTunnel,
            }
        } else {
            Verdict::Bounce(Reason::TooBig)
        };
        assert_eq!(verdict, expected, "segments of {gso_size} bytes and headers");
    }
    Ok(())
}

/// IPv6 leaves that to senders.
#[test]
fn what_may_be_fragmented_is_left_to_the_stack() -> Result<()> {
    let frame = from_a().may_fragment();
    let sent = frame.udp((POD_A, PORT), (DATABASE, 53), &[1; 1460])?;
    let (verdict, left) = pod_a_sends(&mut tables(), sent);
    assert_eq!(verdict, Verdict::Pass(Reason::ToStack));
    assert_eq!(left, frame.udp((POD_A, SEEN), (POD_FAR, 5353), &[1; 1460])?);
    // Of tc's stack alone: from XDP it would come by tc's program, under an address of the node's.
    let sent = from_wire()
        .may_fragment()
        .tcp((CLIENT, PORT), (NODE, 30_054), TcpFlags::SYN, &[1; 1420])?;
    for (xdp, reason) in [(false, Reason::ToStack), (true, Reason::ToTc)] {
        let mut packet = HostPacket {
            xdp,
            ..HostPacket::new(sent.clone(), UPLINK)
        };
        let mut scratch = Scratch::default();
        let verdict = path::from_wire::run(&mut packet, &mut tables(), &config(), &mut scratch);
        assert_eq!(Verdict::new(verdict, &scratch), Verdict::Pass(reason));
        assert_eq!(packet.bytes == sent, xdp);
    }
    Ok(())
}

fn time_to_live_runs_out<A: At>() -> Result<()> {
    let sent = from_a()
        .ttl(1)
        .udp(at::<A>(POD_A, PORT), at(POD_PEER, 33_434), b"trace")?;
    let told = to_a().icmp(A::at(GATEWAY), A::at(POD_A), A::expired(), ip_packet(&sent));
    let outcome = pod_a_sends(&mut tables(), sent);
    assert_eq!(outcome, (Verdict::Bounce(Reason::Expired), told));
    Ok(())
}

fn no_error_about_an_error<A: At>() -> Result<()> {
    let error = from_a()
        .ttl(1)
        .icmp(A::at(POD_A), A::at(POD_PEER), A::unreachable(), &[0; 28]);
    let outcome = pod_a_sends(&mut tables(), error.clone());
    assert_eq!(outcome, (Verdict::Drop(Reason::ExpiredSilent), error));
    Ok(())
}

/// A backend has closed its port: the client of the service hears of the service, about the packet that it sent.
fn an_error_about_a_service_quotes_the_service<A: At>() -> Result<()> {
    let (from, seen) = (at::<A>(POD_A, PORT), at::<A>(POD_A, SEEN));
    let limited = Frame::new([0; 6], [0; 6]).ttl(63);
    let received = limited.udp(seen, at(POD_FAR, 5353), b"who")?;
    let as_sent = limited.udp(from, at(DATABASE, 53), b"who")?;
    for part in [ip_packet, least::<A>] {
        let mut tables = tables();
        pod_a_sends(&mut tables, from_a().udp(from, at(DATABASE, 53), b"who")?);
        let error = Frame::new([9; 6], [8; 6]).icmp(A::at(POD_FAR), from.0, A::unreachable(), part(&received));
        let shown = to_a().icmp(A::at(DATABASE), from.0, A::unreachable(), part(&as_sent));
        let tunnelled = from_wire().vxlan((FAR, 50_123), (NODE, 4789), VNI, &error)?;
        let outcome = wire_brings(&mut tables, tunnelled);
        assert_eq!(outcome, (Verdict::Endpoint { ifindex: PORT_A }, shown));
    }
    Ok(())
}

/// A router outside says that the way is narrow: the pod hears it, about its own connection.
fn an_error_about_a_masqueraded_connection_finds_the_pod<A: At>() -> Result<()> {
    let mut tables = tables();
    let (from, server) = (at::<A>(POD_A, PORT), at::<A>(SERVER, 443));
    let (_, masqueraded) = pod_a_sends(&mut tables, from_a().tcp(from, server, TcpFlags::ACK, &[3; 900])?);
    let router = A::at([198, 51, 100, 1]);
    let error = from_wire().icmp(router, A::at(NODE), A::too_big(800), least::<A>(&masqueraded));
    let as_sent = from_a().ttl(63).tcp(from, server, TcpFlags::ACK, &[3; 900])?;
    // The quote ends before TCP's checksum.
    let shown = to_a().icmp(router, from.0, A::too_big(800), least::<A>(&as_sent));
    let outcome = wire_brings(&mut tables, error);
    assert_eq!(outcome, (Verdict::Endpoint { ifindex: PORT_A }, shown));
    Ok(())
}

/// Its checksum is quoted, and that of ICMPv6 covers addresses.
fn an_error_about_an_echo_quotes_its_checksum<A: At>() -> Result<()> {
    let mut tables = tables();
    let (verdict, masqueraded) = pod_a_sends(&mut tables, from_a().echo(A::at(POD_A), A::at(SERVER), 77, b"abcd"));
    let out = Verdict::Wire {
        reason: Reason::ToOutside,
        next_hop: NextHop::ROUTED,
    };
    assert_eq!(verdict, out);
    let router = A::at([198, 51, 100, 1]);
    let error = from_wire().icmp(router, A::at(NODE), A::unreachable(), ip_packet(&masqueraded));
    let as_sent = from_a().ttl(63).echo(A::at(POD_A), A::at(SERVER), 77, b"abcd");
    let shown = to_a().icmp(router, A::at(POD_A), A::unreachable(), ip_packet(&as_sent));
    let outcome = wire_brings(&mut tables, error);
    assert_eq!(outcome, (Verdict::Endpoint { ifindex: PORT_A }, shown));
    Ok(())
}

/// The first fragment of a datagram of IPv6: its header is before the ports, and more are to come.
fn first_fragment(of: Frame, source: [u8; 4], destination: [u8; 4], datagram: &[u8]) -> Vec<u8> {
    let header = [17, 0, 0, 1, 0, 0, 0x4e, 0x50];
    of.ipv6_behind(six(source), six(destination), 44, &header, datagram)
}

/// A router finds a first fragment too large: who sent it learns of it, about the fragment that it sent.
#[test]
fn an_error_about_a_first_fragment_quotes_it_as_it_was_sent() -> Result<()> {
    let mut tables = tables();
    let whole = from_a().udp((six(POD_A), PORT), at(SERVER, 4_000), &[5; 1_424])?;
    // A whole number of 8 bytes, as fragments before the last have.
    let datagram = &whole[54..54 + 1_392];
    let (verdict, left) = pod_a_sends(&mut tables, first_fragment(from_a(), POD_A, SERVER, datagram));
    assert_eq!(verdict.reason(), Reason::ToOutside);
    let router = six([198, 51, 100, 1]);
    let too_big = Icmpv6Type::PacketTooBig { mtu: 1_280 };
    let error = from_wire().icmp(router, six(NODE), too_big, quote::<[u8; 16]>(&left));
    let as_sent = first_fragment(from_a().ttl(63), POD_A, SERVER, datagram);
    let shown = to_a().icmp(router, six(POD_A), too_big, quote::<[u8; 16]>(&as_sent));
    let outcome = wire_brings(&mut tables, error);
    assert_eq!(outcome, (Verdict::Endpoint { ifindex: PORT_A }, shown));
    // Of a later fragment nobody knows whose it is.
    let later = from_wire().ipv6_behind(six(NODE), six(SERVER), 44, &[17, 0, 0, 8, 0, 0, 0x4e, 0x50], &[7; 64]);
    let error = from_wire().icmp(router, six(NODE), too_big, ip_packet(&later));
    let (verdict, _) = wire_brings(&mut tables, error);
    assert_eq!(verdict, Verdict::Pass(Reason::ToHost));
    Ok(())
}

/// What is too large is told so also where headers are before its transport's; a reset would have to step over them.
#[test]
fn an_error_is_made_about_packets_with_extension_headers() -> Result<()> {
    let whole = from_a().udp((six(POD_A), PORT), at(POD_FAR, 80), &[1; 1_600])?;
    let large = first_fragment(from_a(), POD_A, POD_FAR, &whole[54..54 + 1_432]);
    let too_big = Icmpv6Type::PacketTooBig { mtu: 1_450 };
    let error = to_a().icmp(six(GATEWAY), six(POD_A), too_big, quote::<[u8; 16]>(&large));
    assert_eq!(
        pod_a_sends(&mut tables(), large),
        (Verdict::Bounce(Reason::TooBig), error)
    );
    let padding = [6, 0, 1, 4, 0, 0, 0, 0];
    let syn = from_a().tcp((six(POD_A), PORT), at(EMPTY, 80), TcpFlags::SYN, b"")?;
    let behind = from_a().ipv6_behind(six(POD_A), six(EMPTY), 60, &padding, &syn[54..]);
    let (verdict, _) = pod_a_sends(&mut tables(), behind);
    assert_eq!(verdict, Verdict::Drop(Reason::RefusedSilent));
    Ok(())
}
