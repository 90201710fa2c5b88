//! Neighbour discovery (RFC 4861): what ARP is to IPv4. Solicitations are answered from the table, nobody answers for another,
//! and no pod is a router to others.

use netpath_common::{
    abi::{Mac, config::Config, conntrack::Tuple, endpoint::KIND_POD, route::VIA_SERVICE},
    reason::Reason,
};

use crate::{
    csum, ethernet,
    family::{Address, Family, Header},
    packet::{ETHERNET, Packet},
    scratch::Scratch,
    tables::Tables,
    v6::{ICMP, V6},
    verdict::Verdict,
    way,
};

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;

/// Solicitations and advertisements without options: type, code, checksum, flags, target.
const MESSAGE: usize = 24;
/// An option with a link-layer address of Ethernet.
const OPTION: usize = 8;
const TARGET_MAC: u8 = 2;
/// The hop limit of what has not passed a router (RFC 4861, section 7.1).
const UNROUTED: u8 = 255;

// Flags of an advertisement (RFC 4861, section 4.4).
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// Where an answer's parts stand: it has no extension headers.
const HOP_LIMIT: usize = ETHERNET + 7;
const AT: usize = ETHERNET + V6::HEADER;
const ANSWER: usize = MESSAGE + OPTION;

/// What became of a message. One word, also with a reason in it: it is handed from function to function in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is thrown away.
    Drop(Reason),
    /// It became its answer.
    Answered,
    /// It is the stack's.
    Passed,
}

const _: () = assert!(size_of::<Heard>() == size_of::<Reason>());

impl Heard {
    /// How the message's way ends.
    ///
    /// # Errors
    /// It is dropped.
    #[inline(always)]
    pub fn verdict(self) -> Result<Verdict, Reason> {
        match self {
            Self::Drop(reason) => Err(reason),
            Self::Answered => Ok(Verdict::Bounce(Reason::NeighbourReply)),
            Self::Passed => Ok(Verdict::Pass(Reason::ToStack)),
        }
    }
}

/// Whether a packet is a message of neighbour discovery.
#[inline(always)]
pub fn is_message<P: Packet>(packet: &P, header: &Header<[u8; 16]>) -> bool {
    header.protocol == ICMP
        && packet
            .view::<1>(header.payload)
            .is_some_and(|[kind]| (ROUTER_SOLICITATION..=REDIRECT).contains(kind))
}

/// What a pod says.
#[inline(never)]
pub fn from_pod<P: Packet, T: Tables<[u8; 16]>>(
    packet: &mut P,
    tables: &T,
    config: &Config,
    scratch: &mut Scratch,
) -> Heard {
    let Scratch { v6: notes, port, .. } = scratch;
    let kind = match kind(packet, &notes.header) {
        // A pod's routes are made with it.
        Ok(ROUTER_SOLICITATION) => return Heard::Drop(Reason::Ipv6Noise),
        Ok(ROUTER_ADVERTISEMENT | REDIRECT) => return Heard::Drop(Reason::RouterFromPod),
        Ok(kind) => kind,
        Err(reason) => return Heard::Drop(reason),
    };
    if !is_about(packet, &notes.header, &mut notes.to) {
        return Heard::Drop(Reason::Malformed);
    }
    tables.settle(&mut notes.to);
    let (target, sender) = (&notes.to.source, &notes.to.destination);
    let own = *target == port.address6 || target.is_of_link();
    // A probe before an address is used (RFC 4862, section 5.4.2): of its own it must find silence.
    if own && kind == SOLICITATION && *sender == [0; 16] {
        return Heard::Drop(Reason::Ipv6Noise);
    }
    if *sender != port.address6 && !sender.is_of_link() {
        return Heard::Drop(Reason::NeighbourSpoofed);
    }
    if kind == ADVERTISEMENT {
        return if own && claims(packet, port.mac) {
            Heard::Passed
        } else {
            Heard::Drop(Reason::NeighbourSpoofed)
        };
    }
    let (mac, flags) = match tables.endpoint(target) {
        Some(endpoint) if endpoint.kind == KIND_POD => (endpoint.mac, SOLICITED | OVERRIDE),
        None if *target != link_local(config.bridge_mac) => return Heard::Drop(Reason::NeighbourUnknown),
        _ => (config.bridge_mac, ROUTER | SOLICITED | OVERRIDE),
    };
    answer(packet, &notes.to, mac, flags)
}

