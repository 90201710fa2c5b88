//! Single packets of SCTP: their checksum, what fragments and segmentation offload leave unknown of it, errors about them.

use anyhow::Result;
use netpath_common::reason::Reason;
use netpath_ebpf::{encap::PEER_MAC, packet::GSO_BY_FRAGS, path, scratch::Scratch};
use netpath_tests::{
    frame::{Frame, Socket, ip_packet},
    packet::HostPacket,
    sctp::{DATA, SHUTDOWN_ACK, chunk, init, packet, without_checksum},
    tables::HostTables,
    verdict::Verdict,
};

use super::*;

in_both_families! {
    a_checksum_that_is_yet_to_be_computed_stays_so;
    bytes_behind_the_packet_are_not_summed_up;
    fragments_pass_where_their_ports_stay_and_else_not;
    a_refusal_quotes_what_makes_its_receiver_believe_it;
    an_error_about_a_translated_packet_quotes_it_as_it_was_sent;
    packets_yet_to_be_segmented_are_not_too_large;
    a_packet_without_a_chunk_is_none;
}

fn a_checksum_that_is_yet_to_be_computed_stays_so<A: At>() -> Result<()> {
    let from = at::<A>(POD_A, PORT);
    let sent = from_a().sctp_without_checksum(from, at(DATABASE, DIAMETER), &init());
    let (_, frame) = pod_a_sends(&mut tables(), sent);
    let inner = Frame::new(MAC_OVERLAY, PEER_MAC).ttl(63);
    let arrives = inner.sctp_without_checksum(at::<A>(POD_A, SEEN), at(POD_FAR, FAR_DIAMETER), &init());
    assert_eq!(frame[50..], arrives);
    Ok(())
}

/// Short frames are filled up, and options may stand before the ports.
fn bytes_behind_the_packet_are_not_summed_up<A: At>() -> Result<()> {
    let (from, seen) = (at::<A>(POD_A, PORT), at::<A>(POD_A, SEEN));
    let (frontend, backend) = (at::<A>(WEB, SIGNAL), at::<A>(POD_B, SIGNAL));
    let chunks = chunk(SHUTDOWN_ACK, &[]);
    let behind = |frame: Vec<u8>| [frame, vec![0xee; 7]].concat();
    let (_, frame) = pod_a_sends(&mut tables(), behind(from_a().sctp(from, frontend, &chunks)));
    let arrives = Frame::new(MAC_BRIDGE, MAC_B);
    assert_eq!(frame, behind(arrives.sctp(seen, backend, &chunks)));

    let options = [132, 0, 1, 4, 0, 0, 0, 0];
    let optional = |frame: Frame, from: Socket<[u8; 16]>, to: Socket<[u8; 16]>| {
        frame.ipv6_behind(from.0, to.0, 60, &options, &packet(from.1, to.1, &init()))
    };
    let (_, frame) = pod_a_sends(&mut tables(), optional(from_a(), at(POD_A, PORT), at(WEB, SIGNAL)));
    assert_eq!(frame, optional(arrives, at(POD_A, SEEN), at(POD_B, SIGNAL)));
    Ok(())
}

/// The first fragment has the checksum, but only the last tells how much it covers.
fn fragments_pass_where_their_ports_stay_and_else_not<A: At>() -> Result<()> {
    // A port that is not moved, toward a backend at the frontend's own port.
    let own = 5_000;
    let whole = packet(own, SIGNAL, &chunk(DATA, &[7; 60]));
    let fragment = |frame: Frame, number: u16, source, destination, bytes: &[u8], more| {
        A::packet(
            &frame.fragment(99, number, more),
            A::at(source),
            A::at(destination),
            132,
            bytes,
        )
    };
    let mut here = tables();
    for (number, bytes, more) in [(0, &whole[..40], true), (5, &whole[40..], false)] {
        let sent = fragment(from_a(), number, POD_A, WEB, bytes, more);
        let (verdict, frame) = pod_a_sends(&mut here, sent);
        let arrives = fragment(Frame::new(MAC_BRIDGE, MAC_B), number, POD_A, POD_B, bytes, more);
        assert_eq!(
            (verdict, frame),
            (Verdict::Endpoint { ifindex: PORT_B }, arrives),
            "{number}"
        );
    }
    for (source, destination) in [(PORT, SIGNAL), (own, DIAMETER)] {
        let service = if destination == SIGNAL { WEB } else { DATABASE };
        let whole = packet(source, destination, &chunk(DATA, &[7; 60]));
        let (verdict, _) = pod_a_sends(&mut tables(), fragment(from_a(), 0, POD_A, service, &whole[..40], true));
        assert_eq!(verdict, Verdict::Drop(Reason::SctpFragment));
        // Without a checksum there is nothing to adapt.
        let whole = without_checksum(source, destination, &chunk(DATA, &[7; 60]));
        let (verdict, _) = pod_a_sends(&mut tables(), fragment(from_a(), 0, POD_A, service, &whole[..40], true));
        assert_ne!(verdict, Verdict::Drop(Reason::SctpFragment));
    }
    Ok(())
}

