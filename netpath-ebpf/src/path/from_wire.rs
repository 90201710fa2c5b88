//! tc ingress of the uplink, and the XDP program there: tunnels end, node ports are served, answers find their pods. What
//! is not ours passes untouched.

use netpath_common::{
    abi::{
        config::Config,
        endpoint::{KIND_HOST, KIND_POD},
    },
    reason::Reason,
};

use crate::{
    encap, ethernet,
    family::{Family, Fragment, Header},
    flow::{self, TCP, UDP},
    forward::forward,
    fragment,
    packet::{ETHERNET, Packet},
    scratch::{Noted, Notes, Scratch},
    tables::{BothTables, Tables},
    v4::V4,
    v6::V6,
    verdict::Verdict,
    way::{self, Origin},
};

/// Takes a frame from the wire to its verdict.
#[inline(always)]
pub fn run<P: Packet, T: BothTables>(
    packet: &mut P,
    tables: &mut T,
    config: &Config,
    scratch: &mut Scratch,
) -> Verdict {
    super::verdict(steps(packet, tables, config, scratch))
}

#[inline(always)]
fn steps<P: Packet, T: BothTables>(
    packet: &mut P,
    tables: &mut T,
    config: &Config,
    scratch: &mut Scratch,
) -> Result<Verdict, Reason> {
    let frame = ethernet::parse(packet)?;
    // A VLAN is a network of its own, behind a device of its own with the uplink's MAC address.
    if frame.destination != config.uplink_mac || packet.vlan() != 0 {
        return Ok(Verdict::Pass(Reason::ToStack));
    }
    let arrived = match frame.ethertype {
        ethernet::IPV4 => arrive::<V4, P, T>(packet, tables, config, scratch)?,
        ethernet::IPV6 if super::serves_ipv6(config) => arrive::<V6, P, T>(packet, tables, config, scratch)?,
        _ => Arrived::Left(Reason::ToStack),
    };
    let (ethertype, origin) = match arrived {
        Arrived::Left(reason) => return Ok(Verdict::Pass(reason)),
        Arrived::Ended(verdict) => return Ok(verdict),
        // The kernel would drop it by itself (`accept_local` of its ip-sysctl), but that it must take what was translated here.
        Arrived::Plain if frame.ethertype == ethernet::IPV4 && scratch.v4.header.source == config.node4 => {
            return Err(Reason::OwnAddress);
        }
        Arrived::Plain => (frame.ethertype, Origin::Wire),
        Arrived::Unwrapped(ethertype) => {
            match ethertype {
                ethernet::IPV4 => V4::parse(packet, &mut scratch.v4.header)?,
                _ => V6::parse(packet, &mut scratch.v6.header)?,
            }
            (ethertype, Origin::Tunnel)
        }
    };
    match ethertype {
        ethernet::IPV4 => {
            let verdict = forward::<V4, P, T>(packet, tables, config, scratch, origin)?;
            // Nor would it take one under another address of the node's.
            match verdict {
                Verdict::Pass(Reason::ToHost) if is_own(tables, scratch.v4.header.source) => Err(Reason::OwnAddress),
                verdict => Ok(verdict),
            }
        }
        _ => forward::<V6, P, T>(packet, tables, config, scratch, origin),
    }
}

/// Whether the node's stack has an address.
#[inline(always)]
fn is_own<T: Tables<[u8; 4]>>(tables: &T, address: [u8; 4]) -> bool {
    tables
        .endpoint(&address)
        .is_some_and(|endpoint| endpoint.kind == KIND_HOST)
}

/// How a packet came.
enum Arrived {
    /// As it is.
    Plain,
    /// In a tunnel, whose headers are off; it is of this EtherType.
    Unwrapped(u16),
    /// It is not for this program.
    Left(Reason),
    /// It goes no further here.
    Ended(Verdict),
}

/// Reads the header of a packet, and ends its tunnel if it came through one.
#[inline(always)]
fn arrive<O: Noted, P: Packet, T: BothTables + Tables<O::Addr>>(
    packet: &mut P,
    tables: &mut T,
    config: &Config,
    scratch: &mut Scratch,
) -> Result<Arrived, Reason> {
    let header = &mut O::notes(scratch).header;
    O::parse(packet, header)?;
    if !is_vxlan::<O, P>(packet, config, header) {
        return Ok(Arrived::Plain);
    }
    // All that is found out joins here: met where it is found, a fragment costs the verifier a fifth more.
    let (ethertype, is_fragment) = match look_inside::<O, P, T>(packet, tables, config, scratch)? {
        Tunnelled::Left(reason) => return Ok(Arrived::Left(reason)),
        Tunnelled::Ours { ethertype, fragment } => (ethertype, fragment),
    };
    if is_fragment {
        let ended = match ethertype {
            ethernet::IPV4 => meet::<O, V4, P, T>(packet, tables, config, &mut scratch.v4),
            _ => meet::<O, V6, P, T>(packet, tables, config, &mut scratch.v6),
        };
        if let Some(reason) = ended {
            return fragment::ended(reason).map(Arrived::Ended);
        }
    }
    packet.decapsulate(encap::room::<O>(), ethertype)?;
    Ok(Arrived::Unwrapped(ethertype))
}

