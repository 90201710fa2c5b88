//! The middle of every IP packet's way: what it must become, where it must go, whether it may; then the change, and off.
//!
//! Nothing is written before all is decided, so that an ICMP error quotes the packet as its sender knows it.

use netpath_common::{abi::config::Config, reason::Reason};

use crate::{
    complaint, conntrack,
    deliver::send,
    family::{Address, Complaint, Family, Fragment, Header},
    flow::{self, Flow, Kind, UDP},
    fragment, icmp_quote,
    nat::{self, Target},
    offer::Offer,
    packet::{ETHERNET, GSO_BY_FRAGS, Packet},
    relay,
    scratch::{Noted, Notes, Scratch},
    service,
    tables::Tables,
    verdict::Verdict,
    way::{self, End, Origin},
};

/// Sends an IP packet, whose header is noted, on its way; notes the next hop if that leads out of the uplink.
///
/// # Errors
/// Every reason of a drop.
#[inline(always)]
pub fn forward<F: Noted, P: Packet, T: Tables<F::Addr>>(
    packet: &mut P,
    tables: &mut T,
    config: &Config,
    scratch: &mut Scratch,
    origin: Origin,
) -> Result<Verdict, Reason> {
    let (notes, next_hop) = F::notes_and_hop(scratch);
    if notes.header.source.is_of_link() {
        return Ok(Verdict::Pass(Reason::ToStack));
    }
    flow::parse::<F, P, T>(packet, tables, notes)?;
    if notes.header.fragment != Fragment::Whole
        && let Some(reason) = meet::<F, P, T>(packet, tables, config, notes, origin)
    {
        return fragment::ended(reason);
    }
    notes.to = notes.flow.tuple;
    tables.settle(notes);
    decide::<F, P, T>(packet, tables, config, notes, origin);
    tables.settle(notes);
    let step = match notes.target {
        Target::Drop(reason) => return Err(reason),
        Target::Relay if origin == Origin::Wire => {
            relay::prepare::<F, P, T>(packet, tables, notes)?;
            *next_hop = F::next_hop(&notes.way.next_hop);
            return Ok(Verdict::Wire(Reason::ToPeer));
        }
        Target::Refusal => Step::Complain(Complaint::PortUnreachable, 0),
        // What is relayed comes in by the wire alone.
        Target::Same | Target::New | Target::Relay => admit::<F, P, T>(packet, tables, config, notes, origin)?,
    };
    match step {
        Step::Complain(complaint, mtu) => {
            complaint::answer::<F, P, T>(packet, tables, config, notes, next_hop, origin, (complaint, mtu))
        }
        Step::Leave(reason) => Ok(Verdict::Pass(reason)),
        Step::Send { translated, whole } => {
            if translated {
                nat::rewrite::<F, P, T>(packet, tables, notes)?;
            }
            if !whole {
                return Ok(Verdict::Pass(Reason::ToStack));
            }
            send::<F, P>(
                packet,
                config,
                notes,
                next_hop,
                origin,
                origin != Origin::Pod || translated,
            )
        }
    }
}

/// What comes next for a packet of which all is decided.
enum Step {
    /// It goes on: whether it must be rewritten, and whether it leaves as it is, not in fragments that the node's stack makes.
    Send { translated: bool, whole: bool },
    /// It is left to the stack or to tc as it came.
    Leave(Reason),
    /// Its sender is told, and what passes instead: an MTU, or 0.
    Complain(Complaint, u16),
}

/// Decides what the packet must become, and where it must go then.
#[inline(always)]
fn decide<F: Family, P: Packet, T: Tables<F::Addr>>(
    packet: &mut P,
    tables: &mut T,
    config: &Config,
    notes: &mut Notes<F::Addr>,
    origin: Origin,
) {
    notes.target = known::<F, P, T>(packet, tables, notes);
    way::find::<F, T>(tables, config, notes);
    if notes.target != Target::Same {
        return;
    }
    if origin == Origin::Wire && relay::is_for(config, notes) {
        // It asked for the other node's port, and gets that of any node.
        notes.to.destination = F::Addr::default();
        notes.way.end = End::Relayed;
        tables.settle(notes);
    }
    // No service has the address of a pod: most packets need not be asked about. Another node's address may be that of a load
    // balancer, whose service is reached from inside without it.
    let is_straight = matches!(notes.way.end, End::Pod | End::Direct | End::Tunnel);
    if !is_straight || origin == Origin::Pod && notes.way.is_node {
        notes.target = served::<F, T>(tables, config, notes, origin);
        if notes.target == Target::Same && matches!(notes.way.end, End::Service | End::Outside) {
            notes.target = service::elsewhere(tables, &notes.flow.tuple, origin.is_inside());
        }
        if notes.target == Target::New || is_relay(notes.target, origin) {
            way::find::<F, T>(tables, config, notes);
        }
    }
    if is_straight && notes.target == Target::Same {
        notes.target = straight::<F, T>(tables, config, notes, origin);
    }
}

