//! What comes from outside where every node chooses alike: relayed as it is to the node of its backend, served there as if it had
//! come there at once, and forgotten where two nodes do not agree.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use etherparse::{Icmpv4Type, icmpv4::DestUnreachableHeader};
use netpath_common::{
    abi::{
        config::Config,
        conntrack::{
            Connection, DIRECTION_ORIGINAL, DIRECTION_RELAYED, DIRECTION_REPLY, STATE_ESTABLISHED, STATE_NEW, Tuple,
        },
    },
    reason::Reason,
};
use netpath_ebpf::{nat::Target, offer::Offer, service, verdict::NextHop};
use netpath_tests::{
    entries,
    frame::{Frame, Socket, TcpFlags, ip_packet},
    tables::HostTables,
    verdict::Verdict,
};

use super::node::*;

const PEERS_PORT: Socket = (PEER, SPREAD_PORT);
const HERE: Socket = (POD_B, 8080);

/// Every place of the table names a slot in turn, so that among these ports each backend has some.
const PORTS: std::ops::Range<u16> = 33_000..33_100;

fn toward_peer<A: At>() -> Verdict {
    Verdict::Wire {
        reason: Reason::ToPeer,
        next_hop: A::next_hop(PEER),
    }
}

fn syn<A: At>(frame: Frame, port: u16, to: Socket) -> Result<Vec<u8>> {
    frame.tcp((A::at(CLIENT), port), (A::at(to.0), to.1), TcpFlags::SYN, b"")
}

/// A port from which what asks ends so, and the tables after that.
fn port<A: At>(to: Socket, ends: impl Fn(&Verdict) -> bool) -> Result<(u16, HostTables)> {
    let tried = PORTS.map(|port| {
        let mut tables = tables();
        let (verdict, _) = wire_brings(&mut tables, syn::<A>(from_wire(), port, to)?);
        anyhow::Ok((port, verdict, tables))
    });
    for tried in tried {
        let (port, verdict, tables) = tried?;
        if ends(&verdict) {
            return Ok((port, tables));
        }
    }
    anyhow::bail!("no port of {PORTS:?} does")
}

fn goes_as_it_is<A: At>() -> Result<()> {
    for to in [SPREAD, (NODE, SPREAD_PORT)] {
        let (port, mut tables) = port::<A>(to, |verdict| *verdict == toward_peer::<A>())?;
        let tuple = Tuple {
            source: A::at(CLIENT),
            destination: A::at(to.0),
            source_port: port,
            destination_port: to.1,
            protocol: 6,
            reserved: [0; 3],
        };
        let known = |state| {
            let connection = Connection {
                source: A::at(CLIENT),
                destination: A::at(POD_PEER),
                source_port: port,
                destination_port: 8080,
                state,
                direction: DIRECTION_RELAYED,
                ttl: 64,
                reserved: 0,
                last_seen: 1_000,
                set: SPREAD_SET,
            };
            BTreeMap::from([(A::Tuple::from(tuple), A::Connection::from(connection))])
        };
        assert_eq!(A::of(&tables).connections, known(STATE_NEW));
        // What goes on stays there, though the table changes, and leaves nothing but its entry.
        A::of_mut(&mut tables)
            .maglev
            .values_mut()
            .for_each(|block| block.slots = [0; 64]);
        let more = |frame: Frame| frame.tcp((A::at(CLIENT), port), (A::at(to.0), to.1), TcpFlags::ACK, b"more");
        let outcome = wire_brings(&mut tables, more(from_wire())?);
        assert_eq!(outcome, (toward_peer::<A>(), more(from_wire().ttl(63))?));
        assert_eq!(A::of(&tables).connections, known(STATE_ESTABLISHED));
        // On its way out nothing is done to it.
        let leaves = more(from_wire().ttl(63))?;
        let outcome = stack_sends_out(&mut tables, leaves.clone());
        assert_eq!(outcome, (Verdict::Pass(Reason::ToStack), leaves));
        assert_eq!(A::of(&tables).connections, known(STATE_ESTABLISHED));
    }
    Ok(())
}

#[test]
fn what_is_for_a_pod_of_a_node_on_the_segment_goes_there_as_it_is() -> Result<()> {
    goes_as_it_is::<[u8; 4]>()?;
    goes_as_it_is::<[u8; 16]>()
}

