//! What holds for every cluster, sensible or not.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use netpath_common::abi::{
    self,
    service::{FLAG_EXTERNAL_IP, FLAG_LOAD_BALANCER, FLAG_NODE_PORT, FLAG_NONE_HERE},
};
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::model::{self, Hints, Node, ObjectName, Protocol, Service, ServicePort, Slice, SlicePort, Word};

/// An address of IPv6, by its first three groups and its last.
fn wide([a, b, c, last]: [u16; 4]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, last))
}

/// The node in both families.
fn dual() -> NodeFacts {
    let mut facts = facts();
    facts.uplink.addresses.push("2001:db8:1::11/64".parse().unwrap());
    facts.service_cidrs.push("fd00:96::/108".parse().unwrap());
    facts.external_ip_cidrs.push("2001:db8:1::10/125".parse().unwrap());
    facts
}

/// Addresses from small pools, so that they collide.
fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        6 => (0u8..6, 0u8..6).prop_map(|(net, host)| IpAddr::from([10, 244, net, host])),
        3 => (9u8..15).prop_map(|host| IpAddr::from([192, 168, 1, host])),
        3 => (0u8..6).prop_map(|host| IpAddr::from([10, 96, 0, host])),
        6 => (0u16..6, 0u16..6).prop_map(|(net, host)| wide([0xfd00, 0x244, net, host])),
        3 => (0x10u16..0x16).prop_map(|host| wide([0x2001, 0xdb8, 1, host])),
        3 => (0u16..6).prop_map(|host| wide([0xfd00, 0x96, 0, host])),
        1 => any::<[u8; 4]>().prop_map(IpAddr::from),
        1 => any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
    ]
}

fn subnet() -> impl Strategy<Value = IpNet> {
    (address(), 0u8..=32).prop_map(|(address, length)| {
        let length = match address.is_ipv6() {
            true => 32 + length,
            false if length > 20 => length,
            false => 24,
        };
        IpNet::new(address, length).unwrap().trunc()
    })
}

fn node() -> impl Strategy<Value = Node> {
    (proptest::option::of(0i64..4), vec(address(), 0..3), vec(subnet(), 0..3)).prop_map(
        |(created, internal_ips, pod_cidrs)| Node {
            created,
            internal_ips,
            pod_cidrs,
            zone: None,
            leaving: false,
        },
    )
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)]
}

fn word(words: &'static [&'static str]) -> impl Strategy<Value = Word> {
    proptest::sample::select(words).prop_map(Word::from)
}

fn name() -> impl Strategy<Value = Word> {
    word(&["", "http", "dns"])
}

fn service() -> impl Strategy<Value = Service> {
    let port = (name(), protocol(), 1u16..4, proptest::option::of(29999u16..30003)).prop_map(
        |(name, protocol, port, node_port)| ServicePort {
            name,
            protocol,
            port,
            node_port,
        },
    );
    let wishes = (
        proptest::option::of(1u32..4),
        any::<[bool; 2]>(),
        proptest::option::of(29999u16..30003),
    );
    let addresses = (vec(address(), 0..3), vec(address(), 0..2), vec(address(), 0..2));
    (proptest::option::of(0i64..4), addresses, vec(port, 0..4), wishes).prop_map(
        |(created, (cluster_ips, ingress_ips, external_ips), ports, wishes)| Service {
            created,
            cluster_ips,
            ingress_ips,
            external_ips,
            sources: None,
            ports,
            affinity_timeout: wishes.0,
            internal_local: wishes.1[0],
            external_local: wishes.1[1],
            health_check_node_port: wishes.2,
            problems: Vec::new(),
        },
    )
}