/// What the node's stack asks on the bridge. Pods are known to it as permanent neighbours; for the services, whose
/// packets a program takes before any neighbour would see them, every address will do.
#[inline(never)]
pub fn from_host<P: Packet, T: Tables<[u8; 16]>>(
    packet: &mut P,
    tables: &T,
    config: &Config,
    scratch: &mut Scratch,
) -> Heard {
    let notes = &mut scratch.v6;
    let asks = kind(packet, &notes.header) == Ok(SOLICITATION) && is_about(packet, &notes.header, &mut notes.to);
    if !asks || notes.to.destination == [0; 16] {
        return Heard::Passed;
    }
    tables.settle(&mut notes.to);
    let mac = match tables.endpoint(&notes.to.source) {
        Some(endpoint) if endpoint.kind == KIND_POD => endpoint.mac,
        None if way::via::<V6, T>(tables, config, notes.to.source) == Some(VIA_SERVICE) => config.overlay_mac,
        _ => return Heard::Passed,
    };
    answer(packet, &notes.to, mac, SOLICITED | OVERRIDE)
}

/// A message's type, if it is one of this link.
///
/// # Errors
/// [`Reason::Malformed`]: RFC 4861, sections 6.1 and 7.1. Behind other headers none is looked for; fragments RFC 6980,
/// section 5, forbids.
#[inline(always)]
fn kind<P: Packet>(packet: &P, header: &Header<[u8; 16]>) -> Result<u8, Reason> {
    let [kind, code] = *packet.view::<2>(AT).ok_or(Reason::Malformed)?;
    if header.ttl != UNROUTED || code != 0 || header.options {
        return Err(Reason::Malformed);
    }
    Ok(kind)
}

/// Gives `to` the addresses that an answer has: from whom the message is about, to who sent it. Whether it is about anyone.
#[inline(always)]
fn is_about<P: Packet>(packet: &P, header: &Header<[u8; 16]>, to: &mut Tuple<[u8; 16]>) -> bool {
    let Some(target) = packet.view::<16>(AT + MESSAGE - 16) else {
        return false;
    };
    if target.is_multicast() {
        return false;
    }
    to.source = *target;
    to.destination = header.source;
    true
}

/// Whether an advertisement says nothing else than that its target is at this MAC address: in its only option, or nothing.
#[inline(always)]
fn claims<P: Packet>(packet: &P, mac: Mac) -> bool {
    let options = AT + MESSAGE;
    match packet.len().saturating_sub(options) {
        0 => true,
        OPTION => packet
            .view::<OPTION>(options)
            .is_some_and(|&[kind, length, a, b, c, d, e, f]| {
                (kind, length) == (TARGET_MAC, 1) && [a, b, c, d, e, f] == mac
            }),
        _ => false,
    }
}

/// The address of the link that an interface gives itself by its MAC address (RFC 4291, section 2.5.1, appendix A).
#[inline(always)]
fn link_local(mac: Mac) -> [u8; 16] {
    let [a, b, c, d, e, f] = mac;
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 0x02, b, c, 0xff, 0xfe, d, e, f]
}

/// Turns a solicitation into its answer, with the addresses of `to`: its source, the target, is at `mac`.
#[inline(always)]
fn answer<P: Packet>(packet: &mut P, to: &Tuple<[u8; 16]>, mac: Mac, flags: u8) -> Heard {
    match advertise(packet, to, mac, flags) {
        Ok(()) => Heard::Answered,
        Err(reason) => Heard::Drop(reason),
    }
}

#[inline(always)]
fn advertise<P: Packet>(packet: &mut P, to: &Tuple<[u8; 16]>, mac: Mac, flags: u8) -> Result<(), Reason> {
    let asked = ethernet::parse(packet)?;
    let target = &to.source;
    packet.resize(AT + ANSWER)?;
    let [a, b, c, d, e, f] = mac;
    let option = [TARGET_MAC, 1, a, b, c, d, e, f];
    let sum = csum::sum(&[ADVERTISEMENT, 0, flags, 0]) + csum::sum(&option) + csum::pseudo(ICMP, ANSWER as u16);
    // The target is the sender too.
    let [c0, c1] = csum::finish(sum + 2 * target.sum() + to.destination.sum());
    packet.store(AT, &[ADVERTISEMENT, 0, c0, c1, flags, 0, 0, 0])?;
    packet.store(AT + MESSAGE - 16, target)?;
    packet.store(AT + MESSAGE, &option)?;
    V6::store(packet, target, &to.destination, ICMP, ANSWER as u16)?;
    packet.store(HOP_LIMIT, &[UNROUTED])?;
    ethernet::readdress(packet, asked.source, mac)
}
