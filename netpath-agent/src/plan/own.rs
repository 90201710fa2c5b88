//! Where the node itself is: its addresses on the uplink.

use std::net::IpAddr;

use super::{
    NodeFacts, Problem,
    ends::Ends,
    nodes::{Placed, Places},
};
use crate::{family::Family, model::ObjectName};

/// The first of the node's InternalIPs in each family that the uplink has: its tunnels begin there.
///
/// # Errors
/// It has none of IPv4 there; or, if IPv6 is all that it has, none of IPv6.
pub(super) fn ends(places: &Places, facts: &NodeFacts) -> Result<Ends, &'static str> {
    let v4 = addresses(&places.v4, facts);
    let v6 = addresses(&places.v6, facts);
    if v4.is_empty() && v6.is_empty() {
        return Err("it has no InternalIP of its own");
    }
    let ends = Ends {
        v4: on_uplink(v4, facts),
        v6: on_uplink(v6, facts),
    };
    let is_there = if v4.is_empty() {
        ends.v6.is_some()
    } else {
        ends.v4.is_some()
    };
    match is_there {
        true => Ok(ends),
        false => Err("its InternalIP is not an address of the uplink"),
    }
}

/// Tells of a family in which other nodes' tunnels end elsewhere: at the first InternalIP, which is not the uplink's.
pub(super) fn tell_elsewhere<F: Family>(
    placed: &[Placed<F>],
    ends: &Ends,
    facts: &NodeFacts,
    problems: &mut Vec<Problem>,
) {
    let (Some(first), Some(end)) = (addresses(placed, facts).first(), ends.address::<F>()) else {
        return;
    };
    if *first != end {
        problems.push(Problem::not_served(
            "Node",
            &ObjectName::new("", &facts.name),
            format!(
                "status.addresses: other nodes' tunnels go to the first InternalIP of {}, {first}, which is not an address of \
                 the uplink, and so end nowhere: its own is {end}",
                F::NAME
            ),
            "name the uplink's address first (the kubelet's --node-ip), or the device that has the first one (the agent's --uplink)",
        ));
    }
}

fn addresses<'a, F: Family>(placed: &'a [Placed<F>], facts: &NodeFacts) -> &'a [F::Address] {
    let own = placed.iter().find(|node| *node.name == *facts.name);
    own.map(|own| own.addresses.as_slice()).unwrap_or_default()
}

fn on_uplink<A: Copy + Into<IpAddr>>(addresses: &[A], facts: &NodeFacts) -> Option<A> {
    let mut addresses = addresses.iter().copied();
    addresses.find(|address| facts.uplink.has((*address).into()))
}
