//! ICMP errors: those the node makes, and those that pass.

use anyhow::Result;
use etherparse::{Icmpv4Type, icmpv4::DestUnreachableHeader, icmpv4::TimeExceededCode};
use netpath_common::{abi::service::v4 as service, reason::Reason};
use netpath_ebpf::{path, scratch::Scratch, verdict::NextHop};
use netpath_tests::{
    frame::{Frame, TcpFlags, ip_packet},
    tables::HostPacket,
    verdict::Verdict,
};

use super::node::*;

const FROM: ([u8; 4], u16) = (POD_A, 40_000);
/// The port under which a backend sees it.
const SEEN: ([u8; 4], u16) = (POD_A, 40_000 - 32_768 + 1_024);
const UNREACHABLE: Icmpv4Type = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port);

/// The first 28 bytes of a frame's packet: header and 8 bytes, the least that an error quotes.
fn quote(frame: &[u8]) -> &[u8] {
    &ip_packet(frame)[..28]
}

/// As much of a frame's packet as an error of ours quotes: its own headers take 28 of 576 bytes.
fn all_that_fits(frame: &[u8]) -> &[u8] {
    let packet = ip_packet(frame);
    &packet[..packet.len().min(548)]
}

#[test]
fn a_service_without_endpoints_refuses() -> Result<()> {
    let empty = (EMPTY, 80);
    let back = Frame::new(MAC_BRIDGE, MAC_A);
    let refuses = |sent: Vec<u8>| {
        let (verdict, frame) = pod_a_sends(&mut tables(), sent);
        assert_eq!(verdict, Verdict::Bounce(Reason::Refused));
        frame
    };
    // Frames are of sequence number 0x1000, and acknowledge 0x2000; a first segment counts one (RFC 9293, section 3.4).
    let syn = from_a().tcp(FROM, empty, TcpFlags::SYN, b"")?;
    assert_eq!(refuses(syn), back.reset(empty, FROM, 0, Some(0x1001))?);
    let with_data = from_a().tcp(FROM, empty, TcpFlags::SYN, b"early")?;
    assert_eq!(refuses(with_data), back.reset(empty, FROM, 0, Some(0x1006))?);
    let none = TcpFlags::default();
    let padded = [from_a().tcp(FROM, empty, none, b"odd")?, vec![0; 9]].concat();
    assert_eq!(
        refuses(padded),
        back.reset(empty, FROM, 0, Some(0x1003))?,
        "as short frames are"
    );
    let late = from_a().tcp(FROM, empty, TcpFlags::ACK, b"late")?;
    assert_eq!(refuses(late), back.reset(empty, FROM, 0x2000, None)?);
    Ok(())
}

#[test]
fn a_reset_gets_no_answer() -> Result<()> {
    for ack in [false, true] {
        let rst = TcpFlags {
            rst: true,
            ack,
            ..TcpFlags::default()
        };
        let sent = from_a().tcp(FROM, (EMPTY, 80), rst, b"")?;
        let (verdict, frame) = pod_a_sends(&mut tables(), sent.clone());
        assert_eq!((verdict, frame), (Verdict::Drop(Reason::RefusedSilent), sent));
    }
    Ok(())
}

#[test]
fn a_service_without_endpoints_refuses_datagrams_by_icmp() -> Result<()> {
    let mut tables = tables();
    let at = |protocol| service::Frontend {
        address: EMPTY,
        port: 80,
        protocol,
        reserved: 0,
    };
    let empty = tables.v4.services[&at(6)];
    tables.v4.services.insert(at(17), empty);
    let sent = from_a().udp(FROM, (EMPTY, 80), b"who")?;
    let (verdict, frame) = pod_a_sends(&mut tables, sent.clone());
    assert_eq!(verdict, Verdict::Bounce(Reason::Refused));
    assert_eq!(
        frame,
        Frame::new(MAC_BRIDGE, MAC_A).icmp(EMPTY, POD_A, UNREACHABLE, ip_packet(&sent))
    );
    Ok(())
}

/// To the byte, at every length up to the most and beyond it; not what pads a short frame.
#[test]
fn an_error_quotes_as_much_as_fits() -> Result<()> {
    let expired = Icmpv4Type::TimeExceeded(TimeExceededCode::TtlExceededInTransit);
    for length in (0..12).chain(510..530).chain([1_400]) {
        let payload: Vec<u8> = (0..length).map(|place| (place * 7 + 1) as u8).collect();
        let sent = from_a().ttl(1).udp(FROM, (POD_PEER, 33_434), &payload)?;
        let answer = Frame::new(MAC_BRIDGE, MAC_A).icmp(GATEWAY, POD_A, expired.clone(), all_that_fits(&sent));
        let padded = [sent, vec![0xee; 46_usize.saturating_sub(length)]].concat();
        let (verdict, frame) = pod_a_sends(&mut tables(), padded);
        assert_eq!(
            (verdict, frame),
            (Verdict::Bounce(Reason::Expired), answer),
            "{length} bytes"
        );
    }
    Ok(())
}

