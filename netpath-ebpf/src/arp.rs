//! ARP (RFC 826), answered from the table: nothing is flooded, and nobody answers for another.

use netpath_common::{
    abi::{Mac, bridge::Port, config::Config, endpoint::KIND_POD, route::VIA_SERVICE},
    reason::Reason,
};

use crate::{
    ethernet,
    packet::{ETHERNET, Packet},
    tables::Tables,
    v4::V4,
    verdict::Verdict,
    way,
};

/// Hardware type Ethernet, protocol type IPv4, their address lengths.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const MESSAGE: usize = 28;
/// Where a message says what it is, in the frame.
const OPERATION: usize = ETHERNET + 6;

/// A message about IPv4 over Ethernet: no field across words, since it may lie on the stack.
#[repr(C, align(4))]
struct Message {
    sender: [u8; 4],
    target: [u8; 4],
    sender_mac: Mac,
    operation: u16,
}

#[inline(always)]
fn parse<P: Packet>(packet: &P) -> Result<Message, Reason> {
    let m = packet.view::<MESSAGE>(ETHERNET).ok_or(Reason::Malformed)?;
    if [m[0], m[1], m[2], m[3], m[4], m[5]] != ETHERNET_IPV4 {
        return Err(Reason::Malformed);
    }
    Ok(Message {
        operation: u16::from_be_bytes([m[6], m[7]]),
        sender_mac: [m[8], m[9], m[10], m[11], m[12], m[13]],
        sender: [m[14], m[15], m[16], m[17]],
        target: [m[24], m[25], m[26], m[27]],
    })
}

/// What a pod says by ARP.
///
/// # Errors
/// [`Reason::Malformed`], [`Reason::ArpSpoofed`], [`Reason::ArpUnknown`].
#[inline(never)]
pub fn from_pod<P: Packet, T: Tables<[u8; 4]>>(
    packet: &mut P,
    tables: &T,
    config: &Config,
    port: &Port,
) -> Result<Verdict, Reason> {
    let message = parse(packet)?;
    // A probe before an address is used has no sender address (RFC 5227, section 2.1.1).
    if message.sender_mac != port.mac || (message.sender != port.address4 && message.sender != [0; 4]) {
        return Err(Reason::ArpSpoofed);
    }
    // Announcements and answers to the node's own questions are for the stack; a probe of its own address must find silence.
    if message.operation != REQUEST || message.target == port.address4 {
        return Ok(Verdict::Pass(Reason::ToStack));
    }
    let endpoint = tables.endpoint(&message.target).ok_or(Reason::ArpUnknown)?;
    let mac = if endpoint.kind == KIND_POD {
        endpoint.mac
    } else {
        config.bridge_mac
    };
    answer(packet, &message, mac)
}

/// What the node's stack asks on the bridge. Pods are known to it as permanent neighbours; for the services, whose
/// packets a program takes before any neighbour would see them, every address will do.
///
/// # Errors
/// [`Reason::Malformed`].
#[inline(never)]
pub fn from_host<P: Packet, T: Tables<[u8; 4]>>(
    packet: &mut P,
    tables: &T,
    config: &Config,
) -> Result<Verdict, Reason> {
    let message = parse(packet)?;
    if message.operation != REQUEST {
        return Ok(Verdict::Pass(Reason::ToStack));
    }
    let mac = match tables.endpoint(&message.target) {
        Some(endpoint) if endpoint.kind == KIND_POD => endpoint.mac,
        None if way::via::<V4, T>(tables, config, message.target) == Some(VIA_SERVICE) => config.overlay_mac,
        _ => return Ok(Verdict::Pass(Reason::ToStack)),
    };
    answer(packet, &message, mac)
}

/// Turns a request into its answer: `mac` has the target address.
#[inline(always)]
fn answer<P: Packet>(packet: &mut P, request: &Message, mac: Mac) -> Result<Verdict, Reason> {
    ethernet::readdress(packet, request.sender_mac, mac)?;
    packet.store(OPERATION, &REPLY.to_be_bytes())?;
    packet.store(OPERATION + 2, &mac)?;
    packet.store(OPERATION + 8, &request.target)?;
    packet.store(OPERATION + 12, &request.sender_mac)?;
    packet.store(OPERATION + 18, &request.sender)?;
    Ok(Verdict::Bounce(Reason::ArpReply))
}