fn slice() -> impl Strategy<Value = Slice> {
    let node = proptest::option::of(word(&["a", "b"]));
    let names = || vec(word(&["a", "z", "y"]), 0..2);
    let hints = proptest::option::of((names(), names()).prop_map(|(zones, nodes)| Box::new(Hints { zones, nodes })));
    let conditions = (any::<[bool; 3]>(), node, hints);
    let endpoint =
        (address(), conditions).prop_map(
            |(address, ([ready, serving, terminating], node, hints))| model::Endpoint {
                address,
                ready,
                serving,
                terminating,
                node,
                hints,
            },
        );
    let port = (name(), protocol(), 1u16..4).prop_map(|(name, protocol, port)| SlicePort { name, protocol, port });
    (object_name(), vec(endpoint, 0..5), vec(port, 0..3)).prop_map(|(service, endpoints, ports)| Slice {
        service,
        endpoints,
        ports,
        problems: Vec::new(),
    })
}

fn object_name() -> impl Strategy<Value = ObjectName> {
    (0u8..2, 0u8..5).prop_map(|(namespace, name)| ObjectName::new(format!("ns{namespace}"), format!("s{name}")))
}

fn any_cluster() -> impl Strategy<Value = Cluster> {
    let own = Node {
        created: Some(-1),
        internal_ips: vec![IpAddr::from([192, 168, 1, 11]), wide([0x2001, 0xdb8, 1, 0x11])],
        pod_cidrs: vec!["10.244.1.0/24".parse().unwrap(), "fd00:244:1::/64".parse().unwrap()],
        zone: Some("z".to_owned()),
        leaving: false,
    };
    (
        any::<bool>(),
        proptest::collection::btree_map("[a-e]", node(), 0..5),
        proptest::collection::btree_map(object_name(), service(), 0..8),
        proptest::collection::btree_map(
            (0u8..9).prop_map(|n| ObjectName::new("x", format!("{n}"))),
            slice(),
            0..9,
        ),
    )
        .prop_map(move |(sensible, mut nodes, services, slices)| {
            if sensible {
                nodes.insert("a".into(), own.clone());
            }
            Cluster {
                nodes: shared(nodes),
                services: shared(services),
                slices: shared(slices),
                ..Cluster::default()
            }
        })
}

fn shared<K: Ord + Clone, V>(objects: BTreeMap<K, V>) -> imbl::OrdMap<K, Arc<V>> {
    objects
        .into_iter()
        .map(|(name, object)| (name, Arc::new(object)))
        .collect()
}

/// The backends that any port of any slice could give.
fn possible<F: Family>(cluster: &Cluster) -> BTreeSet<F::Backend> {
    let mut backends = BTreeSet::new();
    for slice in cluster.slices.values() {
        for endpoint in &slice.endpoints {
            let Some(address) = F::address(endpoint.address) else {
                continue;
            };
            let of = |port: &SlicePort| {
                let backend = abi::service::Backend {
                    address: F::octets(address),
                    port: port.port,
                    reserved: [0; 2],
                };
                F::Backend::from(backend)
            };
            backends.extend(slice.ports.iter().map(of));
        }
    }
    backends
}

