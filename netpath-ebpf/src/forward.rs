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
    flow::{self, ACK, Flow, Kind, SYN, UDP},
    hash, icmp_quote,
    nat::{self, Target},
    offer::Offer,
    packet::{ETHERNET, Packet, VXLAN4},
    service,
    tables::Tables,
    verdict::Verdict,
    way::{self, End, Way},
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

impl Origin {
    /// Whether it is this node itself or a pod of it.
    #[inline(always)]
    fn is_inside(self) -> bool {
        matches!(self, Self::Pod | Self::Host)
    }
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
    let (header, flow) = &tables.settle((*header, flow));
    let mut to = flow.tuple;
    let mut way = Way::outside();
    let mut target = known::<F, P, T>(packet, tables, flow, &mut to);
    way::find::<F, T>(tables, config, to.destination, &mut way);
    if target == Target::Same {
        target = match way.end {
            // No service has the address of a pod or of another node: most packets need not be asked about.
            End::Pod | End::Direct | End::Tunnel => straight::<F, T>(tables, config, flow, &mut to, origin),
            End::Host | End::Outside | End::Vacant | End::Service => {
                let mut target = served::<F, T>(tables, config, flow, &mut to, origin);
                if target == Target::Same && matches!(way.end, End::Service | End::Outside) {
                    target = service::elsewhere(tables, &flow.tuple, origin.is_inside());
                }
                if target == Target::New {
                    way = Way::outside();
                    way::find::<F, T>(tables, config, to.destination, &mut way);
                }
                target
            }
        };
    }
    let (target, way, mut to) = tables.settle((target, way, to));
    let mut translated = match target {
        Target::Drop(reason) => return Err(reason),
        Target::Same => false,
        Target::New => true,
        Target::Refusal => {
            return complain::<F, P>(
                packet,
                header,
                flow,
                origin,
                (Complaint::PortUnreachable, 0),
                header.destination,
            );
        }
    };
    match (origin, way.end) {
        // Addresses of ours that nobody has.
        (_, End::Vacant | End::Service) => {}
        (Origin::Pod, End::Outside) if !translated => {
            masquerade::<F, T>(tables, config, flow, &mut to)?;
            translated = true;
        }
        (Origin::Pod, End::Host) => no_tunnel(config, flow)?,
        (Origin::Pod, End::Direct | End::Tunnel) if way.node == to.destination => {
            no_tunnel(config, flow)?;
        }
        // Only what was translated here is sent on from here: the node's own stack decides of the rest.
        (Origin::Wire | Origin::Tunnel, End::Direct | End::Tunnel | End::Outside) if !translated => {
            return Ok(Verdict::Pass(Reason::ToStack));
        }
        (Origin::Host, _) if !translated => return Ok(Verdict::Pass(Reason::ToStack)),
        (Origin::Host, End::Host) => return Err(Reason::NoRoute),
        _ => {}
    }

    let limit = match way.end {
        End::Pod | End::Host | End::Vacant | End::Service => usize::MAX,
        End::Direct | End::Outside => usize::from(config.uplink_mtu),
        End::Tunnel => usize::from(config.uplink_mtu).saturating_sub(VXLAN4),
    };
    let mut left_to_stack = false;
    if limit != usize::MAX {
        if packet.len() - ETHERNET > limit && segment_len(packet, header, flow) > limit {
            if header.dont_fragment {
                let complaint = (Complaint::TooBig, limit as u16);
                return complain::<F, P>(packet, header, flow, origin, complaint, speaker::<F>(config, origin));
            }
            left_to_stack = true;
        }
        if origin != Origin::Host && !left_to_stack {
            if header.ttl <= 1 {
                let speaker = speaker::<F>(config, origin);
                return complain::<F, P>(packet, header, flow, origin, (Complaint::Expired, 0), speaker);
            }
            F::age(packet)?;
        }
    }
    if translated {
        nat::rewrite::<F, P>(packet, flow, &to)?;
    }
    if left_to_stack {
        return Ok(Verdict::Pass(Reason::ToStack));
    }
    send(packet, config, flow, translated, origin, &way)
}

/// What the connection table makes of a packet; `to` is its tuple, and becomes what it must become.
#[inline(always)]
fn known<F: Family, P: Packet, T: Tables<F::Addr>>(
    packet: &mut P,
    tables: &mut T,
    flow: &Flow<F::Addr>,
    to: &mut Tuple<F::Addr>,
) -> Target {
    match flow.kind {
        Kind::Other | Kind::LostTail => Target::Same,
        Kind::Error => icmp_quote::translate::<F, P, T>(packet, tables, flow, to),
        Kind::Tcp | Kind::Udp | Kind::Echo | Kind::Tail if conntrack::find(tables, flow, to) => Target::New,
        Kind::Tcp | Kind::Udp | Kind::Echo | Kind::Tail => Target::Same,
    }
}

