//! The middle of every IP packet's way: what it must become, where it must go, whether it may; then the change, and off.
//!
//! Nothing is written before all is decided, so that an ICMP error quotes the packet as its sender knows it.

use netpath_common::{
    abi::{config::Config, conntrack::Tuple},
    reason::Reason,
};

use crate::{
    conntrack, encap, ethernet,
    family::{Address, Complaint, Family, Fragment, Header},
    flow::{self, Flow, Kind, UDP},
    hash, icmp_quote, nat,
    packet::{ETHERNET, Packet, VXLAN4},
    service::{self, Answer},
    tables::{InsertError, Tables},
    verdict::Verdict,
    way::{self, Way},
};

/// Where a packet comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A pod of this node.
    Pod,
    /// The uplink, as it is.
    Wire,
    /// Another node's tunnel.
    Tunnel,
    /// This node's stack.
    Host,
}

/// What a packet must become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target<A> {
    /// It stays.
    Same,
    /// This.
    New(Tuple<A>),
    /// A refusal.
    Refusal,
}

/// Sends an IP packet on its way.
///
/// # Errors
/// Every reason of a drop.
#[inline(always)]
pub fn forward<F: Family<Addr = [u8; 4]>, P: Packet, T: Tables<F::Addr>>(
    packet: &mut P,
    tables: &mut T,
    config: &Config,
    header: &Header<F::Addr>,
    origin: Origin,
) -> Result<Verdict<F::Addr>, Reason> {
    let flow = flow::parse::<F, P, T>(packet, tables, header)?;
    let mut target = match target::<F, P, T>(packet, tables, config, &flow, origin)? {
        Target::Same => None,
        Target::New(tuple) => Some(tuple),
        Target::Refusal => {
            return complain::<F, P>(
                packet,
                header,
                &flow,
                origin,
                Complaint::PortUnreachable,
                header.destination,
            );
        }
    };
    let destination = match &target {
        Some(tuple) => tuple.destination,
        None => flow.tuple.destination,
    };
    let way = way::find::<F, T>(tables, config, destination)?;
    match (origin, &way) {
        (Origin::Pod, Way::Outside) if target.is_none() => {
            target = Some(masquerade::<F, T>(tables, config, &flow)?);
        }
        (Origin::Pod, Way::Host) => no_tunnel(config, &flow)?,
        (Origin::Pod, Way::Direct { node, .. } | Way::Tunnel { node, .. }) if *node == destination => {
            no_tunnel(config, &flow)?;
        }
        // Only what was translated here is sent on from here: the node's own stack decides of the rest.
        (Origin::Wire | Origin::Tunnel, Way::Direct { .. } | Way::Tunnel { .. } | Way::Outside) if target.is_none() => {
            return Ok(Verdict::Pass(Reason::ToStack));
        }
        (Origin::Host, _) if target.is_none() => return Ok(Verdict::Pass(Reason::ToStack)),
        (Origin::Host, Way::Host) => return Err(Reason::NoRoute),
        _ => {}
    }

    let limit = match &way {
        Way::Pod { .. } | Way::Host => usize::MAX,
        Way::Direct { .. } | Way::Outside => usize::from(config.uplink_mtu),
        Way::Tunnel { .. } => usize::from(config.uplink_mtu).saturating_sub(VXLAN4),
    };
    let mut left_to_stack = false;
    if limit != usize::MAX {
        if packet.len() - ETHERNET > limit && segment_len(packet, header, &flow) > limit {
            if header.dont_fragment {
                let complaint = Complaint::TooBig(limit as u16);
                return complain::<F, P>(packet, header, &flow, origin, complaint, speaker::<F>(config, origin));
            }
            left_to_stack = true;
        }
        if origin != Origin::Host && !left_to_stack {
            if header.ttl <= 1 {
                let speaker = speaker::<F>(config, origin);
                return complain::<F, P>(packet, header, &flow, origin, Complaint::Expired, speaker);
            }
            F::age(packet)?;
        }
    }
    if let Some(tuple) = &target {
        nat::rewrite::<F, P>(packet, &flow, tuple)?;
    }
    if left_to_stack {
        return Ok(Verdict::Pass(Reason::ToStack));
    }
    send(packet, config, &flow, target.is_some(), origin, &way)
}