/// Whether the packet may go where it must, and how; one of a pod to the outside gets the node's address. Where it goes on
/// through the uplink it ages.
///
/// # Errors
/// Its way leads nowhere, or it must not go it.
#[inline(always)]
fn admit<F: Family, P: Packet, T: Tables<F::Addr>>(
    packet: &mut P,
    tables: &mut T,
    config: &Config,
    notes: &mut Notes<F::Addr>,
    origin: Origin,
) -> Result<Step, Reason> {
    let mut translated = notes.target == Target::New;
    match (origin, notes.way.end) {
        // Addresses of ours that nobody has.
        (_, End::Vacant | End::Service) => {}
        (Origin::Pod, End::Outside) if !translated => {
            masquerade::<F, T>(tables, config, notes)?;
            translated = true;
        }
        (Origin::Pod, End::Host | End::Direct | End::Tunnel) => no_tunnel(tables, config, notes)?,
        // Only what was translated here is sent on from here: the node's own stack decides of the rest.
        (Origin::Wire | Origin::Tunnel, End::Direct | End::Tunnel | End::Outside | End::Relayed) if !translated => {
            return Ok(Step::Leave(Reason::ToStack));
        }
        (Origin::Host, _) if !translated => return Ok(Step::Leave(Reason::ToStack)),
        (Origin::Host, End::Host) => return Err(Reason::NoRoute),
        _ => {}
    }
    let limit = match notes.way.end {
        End::Pod | End::Host | End::Vacant | End::Service => {
            return Ok(Step::Send {
                translated,
                whole: true,
            });
        }
        End::Direct | End::Outside | End::Relayed => usize::from(config.uplink_mtu),
        End::Tunnel => usize::from(config.uplink_mtu).saturating_sub(notes.way.room as usize),
    };
    if packet.len() - ETHERNET > limit && segment_len(packet, &notes.header, &notes.flow) > limit {
        if notes.header.dont_fragment {
            return Ok(Step::Complain(Complaint::TooBig, limit as u16));
        }
        // What is rewritten would come to tc under the node's own address.
        if origin != Origin::Host && !packet.can_come_anew() {
            return Ok(Step::Leave(Reason::ToTc));
        }
        return Ok(Step::Send {
            translated,
            whole: false,
        });
    }
    if origin != Origin::Host {
        if notes.header.ttl <= 1 {
            return Ok(Step::Complain(Complaint::Expired, 0));
        }
        F::age(packet)?;
    }
    Ok(Step::Send {
        translated,
        whole: true,
    })
}

/// Why a fragment goes no further, if it does not. The node's own stack sends a datagram's in their order. What came out of a
/// tunnel was met before its outer headers were taken off, if that happened here; if the kernel did it, a frame that comes in
/// anew would not say from where.
#[inline(always)]
fn meet<F: Family, P: Packet, T: Tables<F::Addr>>(
    packet: &mut P,
    tables: &mut T,
    config: &Config,
    notes: &mut Notes<F::Addr>,
    origin: Origin,
) -> Option<Reason> {
    if matches!(origin, Origin::Pod | Origin::Wire) {
        return fragment::meet::<F, P, T>(packet, tables, config, notes, origin);
    }
    if notes.header.fragment == Fragment::First {
        fragment::remember::<F, T>(tables, notes);
    }
    None
}

/// What the connection table makes of a packet; `to` is its tuple, and becomes what it must become.
#[inline(always)]
fn known<F: Family, P: Packet, T: Tables<F::Addr>>(
    packet: &mut P,
    tables: &mut T,
    notes: &mut Notes<F::Addr>,
) -> Target {
    match notes.flow.kind {
        Kind::Other | Kind::LostTail => Target::Same,
        Kind::Error => icmp_quote::translate::<F, P, T>(packet, tables, notes),
        Kind::Tcp | Kind::Sctp | Kind::Udp | Kind::Echo | Kind::Tail => conntrack::find(tables, notes),
    }
}

/// Whether the packet is to be relayed: what comes in by the wire alone is.
#[inline(always)]
fn is_relay(target: Target, origin: Origin) -> bool {
    origin == Origin::Wire && target == Target::Relay
}

