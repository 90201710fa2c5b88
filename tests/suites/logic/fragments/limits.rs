//! What is not held, and for how long the rest is.

use netpath_common::abi::{
    config::Config,
    fragment::{Datagram, FRAGMENT_SECONDS, FragmentKey, STATE_HELD, STATE_NO_PORTS, STATE_PORTS},
    held::{FRAME, PLACES},
};
use netpath_ebpf::packet::Packet;

use super::*;

in_both_families! {
    where_no_port_is_needed_none_are_held;
    what_another_node_relays_is_held_here_too;
    no_more_are_held_than_there_are_places_for;
    what_is_too_long_or_yet_to_be_segmented_is_not_held;
    what_is_too_old_is_not_released;
    ports_are_known_for_a_while_only;
    a_message_without_ports_is_told_from_one_that_has_not_come;
    the_first_comes_again;
}

fn where_no_port_is_needed_none_are_held<A: At>() -> Result<()> {
    let later = |frame: Frame, source, destination, protocol| {
        A::packet(
            &frame.fragment(ID, 3, false),
            A::at(source),
            A::at(destination),
            protocol,
            &[9; 9],
        )
    };
    let to_stack = Verdict::Pass(Reason::ToStack);
    let mut tables = tables::<A>();
    for (hook, frame, verdict) in [
        (Hook::FromPod, later(from_a(), POD_A, POD_B, 17), TO_B),
        (
            Hook::FromPod,
            later(from_a(), POD_A, POD_PEER, 17),
            Verdict::Wire {
                reason: Reason::ToPeer,
                next_hop: A::next_hop(PEER),
            },
        ),
        (Hook::FromWire, later(from_wire(), POD_PEER, CLIENT, 17), to_stack),
        (
            Hook::FromWire,
            later(from_wire(), CLIENT, NODE, 47),
            Verdict::Pass(Reason::ToHost),
        ),
    ] {
        assert_eq!(verdicts(&come(&mut tables, hook, &frame)), [verdict], "{frame:02x?}");
    }
    assert!(A::of(&tables).held.is_empty() && A::of(&tables).fragments.is_empty());
    Ok(())
}

/// It is for the other node's address, and served here: the ports say of what.
fn what_another_node_relays_is_held_here_too<A: At>() -> Result<()> {
    let sent = fragments::<A>(from_wire(), at(CLIENT, PORT), at(PEER, NODE_PORT))?;
    for (direct_return, verdict) in [(0, Verdict::Pass(Reason::ToStack)), (1, HELD)] {
        let config = Config {
            direct_return,
            ..config()
        };
        let packet = &mut HostPacket::new(sent[1].clone(), UPLINK);
        let (tables, scratch) = (&mut tables::<A>(), &mut Scratch::default());
        let came = path::from_wire::run(packet, tables, &config, scratch);
        assert_eq!(Verdict::new(came, scratch), verdict);
    }
    Ok(())
}

fn no_more_are_held_than_there_are_places_for<A: At>() -> Result<()> {
    let later = |destination, offset: u16| {
        A::packet(
            &from_a().fragment(ID, 3 + offset, true),
            A::at(POD_A),
            A::at(destination),
            17,
            &[9; 8],
        )
    };
    let mut tables = tables::<A>();
    for (destination, beyond) in [(WEB, LOST), (NODE, Verdict::Pass(Reason::ToHost))] {
        for offset in 0..PLACES as u16 {
            let came = come(&mut tables, Hook::FromPod, &later(destination, offset));
            assert_eq!(verdicts(&came), [HELD]);
        }
        for offset in 0..3 {
            let came = come(&mut tables, Hook::FromPod, &later(destination, 100 + offset));
            assert_eq!(verdicts(&came), [beyond]);
        }
    }
    assert_eq!(A::of(&tables).held.len(), 2 * PLACES as usize);
    let first = fragments::<A>(from_a(), at(POD_A, PORT), at(WEB, 53))?.swap_remove(0);
    let came = come(&mut tables, Hook::FromPod, &first);
    assert_eq!(verdicts(&came)[0], RELEASED);
    assert_eq!(came.len(), 2 + PLACES as usize);
    assert_eq!(A::of(&tables).held.len(), PLACES as usize);
    Ok(())
}

fn what_is_too_long_or_yet_to_be_segmented_is_not_held<A: At>() -> Result<()> {
    let headers = fragments::<A>(from_a(), at(POD_A, PORT), at(WEB, 53))?[1].len() - 24;
    for (len, gso_size, verdict) in [(FRAME, 0, HELD), (FRAME + 1, 0, LOST), (500, 200, LOST)] {
        let payload = vec![9; len - headers];
        let frame = A::packet(&from_a().fragment(ID, 3, false), A::at(POD_A), A::at(WEB), 17, &payload);
        let packet = &mut HostPacket::new(frame, PORT_A);
        packet.gso_size = gso_size;
        assert_eq!(packet.len(), len);
        let (tables, scratch) = (&mut tables::<A>(), &mut Scratch::default());
        let came = path::from_pod::run(packet, tables, &config(), scratch);
        assert_eq!(Verdict::new(came, scratch), verdict, "{len}");
        assert_eq!(A::of(tables).held.len(), usize::from(verdict == HELD), "{len}");
    }
    Ok(())
}

