//! Fragments: only the first of a datagram has its ports, which are remembered for the others. One that comes before the first is
//! held, as it came in, where its ports are needed. When the first comes, it and all that are held are taken in anew, in
//! that order: they come to the same hook once more, and the ports are known then.
//!
//! That cannot go round: only a first fragment that finds others held is taken in anew, and none are held any more by then.
//!
//! One race is tolerated, and another met. First and later fragment may come on two CPUs at once: whoever holds one looks again
//! afterwards whether the first has come, so that none is left behind. It may then be released as well: the receiver gets one
//! twice, as RFC 791 allows.

use netpath_common::{
    abi::{
        config::Config,
        fragment::{Datagram, FRAGMENT_SECONDS, FragmentKey, STATE_HELD, STATE_NO_PORTS, STATE_PORTS},
        held::{FRAME, HeldKey, PLACES},
    },
    reason::Reason,
};

use crate::{
    family::{Address, Family, Fragment},
    flow::{Kind, SCTP, TCP, UDP},
    nat::Target,
    packet::Packet,
    relay,
    scratch::{Notes, Whole},
    service,
    tables::Tables,
    verdict::Verdict,
    way::{self, End, Origin},
};

/// What a fragment that goes no further comes to, by the reason that [`meet`] gives.
///
/// # Errors
/// It is dropped.
#[inline(always)]
pub fn ended(reason: Reason) -> Result<Verdict, Reason> {
    if reason.is_drop() {
        Err(reason)
    } else {
        Ok(Verdict::Kept(reason))
    }
}

/// Notes what the packet's datagram is known by.
#[inline(always)]
fn note_key<A: Address>(notes: &mut Notes<A>) {
    let Notes { header, whole, .. } = notes;
    whole.key = FragmentKey {
        source: header.source,
        destination: header.destination,
        identification: header.identification,
        protocol: header.protocol,
        reserved: [0; 3],
    };
}

/// Notes a place of one of its fragments.
#[inline(always)]
fn note_place<A: Address>(whole: &mut Whole<A>, place: u32) {
    whole.place = HeldKey {
        source: whole.key.source,
        destination: whole.key.destination,
        identification: whole.key.identification,
        protocol: whole.key.protocol,
        place: place as u8,
        reserved: [0; 2],
    };
}

/// Notes what is known of the datagram whose key is noted: nothing if that is too old. Gives its state, 0 if there is none.
#[inline(never)]
fn look<A: Address, T: Tables<A>>(tables: &T, whole: &mut Whole<A>) -> u8 {
    whole.datagram = match tables.fragment(&whole.key) {
        Some(datagram) if tables.now().wrapping_sub(datagram.since) <= FRAGMENT_SECONDS => datagram,
        _ => Datagram::default(),
    };
    whole.datagram.state
}

/// What a later fragment is; its ports are written to the tuple, if they are known.
#[inline(always)]
pub fn recall<A: Address, T: Tables<A>>(tables: &mut T, notes: &mut Notes<A>) {
    note_key(notes);
    recall_noted(tables, notes);
}

#[inline(always)]
fn recall_noted<A: Address, T: Tables<A>>(tables: &mut T, notes: &mut Notes<A>) {
    let Notes { flow, whole, .. } = notes;
    flow.kind = match look(tables, whole) {
        STATE_PORTS => Kind::Tail,
        STATE_NO_PORTS => Kind::Other,
        _ => Kind::LostTail,
    };
    flow.tuple.source_port = whole.datagram.source_port;
    flow.tuple.destination_port = whole.datagram.destination_port;
}

/// Remembers what a first fragment says.
#[inline(never)]
pub fn remember<F: Family, T: Tables<F::Addr>>(tables: &mut T, notes: &mut Notes<F::Addr>) {
    note_key(notes);
    let Notes {
        header, flow, whole, ..
    } = notes;
    if !has_ports::<F>(header.protocol) {
        return;
    }
    whole.datagram = Datagram {
        since: tables.now(),
        source_port: flow.tuple.source_port,
        destination_port: flow.tuple.destination_port,
        state: match flow.kind {
            Kind::Tcp | Kind::Sctp | Kind::Udp | Kind::Echo => STATE_PORTS,
            _ => STATE_NO_PORTS,
        },
        ..Datagram::default()
    };
    tables.remember_fragment(&whole.key, &whole.datagram);
}