/// What the connection table and the services make of a packet.
#[inline(always)]
fn target<F: Family, P: Packet, T: Tables<F::Addr>>(
    packet: &mut P,
    tables: &mut T,
    config: &Config,
    flow: &Flow<F::Addr>,
    origin: Origin,
) -> Result<Target<F::Addr>, Reason> {
    match flow.kind {
        Kind::Other | Kind::Tail { known: false } => return Ok(Target::Same),
        Kind::Error => {
            return Ok(match icmp_quote::translate::<F, P, T>(packet, tables, flow)? {
                Some(tuple) => Target::New(tuple),
                None => Target::Same,
            });
        }
        Kind::Tcp { .. } | Kind::Udp | Kind::Echo | Kind::Tail { known: true } => {}
    }
    if let Some(tuple) = conntrack::find(tables, flow) {
        return Ok(Target::New(tuple));
    }
    if flow.kind == Kind::Echo {
        return Ok(Target::Same);
    }
    match service::choose(tables, config, &flow.tuple)? {
        Answer::NotOurs => Ok(Target::Same),
        Answer::Refused => Ok(Target::Refusal),
        Answer::Backend(backend, set) => {
            let mut to = flow.tuple;
            to.destination = backend.address;
            to.destination_port = backend.port;
            serve::<F, T>(tables, config, flow, &mut to, set, origin)?;
            Ok(Target::New(to))
        }
    }
}

/// Opens the connection of a frontend's client with a backend; `to` has its destination already.
///
/// The client's address stays wherever the answer comes back through this node by itself. It does not where the backend
/// is the client, where neither is on this node, and where the backend is outside the cluster.
#[inline(never)]
fn serve<F: Family, T: Tables<F::Addr>>(
    tables: &mut T,
    config: &Config,
    flow: &Flow<F::Addr>,
    to: &mut Tuple<F::Addr>,
    set: u32,
    origin: Origin,
) -> Result<(), Reason> {
    let backend = to.destination;
    let local = tables.endpoint(backend).is_some();
    let source = match origin {
        _ if backend == flow.tuple.source => Some(F::gateway(config)),
        Origin::Wire | Origin::Tunnel if !local => Some(F::node(config)),
        Origin::Pod if !local && way::via::<F, T>(tables, config, backend).is_none() => Some(F::node(config)),
        _ => None,
    };
    let opened = match source {
        Some(address) => {
            to.source = address;
            nat::open_with_port(tables, config, &flow.tuple, to, set)
        }
        None => match conntrack::open(tables, &flow.tuple, to, set) {
            Ok(()) => Ok(()),
            Err(InsertError::Full) => Err(Reason::ConntrackFull),
            // The client uses one port toward two frontends of the same backend: to it, this one must come from another.
            Err(InsertError::Exists) => nat::open_with_port(tables, config, &flow.tuple, to, set),
        },
    };
    overtaken(tables, flow, to, opened)
}

/// Source NAT of a pod's packet to the outside.
#[inline(never)]
fn masquerade<F: Family, T: Tables<F::Addr>>(
    tables: &mut T,
    config: &Config,
    flow: &Flow<F::Addr>,
) -> Result<Tuple<F::Addr>, Reason> {
    match flow.kind {
        Kind::Tcp { .. } | Kind::Udp | Kind::Echo => {}
        Kind::Tail { .. } => return Err(Reason::FragmentWithoutHead),
        Kind::Error | Kind::Other => return Err(Reason::UnknownProtocol),
    }
    let mut to = flow.tuple;
    to.source = F::node(config);
    let opened = nat::open_with_port(tables, config, &flow.tuple, &mut to, 0);
    overtaken(tables, flow, &mut to, opened)?;
    Ok(to)
}