#[inline(always)]
fn is_vxlan<O: Family, P: Packet>(packet: &P, config: &Config, header: &Header<O::Addr>) -> bool {
    if header.protocol != UDP || header.destination != O::node(config) {
        return false;
    }
    // Only the kernel puts fragments together. They go to its stack as others do that are for the node: the later ones wait for
    // the first, which must be met for that.
    if header.fragment != Fragment::Whole {
        return false;
    }
    match packet.view::<4>(header.payload) {
        Some(ports) => u16::from_be_bytes([ports[2], ports[3]]) == config.vxlan_port,
        None => false,
    }
}

/// What a packet in a tunnel is.
enum Tunnelled {
    /// A node's to this one, with what the inner frame carries, and whether that is a fragment.
    Ours {
        /// An EtherType that is served.
        ethertype: u16,
        /// Whether it is one.
        fragment: bool,
    },
    /// It is not for this program.
    Left(Reason),
}

/// Finds out what is in a tunnel. Part of its hook's function: one of its own would get what it only reads by value, in more
/// arguments than BPF has.
#[inline(always)]
fn look_inside<O: Noted, P: Packet, T: BothTables + Tables<O::Addr>>(
    packet: &P,
    tables: &T,
    config: &Config,
    scratch: &mut Scratch,
) -> Result<Tunnelled, Reason> {
    let header = &O::notes(scratch).header;
    // Only the kernel steps over options; its vxlan device takes such packets.
    if header.options {
        return Ok(Tunnelled::Left(Reason::ToOverlay));
    }
    let vxlan = encap::parse::<O, P>(packet)?;
    // Another network may share the port: its packets are its own device's.
    if vxlan.vni != Some(config.vni) {
        return Ok(Tunnelled::Left(Reason::ToStack));
    }
    if !way::is_node(tables, &header.source) {
        return Err(Reason::TunnelFromStranger);
    }
    match vxlan.ethertype {
        ethernet::IPV4 => {}
        ethernet::IPV6 if super::serves_ipv6(config) => {}
        _ => return Err(Reason::FamilyNotServed),
    }
    // Taking the headers off by hand leaves the marks of a tunnel on a packet that is yet to be segmented. TCP does not
    // mind; UDP is then lost without a trace, so the vxlan device must take it, and off SCTP no helper takes them (kernel
    // 6.18). So it must what may go out of one tunnel into another over IPv6: with those marks it cannot be wrapped again.
    if packet.gso_size() != 0
        && (vxlan.protocol != TCP || vxlan.ethertype == ethernet::IPV6 && !is_for_pod::<O, P, T>(packet, tables)?)
    {
        return Ok(Tunnelled::Left(Reason::ToOverlay));
    }
    debug_assert_eq!(header.payload, ETHERNET + O::HEADER);
    Ok(Tunnelled::Ours {
        ethertype: vxlan.ethertype,
        fragment: vxlan.fragment,
    })
}

/// Why a tunnelled fragment goes no further, if it does not. It is held, and comes in anew, with its outer headers: they say
/// where it is from. One that is malformed is found so once they are off.
#[inline(always)]
fn meet<O: Family, F: Family, P: Packet, T: Tables<F::Addr>>(
    packet: &mut P,
    tables: &mut T,
    config: &Config,
    notes: &mut Notes<F::Addr>,
) -> Option<Reason> {
    // Calls one after the other, so that their stacks do not add up.
    read_inner::<O, F, P, T>(packet, tables, notes).ok()?;
    fragment::meet::<F, P, T>(packet, tables, config, notes, Origin::Tunnel)
}

/// Notes header and flow of a tunnelled packet.
#[inline(never)]
fn read_inner<O: Family, F: Family, P: Packet, T: Tables<F::Addr>>(
    packet: &P,
    tables: &mut T,
    notes: &mut Notes<F::Addr>,
) -> Result<(), Reason> {
    if O::ETHERTYPE == V4::ETHERTYPE {
        F::parse_at::<{ encap::inner::<V4>() }, P>(packet, &mut notes.header)?;
    } else {
        F::parse_at::<{ encap::inner::<V6>() }, P>(packet, &mut notes.header)?;
    }
    flow::parse::<F, P, T>(packet, tables, notes)
}

/// Whether a tunnelled IPv6 packet is for a pod of this node.
#[inline(always)]
fn is_for_pod<O: Family, P: Packet, T: BothTables>(packet: &P, tables: &T) -> Result<bool, Reason> {
    let destination = packet.view::<16>(encap::inner::<O>() + V6::DESTINATION);
    let endpoint = Tables::<[u8; 16]>::endpoint(tables, destination.ok_or(Reason::Malformed)?);
    Ok(endpoint.is_some_and(|endpoint| endpoint.kind == KIND_POD))
}