/// Whether a family's tables agree with each other.
fn agrees<F: Family>(plan: &FamilyPlan<F>, prefixes: &[u8], cluster: &Cluster) -> Result<(), TestCaseError> {
    let possible = possible::<F>(cluster);
    for (frontend, service) in &plan.services {
        let frontend: abi::service::Frontend<F> = (*frontend).into();
        for list in [&service.backends, &service.outside, &service.serving] {
            prop_assert!(list.is_sorted_by(|a, b| a < b), "{frontend:?}: in order, each once");
            prop_assert!(list.iter().all(|backend| possible.contains(backend)), "{frontend:?}");
        }
        let mut chosen = service.backends.iter().chain(service.outside.iter());
        if frontend.protocol == 17 {
            prop_assert!(
                chosen.all(|one| service.serving.contains(one)),
                "{frontend:?}: flows stay"
            );
        }
        let is_empty = service.backends.is_empty() || service.outside.is_empty();
        prop_assert!(service.flags & FLAG_NONE_HERE == 0 || is_empty, "{frontend:?}");
        prop_assert_eq!(service.affinity == 0, service.affinity_timeout == 0, "{:?}", frontend);
        let is_own = plan.endpoints.contains_key(&frontend.address);
        match service.flags & (FLAG_NODE_PORT | FLAG_LOAD_BALANCER | FLAG_EXTERNAL_IP) {
            FLAG_NODE_PORT => prop_assert!(is_own, "{frontend:?}"),
            FLAG_LOAD_BALANCER => {}
            FLAG_EXTERNAL_IP => {
                let address: IpAddr = F::Address::from(frontend.address).into();
                prop_assert!(dual().external_ip_cidrs.iter().any(|range| range.contains(&address)));
            }
            _ => prop_assert!(!is_own, "{frontend:?}: nobody's cluster address is the node's own"),
        }
    }
    for key in plan.routes.keys() {
        let key: abi::route::RouteKey<F> = (*key).into();
        let length = key.prefix_len as u8;
        // Without pods of the family here only senders of tunnels are asked about, each by its own address.
        let is_sender = plan.subnets.is_empty() && length == F::BITS;
        prop_assert!(
            is_sender || prefixes.contains(&length),
            "{key:?} would never be looked up"
        );
        let subnet = IpNet::new(F::Address::from(key.address).into(), length).unwrap();
        prop_assert_eq!(subnet, subnet.trunc());
    }
    Ok(())
}

/// The subnets of a family's routes.
fn subnets<F: Family>(plan: &FamilyPlan<F>) -> BTreeSet<IpNet> {
    let keys = plan.routes.keys().map(|key| (*key).into());
    keys.map(|key: abi::route::RouteKey<F>| {
        IpNet::new(F::Address::from(key.address).into(), key.prefix_len as u8).unwrap()
    })
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_agrees_with_itself(cluster in any_cluster()) {
        match plan(&cluster, &dual()) {
            Err(problems) => prop_assert!(!problems.is_empty()),
            Ok(plan) => {
                agrees(&plan.v4, &plan.config.route_prefixes4, &cluster)?;
                agrees(&plan.v6, &plan.config.route_prefixes6, &cluster)?;
                let mut routed = subnets(&plan.v4);
                routed.extend(subnets(&plan.v6));
                for route in &plan.kernel_routes {
                    prop_assert!(routed.contains(&route.destination), "{route:?}: both tables agree");
                    prop_assert_eq!(route.source.is_ipv4(), route.destination.addr().is_ipv4());
                }
                prop_assert!(plan.problems.is_sorted_by(|a, b| a < b));
            }
        }
    }

    #[test]
    fn the_order_within_slices_does_not_matter(cluster in any_cluster()) {
        let mut turned = cluster.clone();
        for (name, slice) in &cluster.slices {
            let mut slice = Slice::clone(slice);
            slice.endpoints.reverse();
            slice.ports.reverse();
            turned.slices.insert(name.clone(), Arc::new(slice));
        }
        prop_assert_eq!(plan(&turned, &dual()), plan(&cluster, &dual()));
    }

    #[test]
    fn a_service_gives_its_place_to_no_newcomer(cluster in any_cluster(), newcomer in service(), slice in slice()) {
        let Ok(before) = plan(&cluster, &dual()) else { return Ok(()) };
        let mut grown = cluster.clone();
        let name = ObjectName::new("zz", "newcomer");
        grown.slices.insert(name.clone(), Arc::new(Slice { service: name.clone(), ..slice }));
        grown.services.insert(name, Arc::new(Service { created: Some(i64::MAX), ..newcomer }));
        let after = plan(&grown, &dual()).unwrap();
        for (frontend, service) in before.v4.services {
            prop_assert_eq!(after.v4.services.get(&frontend), Some(&service));
        }
        for (frontend, service) in before.v6.services {
            prop_assert_eq!(after.v6.services.get(&frontend), Some(&service));
        }
        prop_assert_eq!((after.v4.routes, after.v6.routes), (before.v4.routes, before.v6.routes));
    }
}