#[test]
fn nothing_is_relayed_through_a_tunnel() -> Result<()> {
    let tunnelled = |verdict: &Verdict| verdict.reason() == Reason::ToTunnel;
    let (port, tables) = port::<[u8; 4]>(SPREAD, tunnelled)?;
    let directions = tables.v4.connections.values().map(|connection| connection.direction);
    let directions: BTreeSet<_> = directions.collect();
    assert_eq!(
        directions,
        BTreeSet::from([DIRECTION_ORIGINAL, DIRECTION_REPLY]),
        "from port {port}"
    );
    Ok(())
}

/// On the node that it is relayed to the pod sees the client, and the answer has the address that was asked.
#[test]
fn another_node_s_port_is_served_where_that_node_relays_it() -> Result<()> {
    let here = Verdict::Endpoint { ifindex: PORT_B };
    let (port, mut tables) = port::<[u8; 4]>(PEERS_PORT, |verdict| *verdict == here)?;
    let (_, frame) = wire_brings(&mut tables, syn::<[u8; 4]>(from_wire(), port, PEERS_PORT)?);
    let client = (CLIENT, port);
    let seen = Frame::new(MAC_BRIDGE, MAC_B).tcp(client, HERE, TcpFlags::SYN, b"")?;
    assert_eq!(frame, seen);
    let answer = Frame::new(MAC_B, MAC_BRIDGE).tcp(HERE, client, TcpFlags::SYN_ACK, b"")?;
    let (verdict, frame) = pod_b_sends(&mut tables, answer);
    let out = Verdict::Wire {
        reason: Reason::ToOutside,
        next_hop: NextHop::ROUTED,
    };
    let back = Frame::new(MAC_B, MAC_BRIDGE).ttl(63);
    assert_eq!(
        (verdict, frame),
        (out, back.tcp(PEERS_PORT, client, TcpFlags::SYN_ACK, b"")?)
    );
    // A port that is none of a service's is the kernel's to forward, as before.
    let other = syn::<[u8; 4]>(from_wire(), port, (PEER, 22))?;
    assert_eq!(
        wire_brings(&mut tables, other.clone()),
        (Verdict::Pass(Reason::ToStack), other)
    );
    Ok(())
}

/// Whom a connection of the client's port goes to on a node with this seed of its own.
fn chosen(seed: u32, port: u16, affinity: u32) -> Result<[u8; 4]> {
    let config = Config {
        hash_seed: seed,
        ..config()
    };
    let tuple = Tuple {
        source: CLIENT,
        destination: SPREAD.0,
        source_port: port,
        destination_port: SPREAD.1,
        protocol: 6,
        reserved: [0; 3],
    };
    let mut tables = tables();
    let frontend = entries::frontend(SPREAD.0, SPREAD.1, 6);
    let service = tables.v4.services.get_mut(&frontend).context("the frontend")?;
    (service.affinity, service.affinity_timeout) = (affinity, 100);
    let (mut to, mut offer) = (tuple, Offer::default());
    let target = service::choose(&mut tables, &config, &tuple, false, &mut to, &mut offer);
    assert_eq!(target, Target::New);
    Ok(to.destination)
}

#[test]
fn every_node_chooses_alike_and_a_remembered_client_by_its_address_alone() -> Result<()> {
    let mut seen = BTreeMap::new();
    for port in PORTS {
        let backend = chosen(1, port, 0)?;
        assert_eq!(chosen(2, port, 0)?, backend, "from port {port}");
        *seen.entry(backend).or_insert(0) += 1;
        assert_eq!(chosen(2, port, 5)?, chosen(1, PORTS.start, 5)?, "from port {port}");
    }
    // Five standard deviations, sqrt(100 * 1/3 * 2/3) = 4.7, from a third.
    assert_eq!(seen.len(), 3);
    assert!(seen.values().all(|count| (10..=56).contains(count)), "{seen:?}");
    Ok(())
}