/// What the services make of a packet of no known connection.
#[inline(always)]
fn served<F: Family, T: Tables<F::Addr>>(
    tables: &mut T,
    config: &Config,
    flow: &Flow<F::Addr>,
    to: &mut Tuple<F::Addr>,
    origin: Origin,
) -> Target {
    // On a loopback address ports are the node's own sockets' alone: a packet to one is forged.
    if !matches!(flow.kind, Kind::Tcp | Kind::Udp | Kind::Tail) || flow.tuple.destination.is_loopback() {
        return Target::Same;
    }
    let inside = origin.is_inside();
    let mut offer = Offer::default();
    let target = service::choose(tables, config, &flow.tuple, inside, to, &mut offer);
    if target != Target::New {
        return target;
    }
    to.source = client::<F, T>(tables, config, flow, to.destination, origin);
    if inside {
        to.source_port = nat::apart(flow.tuple.source_port);
    }
    match nat::open(tables, config, &flow.tuple, to, offer.set) {
        Ok(()) => Target::New,
        Err(reason) => Target::Drop(reason),
    }
}

/// What becomes of a packet to a pod or node by its own address: nothing, but for one that could be mistaken.
#[inline(always)]
fn straight<F: Family, T: Tables<F::Addr>>(
    tables: &mut T,
    config: &Config,
    flow: &Flow<F::Addr>,
    to: &mut Tuple<F::Addr>,
    origin: Origin,
) -> Target {
    if origin != Origin::Pod || !is_mistakable(tables, flow) {
        return Target::Same;
    }
    to.source_port = 0;
    match nat::open(tables, config, &flow.tuple, to, 0) {
        Ok(()) => Target::New,
        Err(reason) => Target::Drop(reason),
    }
}

/// Whether answers to a connection that a pod opens untranslated would be taken for those of a service: [`nat::apart`] does
/// not help where the pod chose the port itself, or has other ephemeral ports than the kernel's. Datagrams need not be asked
/// about: two sockets never share a UDP port.
#[inline(never)]
fn is_mistakable<A: Address, T: Tables<A>>(tables: &mut T, flow: &Flow<A>) -> bool {
    let opens = flow.kind == Kind::Tcp && flow.flags & (SYN | ACK) == SYN;
    opens && !conntrack::is_free(tables, &flow::reversed(&flow.tuple))
}

/// The address under which a frontend's client comes to a backend.
///
/// The client's own stays wherever the answer comes back through this node by itself. It does not where the backend is the
/// client, where neither is on this node, and where the backend is outside the cluster.
#[inline(never)]
fn client<F: Family, T: Tables<F::Addr>>(
    tables: &T,
    config: &Config,
    flow: &Flow<F::Addr>,
    backend: F::Addr,
    origin: Origin,
) -> F::Addr {
    let own = flow.tuple.source;
    if backend == own {
        return F::gateway(config);
    }
    if origin == Origin::Host || tables.endpoint(backend).is_some() {
        return own;
    }
    if origin == Origin::Pod && way::via::<F, T>(tables, config, backend).is_some() {
        return own;
    }
    F::node(config)
}

/// Source NAT of a pod's packet to the outside.
#[inline(always)]
fn masquerade<F: Family, T: Tables<F::Addr>>(
    tables: &mut T,
    config: &Config,
    flow: &Flow<F::Addr>,
    to: &mut Tuple<F::Addr>,
) -> Result<(), Reason> {
    match flow.kind {
        Kind::Tcp | Kind::Udp | Kind::Echo => {}
        Kind::Tail | Kind::LostTail => return Err(Reason::FragmentWithoutHead),
        Kind::Error | Kind::Other => return Err(Reason::UnknownProtocol),
    }
    to.source = F::node(config);
    nat::open(tables, config, &flow.tuple, to, 0)
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
    header.payload - ETHERNET + flow.header_len + gso_size
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
    (complaint, mtu): (Complaint, u16),
    from: F::Addr,
) -> Result<Verdict<F::Addr>, Reason> {
    let (reason, silent) = match complaint {
        Complaint::TooBig => (Reason::TooBig, Reason::TooBigSilent),
        Complaint::Expired => (Reason::Expired, Reason::ExpiredSilent),
        Complaint::PortUnreachable => (Reason::Refused, Reason::RefusedSilent),
    };
    let later = header.fragment == Fragment::Later;
    if flow.kind == Kind::Error || later || header.options || origin == Origin::Tunnel {
        return Err(silent);
    }
    F::complain(packet, complaint, mtu, from)?;
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
    Ok(match way.end {
        End::Pod => {
            // Between two pods of a node the frame is right already, unless a service changed whom it is for.
            if origin != Origin::Pod || translated {
                ethernet::readdress(packet, way.mac, config.bridge_mac)?;
            }
            Verdict::Endpoint { ifindex: way.ifindex }
        }
        End::Host => Verdict::Pass(Reason::ToHost),
        End::Direct => Verdict::Wire {
            reason: Reason::ToPeer,
            next_hop: if way.next_hop == [0; 4] { way.node } else { way.next_hop },
        },
        End::Tunnel => {
            let hash = hash::tuple(&flow.tuple, config.hash_seed);
            encap::wrap(packet, config, way.node, hash)?;
            Verdict::Wire {
                reason: Reason::ToTunnel,
                next_hop: way.next_hop,
            }
        }
        End::Vacant => return Err(Reason::NoEndpoint),
        End::Service => return Err(Reason::NoFrontend),
        End::Outside => Verdict::Wire {
            reason: Reason::ToOutside,
            next_hop: [0; 4],
        },
    })
}