/// What the services make of a packet of no known connection.
#[inline(always)]
fn served<F: Family, T: Tables<F::Addr>>(
    tables: &mut T,
    config: &Config,
    notes: &mut Notes<F::Addr>,
    origin: Origin,
) -> Target {
    let Notes { flow, to, .. } = notes;
    // On a loopback address ports are the node's own sockets' alone: a packet to one is forged.
    if !matches!(flow.kind, Kind::Tcp | Kind::Sctp | Kind::Udp | Kind::Tail) || flow.tuple.destination.is_loopback() {
        return Target::Same;
    }
    let inside = origin.is_inside();
    let mut offer = Offer::default();
    let target = service::choose(tables, config, &flow.tuple, inside, to, &mut offer);
    if target != Target::New {
        return target;
    }
    if origin == Origin::Wire {
        let relayed = relay::open::<F, T>(tables, config, notes, &offer);
        if relayed != Target::Same {
            return relayed;
        }
    }
    client::<F, T>(tables, config, notes, origin);
    if notes.to.source == F::Addr::default() {
        return Target::Drop(Reason::NoRoute);
    }
    if inside {
        notes.to.source_port = nat::apart(notes.flow.tuple.source_port);
    }
    match nat::open(tables, config, notes, offer.set) {
        Ok(()) => Target::New,
        Err(reason) => Target::Drop(reason),
    }
}

/// What becomes of a packet to a pod or node by its own address: nothing, but for one that could be mistaken.
#[inline(always)]
fn straight<F: Family, T: Tables<F::Addr>>(
    tables: &mut T,
    config: &Config,
    notes: &mut Notes<F::Addr>,
    origin: Origin,
) -> Target {
    if origin != Origin::Pod || !is_mistakable(tables, notes) {
        return Target::Same;
    }
    notes.to.source_port = 0;
    match nat::open(tables, config, notes, 0) {
        Ok(()) => Target::New,
        Err(reason) => Target::Drop(reason),
    }
}

/// Whether answers to a connection that a pod opens untranslated would be taken for those of a service: [`nat::apart`] does
/// not help where the pod chose the port itself, or has other ephemeral ports than the kernel's. Datagrams need not be asked
/// about: two sockets never share a UDP port.
#[inline(never)]
fn is_mistakable<A: Address, T: Tables<A>>(tables: &mut T, notes: &mut Notes<A>) -> bool {
    let Notes { flow, look, .. } = notes;
    if !flow.opens() {
        return false;
    }
    look.tuple = flow::reversed(&flow.tuple);
    !conntrack::is_free(tables, &flow.tuple, look)
}

/// Gives `to` the address under which a frontend's client comes to the backend; none where the node has no address of its own.
///
/// The client's own stays wherever the answer comes back through this node by itself. It does not where the backend is the
/// client, where neither is on this node, and where the backend is outside the cluster.
#[inline(never)]
fn client<F: Family, T: Tables<F::Addr>>(tables: &T, config: &Config, notes: &mut Notes<F::Addr>, origin: Origin) {
    let (own, backend) = (notes.flow.tuple.source, notes.to.destination);
    notes.to.source = if backend == own {
        F::gateway(config)
    } else if origin == Origin::Host
        || tables.endpoint(&backend).is_some()
        || origin == Origin::Pod && way::via::<F, T>(tables, config, backend).is_some()
    {
        own
    } else {
        F::node(config)
    };
}

/// Source NAT of a pod's packet to the outside.
#[inline(always)]
fn masquerade<F: Family, T: Tables<F::Addr>>(
    tables: &mut T,
    config: &Config,
    notes: &mut Notes<F::Addr>,
) -> Result<(), Reason> {
    match notes.flow.kind {
        Kind::Tcp | Kind::Sctp | Kind::Udp | Kind::Echo => {}
        Kind::Tail | Kind::LostTail => return Err(Reason::FragmentWithoutHead),
        Kind::Error | Kind::Other => return Err(Reason::UnknownProtocol),
    }
    notes.to.source = F::node(config);
    // A node may have no address of the family: it leads nowhere then.
    if notes.to.source == F::Addr::default() {
        return Err(Reason::NoRoute);
    }
    nat::open(tables, config, notes, 0)
}

/// A pod must not speak VXLAN to a node, at none of its addresses: it could put packets of any sender into the network.
#[inline(always)]
fn no_tunnel<A: Address, T: Tables<A>>(tables: &T, config: &Config, notes: &Notes<A>) -> Result<(), Reason> {
    let Notes { flow, to, way, .. } = notes;
    if flow.tuple.protocol == UDP
        && flow.tuple.destination_port == config.vxlan_port
        && (way.end == End::Host || way::is_node(tables, &to.destination))
    {
        return Err(Reason::TunnelFromPod);
    }
    Ok(())
}

/// The length of the IP packet on the wire, or of each of those that segmentation makes of it; 0 where each has a length of
/// its own, as SCTP's have: they fit their sender's MTU, and more cannot be told.
#[inline(always)]
fn segment_len<P: Packet, A>(packet: &P, header: &Header<A>, flow: &Flow<A>) -> usize {
    let gso_size = packet.gso_size();
    match gso_size {
        0 => return packet.len() - ETHERNET,
        GSO_BY_FRAGS => return 0,
        _ => {}
    }
    header.payload - ETHERNET + flow.header_len + gso_size
}