#[test]
fn what_comes_back_ends_there_and_is_chosen_anew() -> Result<()> {
    let (port, mut tables) = port::<[u8; 4]>(SPREAD, |verdict| *verdict == toward_peer::<[u8; 4]>())?;
    let again = syn::<[u8; 4]>(from_wire().ttl(62), port, SPREAD)?;
    let (verdict, _) = wire_brings(&mut tables, again.clone());
    assert_eq!(verdict, Verdict::Drop(Reason::RelayLoop));
    assert_eq!(tables.v4.connections, BTreeMap::new());
    let (verdict, _) = wire_brings(&mut tables, again);
    assert_eq!(verdict, toward_peer::<[u8; 4]>());
    Ok(())
}

/// The client's way has become another, or a firewall on it speaks for the client: the connection keeps its backend.
#[test]
fn what_comes_by_another_way_goes_on() -> Result<()> {
    let (port, tables) = port::<[u8; 4]>(SPREAD, |verdict| *verdict == toward_peer::<[u8; 4]>())?;
    for (ttl, comes_back) in [
        (65, false),
        (63, false),
        (62, true),
        (61, true),
        (60, false),
        (30, false),
    ] {
        let mut tables = tables.clone();
        let more = from_wire().ttl(ttl).tcp((CLIENT, port), SPREAD, TcpFlags::ACK, b"")?;
        let (verdict, _) = wire_brings(&mut tables, more);
        let expected = match comes_back {
            true => Verdict::Drop(Reason::RelayLoop),
            false => toward_peer::<[u8; 4]>(),
        };
        assert_eq!(verdict, expected, "{ttl}");
        assert_eq!(tables.v4.connections.is_empty(), comes_back, "{ttl}");
    }
    Ok(())
}

#[test]
fn a_packet_at_its_end_and_one_whose_node_has_moved_are_dropped() -> Result<()> {
    let (port, mut tables) = port::<[u8; 4]>(SPREAD, |verdict| *verdict == toward_peer::<[u8; 4]>())?;
    let last = syn::<[u8; 4]>(from_wire().ttl(1), port, SPREAD)?;
    let mut fresh = self::tables();
    assert_eq!(wire_brings(&mut fresh, last).0, Verdict::Drop(Reason::ExpiredSilent));
    tables.v4.routes.retain(|key, _| key.address != [10, 244, 2, 0]);
    let more = from_wire().tcp((CLIENT, port), SPREAD, TcpFlags::ACK, b"")?;
    assert_eq!(wire_brings(&mut tables, more).0, Verdict::Drop(Reason::NoRoute));
    Ok(())
}

/// A router that finds an answer too large tells whoever the answer seems to come from; the pod must hear it.
#[test]
fn an_error_about_an_answer_goes_where_the_answer_came_from() -> Result<()> {
    let (port, mut tables) = port::<[u8; 4]>(SPREAD, |verdict| *verdict == toward_peer::<[u8; 4]>())?;
    let answer = Frame::new(MAC_B, MAC_BRIDGE).tcp(SPREAD, (CLIENT, port), TcpFlags::ACK, b"large")?;
    let kind = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1400 });
    let error = |frame: Frame| frame.icmp(ROUTER, SPREAD.0, kind.clone(), &ip_packet(&answer)[..28]);
    assert_eq!(
        wire_brings(&mut tables, error(from_wire())),
        (toward_peer::<[u8; 4]>(), error(from_wire().ttl(63)))
    );
    Ok(())
}

/// Only what has a table is chosen alike elsewhere.
#[test]
fn without_a_table_nothing_is_relayed() -> Result<()> {
    for port in PORTS {
        let mut tables = tables();
        tables.v4.services.values_mut().for_each(|service| service.maglev = 0);
        wire_brings(&mut tables, syn::<[u8; 4]>(from_wire(), port, SPREAD)?);
        let mut directions = tables.v4.connections.values().map(|connection| connection.direction);
        assert!(
            directions.all(|direction| direction != DIRECTION_RELAYED),
            "from port {port}"
        );
    }
    Ok(())
}

/// A set that has no table, though its frontend says so, is never left half.
#[test]
fn a_table_that_is_not_there_is_told_by_name() -> Result<()> {
    let mut tables = tables();
    tables.v4.maglev.clear();
    let (verdict, _) = wire_brings(&mut tables, syn::<[u8; 4]>(from_wire(), PORTS.start, SPREAD)?);
    assert_eq!(verdict, Verdict::Drop(Reason::NoBackend));
    Ok(())
}