/// Why a fragment goes no further, if it does not, at a hook that may hold it; before anything is written to it. Header and flow
/// are noted, and what the flow is may change.
#[inline(never)]
pub fn meet<F: Family, P: Packet, T: Tables<F::Addr>>(
    packet: &mut P,
    tables: &mut T,
    config: &Config,
    notes: &mut Notes<F::Addr>,
    origin: Origin,
) -> Option<Reason> {
    match notes.header.fragment {
        Fragment::Whole => None,
        Fragment::First => release::<F, P, T>(packet, tables, notes),
        Fragment::Later => {
            if notes.flow.kind != Kind::LostTail
                || !has_ports::<F>(notes.header.protocol)
                || !needs_ports::<F, T>(tables, config, notes, origin)
            {
                return None;
            }
            if !packet.can_come_anew() {
                return Some(Reason::ToTc);
            }
            if hold(packet, tables, notes) {
                return Some(Reason::FragmentHeld);
            }
            // The node's own stack waits for the first by itself, if the datagram is the node's; so does a pod's, if it need not be
            // translated.
            if notes.flow.kind == Kind::LostTail && !matches!(notes.way.end, End::Host | End::Pod) {
                return Some(Reason::FragmentWithoutHead);
            }
            None
        }
    }
}

/// Whether datagrams of a protocol have ports, or an identifier in their place.
#[inline(always)]
fn has_ports<F: Family>(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | SCTP) || protocol == F::ICMP
}

/// Whether the packet's ports may decide what it must become. Between pods of the node and on their way to other nodes they
/// do not: later fragments go on as they are, as they do where nothing is translated.
#[inline(always)]
fn needs_ports<F: Family, T: Tables<F::Addr>>(
    tables: &mut T,
    config: &Config,
    notes: &mut Notes<F::Addr>,
    origin: Origin,
) -> bool {
    notes.to = notes.flow.tuple;
    way::find::<F, T>(tables, config, notes);
    match notes.way.end {
        End::Host | End::Service | End::Relayed => true,
        // A pod's own address may be that of a service's client, and the sender a backend elsewhere.
        End::Pod => origin != Origin::Pod,
        End::Direct if origin == Origin::Wire && relay::is_for(config, notes) => true,
        End::Outside if origin == Origin::Pod => true,
        // What the node only hands on, unless a service has the address.
        End::Outside => service::elsewhere(tables, &notes.flow.tuple, false) != Target::Same,
        End::Direct | End::Tunnel | End::Vacant => false,
    }
}

/// Holds a later fragment whose datagram's key is noted; whether it does. If not, the flow may know its ports by now.
#[inline(never)]
fn hold<A: Address, P: Packet, T: Tables<A>>(packet: &P, tables: &mut T, notes: &mut Notes<A>) -> bool {
    if packet.len() > FRAME || packet.gso_size() != 0 {
        return false;
    }
    let whole = &mut notes.whole;
    if whole.datagram.state == 0 {
        whole.datagram = Datagram {
            since: tables.now(),
            state: STATE_HELD,
            ..Datagram::default()
        };
        // One that is too old.
        tables.forget_fragment(&whole.key);
        tables.add_fragment(&whole.key, &whole.datagram);
    }
    let place = tables.count_held(&whole.key);
    if place >= u64::from(PLACES) {
        return false;
    }
    note_place(whole, place as u32);
    if !tables.hold(packet, &whole.place) {
        return false;
    }
    recall_noted(tables, notes);
    // Whoever takes it out has it: this one, or the first's release.
    notes.flow.kind == Kind::LostTail || !tables.forget_held(&notes.whole.place)
}

/// Remembers what a first fragment says. If others of its datagram are held, takes it and them in anew.
#[inline(never)]
fn release<F: Family, P: Packet, T: Tables<F::Addr>>(
    packet: &mut P,
    tables: &mut T,
    notes: &mut Notes<F::Addr>,
) -> Option<Reason> {
    note_key(notes);
    let state = look(tables, &mut notes.whole);
    let Datagram { held, since, .. } = notes.whole.datagram;
    if state != STATE_HELD || held == 0 {
        remember::<F, T>(tables, notes);
        return None;
    }
    if !packet.can_come_anew() {
        return Some(Reason::ToTc);
    }
    remember::<F, T>(tables, notes);
    if packet.gso_size() != 0 || !packet.come_anew() {
        return None;
    }
    let whole = &mut notes.whole;
    tables.repeat(PLACES, |tables, place| {
        if u64::from(place) >= held {
            return true;
        }
        note_place(whole, place);
        // One that was evicted is lost, and so is its datagram.
        if tables.release(packet, &whole.place, since) {
            packet.come_anew();
        }
        false
    });
    Some(Reason::FragmentsReleased)
}
