//! Fragments in any order: those that come before the first are held where their ports are needed, and come in anew behind it.

use anyhow::Result;
use netpath_common::{hook::Hook, reason::Reason};
use netpath_ebpf::{encap::PEER_MAC, path, scratch::Scratch, verdict::NextHop};
use netpath_tests::{
    entries,
    frame::{Frame, Ip, Socket},
    packet::HostPacket,
    tables::HostTables,
    verdict::Verdict,
};

use super::node::*;
use crate::families::in_both_families;

const ID: u16 = 77;
/// The node's port of a service over UDP, whose backend is pod B.
const NODE_PORT: u16 = 30_053;
const BACKEND_PORT: u16 = 8080;
const VXLAN_PORT: u16 = 4789;

const HELD: Verdict = Verdict::Kept(Reason::FragmentHeld);
const RELEASED: Verdict = Verdict::Kept(Reason::FragmentsReleased);
const LOST: Verdict = Verdict::Drop(Reason::FragmentWithoutHead);
const TO_A: Verdict = Verdict::Endpoint { ifindex: PORT_A };
const TO_B: Verdict = Verdict::Endpoint { ifindex: PORT_B };

/// The scenarios' tables, and a service over UDP at the node's port and an address of its own.
fn tables<A: At>() -> HostTables {
    let mut tables = super::node::tables();
    let service = entries::service(1, 1);
    for (address, port) in [(NODE, NODE_PORT), (WEB, 53), (BALANCED, 53)] {
        let frontend = entries::frontend(A::at(address), port, 17);
        A::of_mut(&mut tables).services.insert(frontend, service);
    }
    tables
}

/// A datagram's fragments, in the order of their offsets: 24 bytes each, and 3 in the last.
fn fragments<A: Ip>(frame: Frame, source: Socket<A>, destination: Socket<A>) -> Result<Vec<Vec<u8>>> {
    let payload: Vec<u8> = (0..67).collect();
    frame.udp_in_parts(ID, (source, destination), &payload, 24)
}

/// A frame at a hook: what became of it there, and of what came in anew.
fn come(tables: &mut HostTables, hook: Hook, frame: &[u8]) -> Vec<(Verdict, Vec<u8>)> {
    let (config, scratch) = (&config(), &mut Scratch::default());
    let ifindex = if hook == Hook::FromPod { PORT_A } else { UPLINK };
    let packet = &mut HostPacket::new(frame.to_vec(), ifindex);
    packet.xdp = hook == Hook::FromWireXdp;
    let verdict = match hook {
        Hook::FromPod => path::from_pod::run(packet, tables, config, scratch),
        _ => path::from_wire::run(packet, tables, config, scratch),
    };
    let mut outcomes = vec![(Verdict::new(verdict, scratch), packet.bytes.clone())];
    for anew in std::mem::take(&mut packet.anew) {
        let came = come(tables, hook, &anew);
        assert!(came.len() == 1, "a frame that came in anew has others come in anew");
        outcomes.extend(came);
    }
    outcomes
}

fn verdicts(outcomes: &[(Verdict, Vec<u8>)]) -> Vec<Verdict> {
    outcomes.iter().map(|(verdict, _)| *verdict).collect()
}

/// Every order of four things.
fn orders() -> Vec<[usize; 4]> {
    let all = (0..256).map(|number| [number & 3, number >> 2 & 3, number >> 4 & 3, number >> 6]);
    all.filter(|order| (0..4).all(|place| order.contains(&place))).collect()
}

/// Sends the fragments in every order. Those that come before the first must be held, and what arrives be `expected`: the first,
/// then what was held in its order, then the others.
fn in_every_order<A: At>(hook: Hook, sent: &[Vec<u8>], expected: &[Vec<u8>], verdict: Verdict) -> Result<()> {
    assert_eq!((sent.len(), orders().len()), (4, 24));
    for order in orders() {
        let mut tables = tables::<A>();
        let mut outcomes = Vec::new();
        for place in order {
            outcomes.extend(come(&mut tables, hook, &sent[place]));
        }
        let before = order.iter().position(|place| *place == 0).unwrap_or_default();
        let mut all = vec![HELD; before];
        all.extend(vec![RELEASED; usize::from(before > 0)]);
        all.extend([verdict; 4]);
        assert_eq!(verdicts(&outcomes), all, "{order:?}");
        let arrived: Vec<_> = outcomes.drain(..).filter(|(each, _)| *each == verdict).collect();
        let behind = order.iter().filter(|place| **place != 0);
        let wanted: Vec<_> = [&0]
            .into_iter()
            .chain(behind)
            .map(|place| expected[*place].clone())
            .collect();
        assert_eq!(
            arrived.into_iter().map(|(_, frame)| frame).collect::<Vec<_>>(),
            wanted,
            "{order:?}"
        );
        assert!(A::of(&tables).held.is_empty(), "{order:?}");
    }
    Ok(())
}

mod limits;