/// Where opening a connection failed because another CPU was faster with the same flow, its entry is the one.
#[inline(always)]
fn overtaken<A: Address, T: Tables<A>>(
    tables: &T,
    flow: &Flow<A>,
    to: &mut Tuple<A>,
    opened: Result<(), Reason>,
) -> Result<(), Reason> {
    let Err(reason) = opened else { return Ok(()) };
    let Some(connection) = tables.connection(&flow.tuple) else {
        return Err(reason);
    };
    to.source = connection.source;
    to.destination = connection.destination;
    to.source_port = connection.source_port;
    to.destination_port = connection.destination_port;
    Ok(())
}

/// A pod must not speak VXLAN to a node: it could put packets of any sender into the network.
#[inline(always)]
fn no_tunnel<A>(config: &Config, flow: &Flow<A>) -> Result<(), Reason> {
    if flow.tuple.protocol == UDP && flow.tuple.destination_port == config.vxlan_port {
        return Err(Reason::TunnelFromPod);
    }
    Ok(())
}

/// The length of the IP packet on the wire, or of each of those that segmentation makes of it.
#[inline(always)]
fn segment_len<P: Packet, A>(packet: &P, header: &Header<A>, flow: &Flow<A>) -> usize {
    let gso_size = packet.gso_size();
    if gso_size == 0 {
        return packet.len() - ETHERNET;
    }
    let transport = match flow.kind {
        Kind::Tcp { header_len, .. } => header_len,
        _ => 8,
    };
    header.payload - ETHERNET + transport + gso_size
}

/// The address under which this node complains.
#[inline(always)]
fn speaker<F: Family>(config: &Config, origin: Origin) -> F::Addr {
    match origin {
        Origin::Pod | Origin::Host => F::gateway(config),
        Origin::Wire | Origin::Tunnel => F::node(config),
    }
}

/// Answers with an ICMP error where that is allowed (RFC 1122, section 3.2.2): not about an error, not about a later
/// fragment. A packet that came through a tunnel is not answered, since the way back through it is not known here, nor is
/// one with options.
#[inline(always)]
fn complain<F: Family, P: Packet>(
    packet: &mut P,
    header: &Header<F::Addr>,
    flow: &Flow<F::Addr>,
    origin: Origin,
    complaint: Complaint,
    from: F::Addr,
) -> Result<Verdict<F::Addr>, Reason> {
    let (reason, silent) = match complaint {
        Complaint::TooBig(_) => (Reason::TooBig, Reason::TooBigSilent),
        Complaint::Expired => (Reason::Expired, Reason::ExpiredSilent),
        Complaint::PortUnreachable => (Reason::Refused, Reason::RefusedSilent),
    };
    let later = header.fragment == Fragment::Later;
    if flow.kind == Kind::Error || later || header.options || origin == Origin::Tunnel {
        return Err(silent);
    }
    F::complain(packet, complaint, from)?;
    Ok(Verdict::Bounce(reason))
}

/// The last step: the frame's addresses, the outer headers, the device.
#[inline(always)]
fn send<P: Packet>(
    packet: &mut P,
    config: &Config,
    flow: &Flow<[u8; 4]>,
    translated: bool,
    origin: Origin,
    way: &Way<[u8; 4]>,
) -> Result<Verdict<[u8; 4]>, Reason> {
    Ok(match *way {
        Way::Pod { ifindex, mac } => {
            // Between two pods of a node the frame is right already, unless a service changed whom it is for.
            if origin != Origin::Pod || translated {
                ethernet::readdress(packet, mac, config.bridge_mac)?;
            }
            Verdict::Endpoint { ifindex }
        }
        Way::Host => Verdict::Pass(Reason::ToHost),
        Way::Direct { node, next_hop } => Verdict::Wire {
            next_hop: Some(next_hop.unwrap_or(node)),
            reason: Reason::ToPeer,
        },
        Way::Tunnel { node, next_hop } => {
            let hash = hash::tuple(&flow.tuple, config.hash_seed);
            encap::wrap(packet, config, node, hash)?;
            Verdict::Wire {
                next_hop,
                reason: Reason::ToTunnel,
            }
        }
        Way::Outside => Verdict::Wire {
            next_hop: None,
            reason: Reason::ToOutside,
        },
    })
}
