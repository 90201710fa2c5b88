//! Where the node itself is: its addresses on the uplink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    NodeFacts,
    nodes::{Placed, Places},
};
use crate::family::Family;

/// The node's addresses, one of each family at most. Tunnels begin at the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
}

impl Own {
    /// The first of the node's InternalIPs in each family that the uplink has.
    ///
    /// # Errors
    /// It has none of IPv4 there; or, if IPv6 is all that it has, none of IPv6.
    pub fn find(places: &Places, facts: &NodeFacts) -> Result<Self, &'static str> {
        let v4 = addresses(&places.v4, facts);
        let v6 = addresses(&places.v6, facts);
        if v4.is_empty() && v6.is_empty() {
            return Err("it has no InternalIP of its own");
        }
        let own = Self {
            v4: on_uplink(v4, facts),
            v6: on_uplink(v6, facts),
        };
        let is_there = if v4.is_empty() {
            own.v6.is_some()
        } else {
            own.v4.is_some()
        };
        match is_there {
            true => Ok(own),
            false => Err("its InternalIP is not an address of the uplink"),
        }
    }

    /// The address of a family.
    pub fn address<F: Family>(&self) -> Option<F::Address> {
        let both = [self.v4.map(IpAddr::V4), self.v6.map(IpAddr::V6)];
        both.into_iter().flatten().find_map(F::address)
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