#[test]
fn too_large_for_the_tunnel_is_told_the_client() -> Result<()> {
    let sent = from_wire().tcp((CLIENT, 50_000), (NODE, 30_054), TcpFlags::ACK, &[1; 1450])?;
    let (verdict, frame) = wire_brings(&mut tables(), sent.clone());
    assert_eq!(verdict, Verdict::Bounce(Reason::TooBig));
    let too_big = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1450 });
    // It quotes what the client sent, not what it would have become.
    assert_eq!(
        frame,
        Frame::new(MAC_UPLINK, MAC_ROUTER).icmp(NODE, CLIENT, too_big, all_that_fits(&sent))
    );
    Ok(())
}

#[test]
fn a_packet_yet_to_be_segmented_is_judged_by_its_segments() -> Result<()> {
    let sent = from_a().tcp(FROM, (POD_FAR, 80), TcpFlags::ACK, &[1; 4000])?;
    for (gso_size, fits) in [(1410, true), (1411, false)] {
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
        assert_eq!(verdict, expected, "segments of {gso_size} bytes and 40 of headers");
    }
    Ok(())
}

#[test]
fn what_may_be_fragmented_is_left_to_the_stack() -> Result<()> {
    let sent = from_a().may_fragment().udp(FROM, (DATABASE, 53), &[1; 1460])?;
    let (verdict, frame) = pod_a_sends(&mut tables(), sent);
    assert_eq!(verdict, Verdict::Pass(Reason::ToStack));
    assert_eq!(frame, from_a().may_fragment().udp(SEEN, (POD_FAR, 5353), &[1; 1460])?);
    // Of tc's stack alone: from XDP it would come by tc's program, under an address of the node's.
    let sent = from_wire()
        .may_fragment()
        .tcp((CLIENT, 40_000), (NODE, 30_054), TcpFlags::SYN, &[1; 1420])?;
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

#[test]
fn time_to_live_runs_out() -> Result<()> {
    let sent = from_a().ttl(1).udp(FROM, (POD_PEER, 33_434), b"trace")?;
    let (verdict, frame) = pod_a_sends(&mut tables(), sent.clone());
    assert_eq!(verdict, Verdict::Bounce(Reason::Expired));
    let expired = Icmpv4Type::TimeExceeded(TimeExceededCode::TtlExceededInTransit);
    assert_eq!(
        frame,
        Frame::new(MAC_BRIDGE, MAC_A).icmp(GATEWAY, POD_A, expired, all_that_fits(&sent))
    );
    Ok(())
}

#[test]
fn no_error_about_an_error() {
    let error = from_a().ttl(1).icmp(POD_A, POD_PEER, UNREACHABLE, &[0; 28]);
    assert_eq!(
        pod_a_sends(&mut tables(), error.clone()),
        (Verdict::Drop(Reason::ExpiredSilent), error)
    );
}

/// A backend has closed its port: the client of the service hears of the service.
#[test]
fn an_error_about_a_service_quotes_the_service() -> Result<()> {
    let mut tables = tables();
    let sent = from_a().udp(FROM, (DATABASE, 53), b"who")?;
    pod_a_sends(&mut tables, sent.clone());
    let received = Frame::new([0; 6], [0; 6]).ttl(63).udp(SEEN, (POD_FAR, 5353), b"who")?;
    let error = Frame::new([9; 6], [8; 6]).icmp(POD_FAR, POD_A, UNREACHABLE, quote(&received));
    let (verdict, frame) = wire_brings(
        &mut tables,
        from_wire().vxlan((FAR, 50_123), (NODE, 4789), VNI, &error)?,
    );
    assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_A });
    let as_sent = Frame::new([0; 6], [0; 6]).ttl(63).udp(FROM, (DATABASE, 53), b"who")?;
    assert_eq!(
        frame,
        Frame::new(MAC_BRIDGE, MAC_A).icmp(DATABASE, POD_A, UNREACHABLE, quote(&as_sent))
    );
    Ok(())
}

/// A router outside says that the way is narrow: the pod hears it, about its own connection.
#[test]
fn an_error_about_a_masqueraded_connection_finds_the_pod() -> Result<()> {
    let mut tables = tables();
    let server = ([198, 51, 100, 7], 443);
    let (_, masqueraded) = pod_a_sends(&mut tables, from_a().tcp(FROM, server, TcpFlags::ACK, &[3; 900])?);
    let narrow = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 800 });
    let router = [198, 51, 100, 1];
    let error = from_wire().icmp(router, NODE, narrow.clone(), quote(&masqueraded));
    let (verdict, frame) = wire_brings(&mut tables, error);
    assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_A });
    let mut expected = from_a().ttl(63).tcp(FROM, server, TcpFlags::ACK, &[3; 900])?;
    // The quote ends before TCP's checksum.
    expected.truncate(14 + 28);
    assert_eq!(
        frame,
        Frame::new(MAC_BRIDGE, MAC_A).icmp(router, POD_A, narrow, quote(&expected))
    );
    Ok(())
}