/// Identifications are used again: neither old bytes for a new first, nor a new fragment to old ones.
fn what_is_too_old_is_not_released<A: At>() -> Result<()> {
    let sent = fragments::<A>(from_a(), at(POD_A, PORT), at(WEB, 53))?;
    for (waited, released) in [(FRAGMENT_SECONDS, true), (FRAGMENT_SECONDS + 1, false)] {
        let mut tables = tables::<A>();
        come(&mut tables, Hook::FromPod, &sent[2]);
        tables.clock += waited;
        let came = come(&mut tables, Hook::FromPod, &sent[0]);
        let all: &[_] = if released { &[RELEASED, TO_B, TO_B] } else { &[TO_B] };
        assert_eq!(verdicts(&came), all);
    }
    let mut tables = tables::<A>();
    come(&mut tables, Hook::FromPod, &sent[2]);
    come(&mut tables, Hook::FromPod, &sent[1]);
    tables.clock += FRAGMENT_SECONDS + 1;
    assert_eq!(verdicts(&come(&mut tables, Hook::FromPod, &sent[3])), [HELD]);
    let came = come(&mut tables, Hook::FromPod, &sent[0]);
    assert_eq!(verdicts(&came), [RELEASED, TO_B, TO_B]);
    let translated = fragments::<A>(Frame::new(MAC_BRIDGE, MAC_B), at(POD_A, SEEN), at(POD_B, BACKEND_PORT))?;
    assert_eq!((&came[1].1, &came[2].1), (&translated[0], &translated[3]));
    Ok(())
}

fn ports_are_known_for_a_while_only<A: At>() -> Result<()> {
    let sent = fragments::<A>(from_a(), at(POD_A, PORT), at(WEB, 53))?;
    let mut tables = tables::<A>();
    come(&mut tables, Hook::FromPod, &sent[0]);
    tables.clock += FRAGMENT_SECONDS;
    assert_eq!(verdicts(&come(&mut tables, Hook::FromPod, &sent[1])), [TO_B]);
    tables.clock += 1;
    assert_eq!(verdicts(&come(&mut tables, Hook::FromPod, &sent[1])), [HELD]);
    Ok(())
}

fn a_message_without_ports_is_told_from_one_that_has_not_come<A: At>() -> Result<()> {
    // No echo: a request for the time, or a node's answer about itself.
    let kind = if A::ICMP == 1 { 13 } else { 140 };
    let message = [&[kind, 0, 0, 0][..], &[1; 20]].concat();
    let [first, later] = [(0, true, &message[..]), (3, false, &[9; 9])].map(|(offset, more, bytes)| {
        let frame = from_wire().fragment(ID, offset, more);
        A::packet(&frame, A::at(CLIENT), A::at(NODE), A::ICMP, bytes)
    });
    let to_host = Verdict::Pass(Reason::ToHost);
    let mut tables = tables::<A>();
    assert_eq!(verdicts(&come(&mut tables, Hook::FromWire, &later)), [HELD]);
    let came = come(&mut tables, Hook::FromWire, &first);
    assert_eq!(came[1..], [(to_host, first), (to_host, later.clone())]);
    assert_eq!(verdicts(&come(&mut tables, Hook::FromWire, &later)), [to_host]);
    let key = FragmentKey {
        source: A::at(CLIENT),
        destination: A::at(NODE),
        identification: ID.into(),
        protocol: A::ICMP,
        reserved: [0; 3],
    };
    let known = A::of(&tables).fragments[&key.into()];
    let expected = Datagram {
        state: STATE_NO_PORTS,
        since: tables.clock,
        ..Datagram::default()
    };
    assert_eq!(known, expected);
    Ok(())
}

fn the_first_comes_again<A: At>() -> Result<()> {
    let sent = fragments::<A>(from_a(), at(POD_A, PORT), at(WEB, 53))?;
    let mut tables = tables::<A>();
    let states = |tables: &HostTables| -> Vec<(u8, u64)> {
        let known = A::of(tables).fragments.values();
        known.map(|datagram| (datagram.state, datagram.held)).collect()
    };
    come(&mut tables, Hook::FromPod, &sent[1]);
    come(&mut tables, Hook::FromPod, &sent[1]);
    assert_eq!(states(&tables), [(STATE_HELD, 2)]);
    let came = come(&mut tables, Hook::FromPod, &sent[0]);
    assert_eq!(verdicts(&came), [RELEASED, TO_B, TO_B, TO_B]);
    assert_eq!(came[2].1, came[3].1);
    assert_eq!(states(&tables), [(STATE_PORTS, 0)]);
    assert_eq!(verdicts(&come(&mut tables, Hook::FromPod, &sent[0])), [TO_B]);
    Ok(())
}