/// By its tag: in an INIT that is the chunk's, elsewhere the header's (RFC 9260, section 10).
fn a_refusal_quotes_what_makes_its_receiver_believe_it<A: At>() -> Result<()> {
    let (from, nobody) = (at::<A>(POD_A, PORT), at::<A>(EMPTY, SIGNAL));
    for chunks in [init(), chunk(DATA, b"late")] {
        let sent = from_a().sctp(from, nobody, &chunks);
        let answer = Frame::new(MAC_BRIDGE, MAC_A).icmp(nobody.0, from.0, A::unreachable(), ip_packet(&sent));
        let mut tables = tables();
        let outcome = pod_a_sends(&mut tables, sent);
        assert_eq!(outcome, (Verdict::Bounce(Reason::Refused), answer), "{chunks:02x?}");
        assert!(A::of(&tables).connections.is_empty());
    }
    // A port that no service has.
    let (verdict, _) = pod_a_sends(&mut tables(), from_a().sctp(from, at(WEB, 80), &init()));
    assert_eq!(verdict, Verdict::Bounce(Reason::Refused));
    Ok(())
}

/// Also where the error quotes the checksum: nobody looks at it.
fn an_error_about_a_translated_packet_quotes_it_as_it_was_sent<A: At>() -> Result<()> {
    let (from, server) = (at::<A>(POD_A, PORT), at::<A>(SERVER, SIGNAL));
    let mut tables = tables();
    let sent = from_a().sctp(from, server, &init());
    let (_, left) = pod_a_sends(&mut tables, sent.clone());
    let seen = A::at(NODE);
    for quoted in [8, 12, 20] {
        let of = |frame: &[u8]| ip_packet(frame)[..A::HEADER + quoted].to_vec();
        let error = from_wire().icmp(A::at(ROUTER), seen, A::too_big(1_400), &of(&left));
        let (verdict, frame) = wire_brings(&mut tables, error);
        // The packet had aged by then, and IPv4 sums that up.
        let mut quote = of(&from_a().ttl(63).sctp(from, server, &init()));
        if quoted > 8 {
            let at = A::HEADER + 8;
            quote[at..at + 4].copy_from_slice(&ip_packet(&left)[at..at + 4]);
        }
        let arrives = Frame::new(MAC_BRIDGE, MAC_A).icmp(A::at(ROUTER), from.0, A::too_big(1_400), &quote);
        assert_eq!(
            (verdict, frame),
            (Verdict::Endpoint { ifindex: PORT_A }, arrives),
            "{quoted}"
        );
    }
    Ok(())
}

/// Each segment is a packet that its sender made, of a length that only the sender knows.
fn packets_yet_to_be_segmented_are_not_too_large<A: At>() -> Result<()> {
    let visit = |hook: fn(&mut HostPacket, &mut HostTables, &mut Scratch) -> _, frame, ifindex| {
        let mut packet = HostPacket {
            gso_size: GSO_BY_FRAGS,
            ..HostPacket::new(frame, ifindex)
        };
        let mut scratch = Scratch::default();
        let verdict = hook(&mut packet, &mut tables(), &mut scratch);
        (Verdict::new(verdict, &scratch), packet.bytes)
    };
    let from_pod = |packet: &mut HostPacket, tables: &mut HostTables, scratch: &mut Scratch| {
        path::from_pod::run(packet, tables, &config(), scratch)
    };
    let from_wire_hook = |packet: &mut HostPacket, tables: &mut HostTables, scratch: &mut Scratch| {
        path::from_wire::run(packet, tables, &config(), scratch)
    };
    let data = chunk(DATA, &[1; 4_000]);
    let from = at::<A>(POD_A, 5_000);
    let to = |frame: Frame, address, port| frame.sctp_without_checksum(from, at(address, port), &data);

    let (verdict, frame) = visit(from_pod, to(from_a(), SERVER, SIGNAL), PORT_A);
    let seen = at::<A>(NODE, given::<A>(&frame));
    let leaves = from_a().ttl(63).sctp_without_checksum(seen, at(SERVER, SIGNAL), &data);
    assert_eq!((verdict, frame), (OUTSIDE, leaves));
    // Where a tunnel must be entered or left, the kernel does it.
    assert_eq!(
        visit(from_pod, to(from_a(), DATABASE, DIAMETER), PORT_A),
        (
            Verdict::Pass(Reason::ToStack),
            to(from_a().ttl(63), POD_FAR, FAR_DIAMETER)
        )
    );
    let tunnelled = from_wire().vxlan((FAR, 50_123), (NODE, 4789), VNI, &to(from_a(), POD_B, SIGNAL))?;
    assert_eq!(
        visit(from_wire_hook, tunnelled.clone(), UPLINK),
        (Verdict::Pass(Reason::ToOverlay), tunnelled)
    );
    Ok(())
}

fn a_packet_without_a_chunk_is_none<A: At>() -> Result<()> {
    for chunks in [&[][..], &[DATA, 0, 0]] {
        let frame = from_a().sctp(at::<A>(POD_A, PORT), at(WEB, SIGNAL), chunks);
        let outcome = pod_a_sends(&mut tables(), frame.clone());
        assert_eq!(outcome, (Verdict::Drop(Reason::Malformed), frame));
    }
    Ok(())
}