in_both_families! {
    to_a_service_from_a_pod;
    to_a_node_port_from_outside;
    to_a_balancers_address_from_outside;
    out_and_back;
    answers_of_a_backend_elsewhere;
    through_a_tunnel_to_the_node;
    two_datagrams_at_once;
    what_xdp_leaves_to_tc;
}

fn to_a_service_from_a_pod<A: At>() -> Result<()> {
    let sent = fragments::<A>(from_a(), at(POD_A, PORT), at(WEB, 53))?;
    let translated = fragments::<A>(Frame::new(MAC_BRIDGE, MAC_B), at(POD_A, SEEN), at(POD_B, BACKEND_PORT))?;
    in_every_order::<A>(Hook::FromPod, &sent, &translated, TO_B)
}

fn to_a_node_port_from_outside<A: At>() -> Result<()> {
    let sent = fragments::<A>(from_wire(), at(CLIENT, PORT), at(NODE, NODE_PORT))?;
    let translated = fragments::<A>(Frame::new(MAC_BRIDGE, MAC_B), at(CLIENT, PORT), at(POD_B, BACKEND_PORT))?;
    in_every_order::<A>(Hook::FromWire, &sent, &translated, TO_B)
}

fn to_a_balancers_address_from_outside<A: At>() -> Result<()> {
    let sent = fragments::<A>(from_wire(), at(CLIENT, PORT), at(BALANCED, 53))?;
    let translated = fragments::<A>(Frame::new(MAC_BRIDGE, MAC_B), at(CLIENT, PORT), at(POD_B, BACKEND_PORT))?;
    in_every_order::<A>(Hook::FromWire, &sent, &translated, TO_B)
}

/// Sends fragments, the last first: three are held, and come in anew behind the first. What arrived of each, in the order of their
/// offsets again.
fn last_first(tables: &mut HostTables, hook: Hook, sent: &[Vec<u8>], verdict: Verdict) -> Vec<Vec<u8>> {
    let came: Vec<_> = sent.iter().rev().flat_map(|frame| come(tables, hook, frame)).collect();
    let expected = [&[HELD, HELD, HELD, RELEASED][..], &[verdict; 4]].concat();
    assert_eq!(verdicts(&came), expected);
    let mut arrived: Vec<_> = came.into_iter().skip(4).map(|(_, frame)| frame).collect();
    arrived[1..].reverse();
    arrived
}

/// Under the node's address, and the answer to it.
fn out_and_back<A: At>() -> Result<()> {
    let mut tables = tables::<A>();
    let out = Verdict::Wire {
        reason: Reason::ToOutside,
        next_hop: NextHop::ROUTED,
    };
    let sent = fragments::<A>(from_a(), at(POD_A, PORT), at(CLIENT, 53))?;
    let left = last_first(&mut tables, Hook::FromPod, &sent, out);
    let headers = left[0].len() - 24;
    let port = u16::from_be_bytes([left[0][headers], left[0][headers + 1]]);
    assert!(NAT.contains(&port), "{port}");
    assert_eq!(left, fragments::<A>(from_a().ttl(63), at(NODE, port), at(CLIENT, 53))?);

    let answer = fragments::<A>(from_wire(), at(CLIENT, 53), at(NODE, port))?;
    let back = last_first(&mut tables, Hook::FromWire, &answer, TO_A);
    let expected = fragments::<A>(Frame::new(MAC_BRIDGE, MAC_A), at(CLIENT, 53), at(POD_A, PORT))?;
    assert_eq!(back, expected);
    Ok(())
}

/// What the client hears has the service's address again.
fn answers_of_a_backend_elsewhere<A: At>() -> Result<()> {
    let mut tables = tables::<A>();
    come(
        &mut tables,
        Hook::FromPod,
        &from_a().udp(at::<A>(POD_A, PORT), at(DATABASE, 53), b"?")?,
    );
    let inner = fragments::<A>(Frame::new(MAC_BRIDGE, PEER_MAC), at(POD_FAR, 5353), at(POD_A, SEEN))?;
    let back = last_first(&mut tables, Hook::FromWire, &in_tunnels(&inner)?, TO_A);
    let expected = fragments::<A>(Frame::new(MAC_BRIDGE, MAC_A), at(DATABASE, 53), at(POD_A, PORT))?;
    assert_eq!(back, expected);
    Ok(())
}

/// Frames as another node's tunnel brings them.
fn in_tunnels(inner: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    let wrap = |inner: &Vec<u8>| from_wire().vxlan((FAR, 51_000), (NODE, VXLAN_PORT), VNI, inner);
    inner.iter().map(wrap).collect()
}

