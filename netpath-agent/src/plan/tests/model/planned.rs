//! What a plan says, whichever the family is of what it says that of.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use netpath_common::abi::{
    route::{Route, RouteKey, VIA_DIRECT, VIA_TUNNEL},
    service::{self as abi, FLAG_OUTSIDE},
    source::{SOURCES_BITS, SourceKey},
};

use super::rules::{At, Socket};
use crate::{
    family::Family,
    plan::{FamilyPlan, Plan, Way},
};

/// The addresses that services have, and whether also those inside are refused there.
pub fn addresses<F: Family>(plan: &FamilyPlan<F>) -> BTreeMap<IpAddr, bool> {
    let addresses = plan.addresses.iter();
    addresses
        .map(|(address, flags)| (F::Address::from(*address).into(), flags & FLAG_OUTSIDE == 0))
        .collect()
}

/// A frontend.
#[derive(Clone, Debug)]
pub struct Planned {
    pub flags: u16,
    pub backends: BTreeSet<Socket>,
    pub outside: BTreeSet<Socket>,
    pub serving: BTreeSet<Socket>,
    /// The ranges of those that may connect; `None` for everyone.
    pub clients: Option<Vec<IpNet>>,
    pub maglev: bool,
    pub affinity: u32,
    pub affinity_timeout: u32,
}

/// The frontends.
pub fn frontends<F: Family>(plan: &FamilyPlan<F>) -> BTreeMap<At, Planned> {
    let list = |number: u32| -> Vec<IpNet> {
        let keys = plan.sources.keys().map(|key| (*key).into());
        let keys = keys.filter(|key: &SourceKey<F>| key.sources == number);
        keys.map(|key| {
            IpNet::new(
                F::Address::from(key.address).into(),
                (key.prefix_len - SOURCES_BITS) as u8,
            )
            .unwrap()
        })
        .collect()
    };
    let services = plan.services.iter().map(|(frontend, service)| {
        let frontend: abi::Frontend<F> = (*frontend).into();
        let at = (
            F::Address::from(frontend.address).into(),
            frontend.port,
            frontend.protocol,
        );
        let planned = Planned {
            flags: service.flags,
            backends: sockets::<F>(&service.backends),
            outside: sockets::<F>(&service.outside),
            serving: sockets::<F>(&service.serving),
            clients: (service.sources != 0).then(|| list(service.sources)),
            maglev: service.maglev,
            affinity: service.affinity,
            affinity_timeout: service.affinity_timeout,
        };
        (at, planned)
    });
    services.collect()
}

fn sockets<F: Family>(list: &[F::Backend]) -> BTreeSet<Socket> {
    list.iter()
        .map(|backend| {
            let backend: abi::Backend<F> = (*backend).into();
            (F::Address::from(backend.address).into(), backend.port)
        })
        .collect()
}

/// A way in a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// `VIA_DIRECT` or `VIA_TUNNEL`.
    pub via: u8,
    /// The node, or the end of its tunnel.
    pub node: IpAddr,
    /// To whom the uplink sends that; `None` where the kernel is asked.
    pub next_hop: Option<IpAddr>,
}

/// The ways to other nodes and their pods, as the programs have them. Those of IPv6 name addresses of IPv4 as IPv4-mapped ones.
pub fn ways<F: Family>(plan: &FamilyPlan<F>) -> BTreeMap<IpNet, Mapped> {
    let whole = |address: F| -> IpAddr {
        let address: IpAddr = F::Address::from(address).into();
        address.to_canonical()
    };
    let routes = plan.routes.iter().map(|(key, route)| {
        let (key, route): (RouteKey<F>, Route<F>) = ((*key).into(), (*route).into());
        let to = IpNet::new(F::Address::from(key.address).into(), key.prefix_len as u8).unwrap();
        let known = (route.next_hop != F::default()).then(|| whole(route.next_hop));
        let mapped = Mapped {
            via: route.via,
            node: whole(route.node),
            next_hop: known,
        };
        (to, mapped)
    });
    let elsewhere = routes.filter(|(_, mapped)| [VIA_DIRECT, VIA_TUNNEL].contains(&mapped.via));
    elsewhere.collect()
}

/// The ways to other nodes' pods that the node's own stack has.
pub fn kernel_ways(plan: &Plan) -> BTreeMap<IpNet, Way> {
    let routes = plan.kernel_routes.iter().map(|route| (route.destination, route.way));
    let elsewhere = routes.filter(|(_, way)| !matches!(way, Way::Link { .. }));
    elsewhere.collect()
}
