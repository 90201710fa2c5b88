//! What asks a service's address for something that it does not serve is refused; what asks for an address that no service
//! has is dropped. Neither goes on to where it would come back from.

use anyhow::Result;
use etherparse::{Icmpv4Type, icmpv4::DestUnreachableHeader};
use netpath_common::reason::Reason;
use netpath_ebpf::{encap::PEER_MAC, verdict::NextHop};
use netpath_tests::{
    frame::{Frame, TcpFlags, ip_packet},
    tables::HostTables,
    verdict::Verdict,
};

use super::node::*;

const UNREACHABLE: Icmpv4Type = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port);

/// Frames to an address that ask for nothing that is served there: other ports, a ping, and a protocol without ports; each
/// with its refusal.
fn strangers(to: [u8; 4], frame: fn() -> Frame, from: [u8; 4], back: Frame) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let (client, port) = ((from, 40_000), (to, 4_444));
    let by_icmp = |sent: Vec<u8>| {
        let answer = back.icmp(to, from, UNREACHABLE, ip_packet(&sent));
        (sent, answer)
    };
    Ok(vec![
        (
            frame().tcp(client, port, TcpFlags::SYN, b"")?,
            back.reset(port, client, 0, Some(0x1001))?,
        ),
        (
            frame().tcp(client, port, TcpFlags::ACK, b"late")?,
            back.reset(port, client, 0x2000, None)?,
        ),
        by_icmp(frame().udp(client, (to, 80), b"who")?),
        by_icmp(frame().echo(from, to, 77, b"abcdefgh")),
        by_icmp(frame().ipv4(from, to, 132, &[7; 16])),
    ])
}

fn from_host() -> Frame {
    Frame::new(MAC_BRIDGE, MAC_OVERLAY)
}

type Hook = fn(&mut HostTables, Vec<u8>) -> Outcome;

/// A hook, the sender's frame and address, and the answer's frame.
type Origin = (Hook, fn() -> Frame, [u8; 4], Frame);

/// A pod, the wire and the node itself.
fn origins() -> [Origin; 3] {
    [
        (pod_a_sends, from_a, POD_A, Frame::new(MAC_BRIDGE, MAC_A)),
        (wire_brings, from_wire, CLIENT, Frame::new(MAC_UPLINK, MAC_ROUTER)),
        (host_sends, from_host, NODE, Frame::new(MAC_OVERLAY, MAC_BRIDGE)),
    ]
}

#[test]
fn a_service_s_address_refuses_all_that_it_does_not_serve() -> Result<()> {
    for (hook, frame, from, back) in origins() {
        for (sent, answer) in strangers(WEB, frame, from, back)? {
            let mut tables = tables();
            assert_eq!(
                hook(&mut tables, sent.clone()),
                (Verdict::Bounce(Reason::Refused), answer),
                "{sent:02x?}"
            );
            assert!(tables.v4.connections.is_empty());
        }
    }
    Ok(())
}

/// Also where its address is outside of the range, and so is no route of ours.
#[test]
fn an_address_outside_of_the_range_refuses_too() -> Result<()> {
    for (sent, answer) in strangers(WEB, from_a, POD_A, Frame::new(MAC_BRIDGE, MAC_A))? {
        let mut tables = tables();
        tables.v4.routes.retain(|key, _| key.prefix_len != 16);
        let outcome = pod_a_sends(&mut tables, sent);
        assert_eq!(outcome, (Verdict::Bounce(Reason::Refused), answer));
    }
    Ok(())
}

#[test]
fn an_address_that_no_service_has_is_dropped() -> Result<()> {
    for (hook, frame, from, back) in origins() {
        for (sent, _) in strangers(UNKNOWN, frame, from, back)? {
            let mut tables = tables();
            assert_eq!(
                hook(&mut tables, sent.clone()),
                (Verdict::Drop(Reason::NoFrontend), sent)
            );
            assert!(tables.v4.connections.is_empty());
        }
    }
    Ok(())
}

/// What comes from outside would be routed back there; what is inside may find more there than the cluster's services.
#[test]
fn a_balancer_s_address_refuses_what_comes_from_outside() -> Result<()> {
    for (hook, frame, from, back) in origins() {
        for (sent, answer) in strangers(BALANCED, frame, from, back)? {
            let outcome = hook(&mut tables(), sent.clone());
            match from {
                CLIENT => assert_eq!(outcome, (Verdict::Bounce(Reason::Refused), answer)),
                _ => assert!(outcome.0.reason() != Reason::Refused, "{outcome:02x?}"),
            }
        }
    }
    Ok(())
}

/// A pod of another node asks a NodePort or an address here, and is told through the tunnel that leads to it.
#[test]
fn what_came_through_a_tunnel_is_refused_through_one() -> Result<()> {
    let inner = || Frame::new([9; 6], [8; 6]);
    for (sent, answer) in strangers(WEB, inner, POD_FAR, Frame::new(MAC_OVERLAY, PEER_MAC))? {
        let tunnelled = from_wire().vxlan((FAR, 50_123), (NODE, 4789), VNI, &sent)?;
        let (verdict, frame) = wire_brings(&mut tables(), tunnelled);
        let refused = Verdict::Wire {
            next_hop: NextHop::v4(ROUTER),
            reason: Reason::Refused,
        };
        assert_eq!(verdict, refused);
        let (outer, rest) = frame.split_at(50);
        assert_eq!((&outer[26..30], &outer[30..34]), (&NODE[..], &FAR[..]));
        assert_eq!(
            (&outer[36..38], &outer[46..49]),
            (&[0x12, 0xb5][..], &VNI.to_be_bytes()[1..])
        );
        assert_eq!(rest, answer, "{sent:02x?}");
    }
    // A sender that no tunnel leads to would be told by the wrong way.
    let sent = inner().tcp((CLIENT, 40_000), (WEB, 4_444), TcpFlags::SYN, b"")?;
    let tunnelled = from_wire().vxlan((FAR, 50_123), (NODE, 4789), VNI, &sent)?;
    let (verdict, _) = wire_brings(&mut tables(), tunnelled);
    assert_eq!(verdict, Verdict::Drop(Reason::RefusedSilent));
    Ok(())
}

/// An error is not answered with another.
#[test]
fn what_may_not_be_answered_is_dropped_by_name() -> Result<()> {
    let sent = from_a().tcp((WEB, 4_444), (POD_A, 40_000), TcpFlags::SYN, b"")?;
    let error = from_a().icmp(POD_A, WEB, UNREACHABLE, &ip_packet(&sent)[..28]);
    let (verdict, _) = pod_a_sends(&mut tables(), error);
    assert_eq!(verdict, Verdict::Drop(Reason::RefusedSilent));
    Ok(())
}