/// Held with their outer headers, so that they come out of the tunnel when they come in anew.
fn through_a_tunnel_to_the_node<A: At>() -> Result<()> {
    let inner = fragments::<A>(Frame::new(MAC_BRIDGE, PEER_MAC), at(POD_FAR, PORT), at(NODE, NODE_PORT))?;
    let sent = in_tunnels(&inner)?;
    let translated = fragments::<A>(
        Frame::new(MAC_BRIDGE, MAC_B),
        at(POD_FAR, PORT),
        at(POD_B, BACKEND_PORT),
    )?;
    in_every_order::<A>(Hook::FromWire, &sent, &translated, TO_B)?;
    let mut tables = tables::<A>();
    come(&mut tables, Hook::FromWire, &sent[2]);
    let held: Vec<_> = A::of(&tables).held.values().collect();
    assert_eq!(held, [&(tables.clock, sent[2].clone())]);
    // A stranger's is dropped before anyone looks into it.
    let strange = from_wire().vxlan((CLIENT, 51_000), (NODE, VXLAN_PORT), VNI, &inner[3])?;
    let came = come(&mut tables, Hook::FromWire, &strange);
    assert_eq!(verdicts(&came), [Verdict::Drop(Reason::TunnelFromStranger)]);
    Ok(())
}

fn two_datagrams_at_once<A: At>() -> Result<()> {
    let other = |frame: Vec<u8>| {
        let at = if frame[12] == 8 { 19 } else { 14 + 40 + 7 };
        let mut frame = frame;
        frame[at] += 1;
        if at == 19 {
            // IPv4's header sums the identification: one more in it is one less in the sum.
            frame[25] -= 1;
        }
        frame
    };
    let one = fragments::<A>(from_a(), at(POD_A, PORT), at(WEB, 53))?;
    let two: Vec<_> = one.iter().cloned().map(other).collect();
    let mut tables = tables::<A>();
    for frame in [&one[3], &two[1], &two[3], &one[1], &two[2]] {
        assert_eq!(verdicts(&come(&mut tables, Hook::FromPod, frame)), [HELD]);
    }
    let one_anew = come(&mut tables, Hook::FromPod, &one[0]);
    assert_eq!(verdicts(&one_anew), [RELEASED, TO_B, TO_B, TO_B]);
    let translated = fragments::<A>(Frame::new(MAC_BRIDGE, MAC_B), at(POD_A, SEEN), at(POD_B, BACKEND_PORT))?;
    for (came, place) in one_anew[1..].iter().zip([0, 3, 1]) {
        assert_eq!(came.1, translated[place]);
    }
    let two_anew = come(&mut tables, Hook::FromPod, &two[0]);
    assert_eq!(verdicts(&two_anew), [RELEASED, TO_B, TO_B, TO_B, TO_B]);
    for (came, place) in two_anew[1..].iter().zip([0, 1, 3, 2]) {
        assert_eq!(came.1, other(translated[place].clone()));
    }
    Ok(())
}

/// XDP leaves all of a datagram alone of which it would have to hold one, and tc puts it in order.
fn what_xdp_leaves_to_tc<A: At>() -> Result<()> {
    let mut tables = tables::<A>();
    let sent = fragments::<A>(from_wire(), at(CLIENT, PORT), at(NODE, NODE_PORT))?;
    let left = Verdict::Kept(Reason::ToTc);
    let before = tables.clone();
    let outcomes = come(&mut tables, Hook::FromWireXdp, &sent[2]);
    assert_eq!(outcomes, [(left, sent[2].clone())]);
    assert_eq!(tables, before);
    come(&mut tables, Hook::FromWire, &sent[2]);
    let before = tables.clone();
    assert_eq!(
        come(&mut tables, Hook::FromWireXdp, &sent[0]),
        [(left, sent[0].clone())]
    );
    assert_eq!(tables, before);
    let outcomes = come(&mut tables, Hook::FromWire, &sent[0]);
    assert_eq!(verdicts(&outcomes), [RELEASED, TO_B, TO_B]);
    // The ports are known: no reason to wait.
    let outcomes = come(&mut tables, Hook::FromWireXdp, &sent[1]);
    assert_eq!(verdicts(&outcomes), [TO_B]);
    Ok(())
}

/// A tunnel's own packets that were fragmented outside: only the node's stack puts them together.
#[test]
fn what_carries_a_tunnel_reaches_the_stack_whole() -> Result<()> {
    let inner = Frame::new(MAC_BRIDGE, PEER_MAC).udp((POD_FAR, PORT), (POD_B, 53), &[7; 300])?;
    let outer = from_wire().vxlan((FAR, 51_000), (NODE, VXLAN_PORT), VNI, &inner)?;
    let part = |offset: usize, bytes: &[u8], more| {
        let frame = from_wire().fragment(ID, (offset / 8) as u16, more);
        frame.ipv4(FAR, NODE, 17, bytes)
    };
    let (first, later) = (part(0, &outer[34..234], true), part(200, &outer[234..], false));
    let to_host = Verdict::Pass(Reason::ToHost);
    let tables = tables::<[u8; 4]>;
    let (mut ordered, mut reversed) = (tables(), tables());
    for frame in [&first, &later] {
        let came = come(&mut ordered, Hook::FromWire, frame);
        assert_eq!(came, [(to_host, frame.clone())]);
    }
    assert_eq!(verdicts(&come(&mut reversed, Hook::FromWire, &later)), [HELD]);
    let came = come(&mut reversed, Hook::FromWire, &first);
    assert_eq!(came[0].0, RELEASED);
    assert_eq!(came[1..], [(to_host, first), (to_host, later)]);
    Ok(())
}
