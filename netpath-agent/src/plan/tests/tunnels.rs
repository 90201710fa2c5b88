//! Over which family tunnels go, and what that leaves of the MTU.

use netpath_common::abi::route::{VIA_DIRECT, VIA_TUNNEL};

use super::{
    dual::{DUAL, Nodes, dual_facts, kernel_routes, key6, nodes, planned, route6, tunnel},
    *,
};

/// A node without IPv4 behind the router.
const FAR6: (&str, &str, &str) = ("e", "'2001:db8:2::15'", "'fd00:244:5::/64'");

#[test]
fn a_tunnel_is_of_the_family_that_both_ends_have() {
    let plan = planned(&[DUAL[0], DUAL[2], FAR6], "");
    assert_eq!(plan.problems, []);
    let to_e = route6(VIA_TUNNEL, "2001:db8:2::15", "::");
    assert_eq!(
        plan.v6.routes[&key6("fd00:244:5::/64")],
        to_e,
        "the kernel knows the next hop"
    );
    assert_eq!(plan.v6.routes[&key6("2001:db8:2::15/128")], to_e);
    let to_c = route6(VIA_TUNNEL, "::ffff:192.168.2.13", "::ffff:192.168.1.1");
    assert_eq!(plan.v6.routes[&key6("fd00:244:3::/64")], to_c);
    assert_eq!(
        kernel_routes(&plan)[1..],
        [
            ("fd00:244:3::/64".to_owned(), tunnel("192.168.2.13")),
            ("fd00:244:5::/64".to_owned(), tunnel("2001:db8:2::15")),
        ]
    );
}

/// The wider outer header costs pods 20 bytes where any node has it.
#[test]
fn pods_have_the_mtu_of_the_widest_tunnel() {
    let mtu = |nodes: Nodes<'_>| planned(nodes, "").config.pod_mtu;
    assert_eq!(mtu(&DUAL[..3]), 1450);
    assert_eq!(mtu(&[DUAL[0], DUAL[1], FAR6]), 1430);
    let near = ("e", "'2001:db8:1::15'", "'fd00:244:5::/64'");
    assert_eq!(mtu(&[DUAL[0], DUAL[1], near]), 1430, "others may tunnel there");
    let of_ipv4 = ("a", DUAL[0].1, "10.244.1.0/24");
    assert_eq!(mtu(&[of_ipv4, DUAL[1], FAR6]), 1450, "nor pods of IPv4");
    let alone = ("a", "'2001:db8:1::11'", "'fd00:244:1::/64'");
    assert_eq!(mtu(&[alone, near]), 1430, "the first tunnel would be of IPv6");
}

/// A node that joins does not take the others' pods their IPv6.
#[test]
fn a_tunnel_that_leaves_ipv6_too_little_is_refused() {
    let mut facts = dual_facts();
    facts.uplink.mtu = 1349;
    let plan = plan(&cluster(&nodes(&[DUAL[0], DUAL[2], FAR6])), &facts).unwrap();
    assert_eq!(
        said(&plan.problems),
        [
            "Node e: spec.podCIDRs: fd00:244:5::/64 is not reached: the node is on another segment, and a tunnel of IPv6 leaves \
             too little of the uplink's MTU of 1349 for IPv6"
        ]
    );
    assert_eq!(plan.config.pod_mtu, 1299);
    assert!(plan.v6.routes.contains_key(&key6("fd00:244:3::/64")));
    assert!(!plan.v6.routes.contains_key(&key6("fd00:244:5::/64")));
}

/// Others tunnel to the first of a node's addresses, and the programs take that alone.
#[test]
fn a_first_address_elsewhere_is_told() {
    let turned = ("a", "192.168.9.9, '2001:db8:1::11', 192.168.1.11", DUAL[0].2);
    let plan = planned(&[turned, DUAL[1]], "");
    assert_eq!(
        said(&plan.problems),
        [
            "Node a: status.addresses: other nodes' tunnels go to the first InternalIP of IPv4, 192.168.9.9, which is not an address \
             of the uplink, and so end nowhere: its own is 192.168.1.11"
        ]
    );
    assert_eq!(plan.config.node4, [192, 168, 1, 11]);
    let far = ("c", "192.168.2.13, 192.168.2.14", "10.244.3.0/24");
    let plan = planned(&[DUAL[0], far], "");
    let route = plan.v4.routes[&key("192.168.2.14/32")];
    assert_eq!(
        (route.via, route.node),
        (VIA_TUNNEL, [192, 168, 2, 13]),
        "one tunnel for all of a node"
    );
}

/// Nodes of both families whose pods have IPv6 alone: tunnels come by IPv4, and the programs must know from whom.
#[test]
fn who_tunnels_is_known_in_a_family_without_pods() {
    let six = |place: usize| {
        let (name, addresses, _) = DUAL[place];
        (
            name,
            addresses,
            ["'fd00:244:1::/64'", "'fd00:244:2::/64'", "'fd00:244:3::/64'"][place],
        )
    };
    let plan = planned(&[six(0), six(1), six(2)], "");
    assert_eq!(plan.problems, []);
    assert_eq!(
        plan.v6.routes[&key6("fd00:244:3::/64")],
        route6(VIA_TUNNEL, "::ffff:192.168.2.13", "::ffff:192.168.1.1")
    );
    let route = |via, node, next_hop| Route {
        node,
        next_hop,
        via,
        reserved: [0; 3],
    };
    let (b, c) = ([192, 168, 1, 12], [192, 168, 2, 13]);
    let senders = FamilyPlan {
        routes: BTreeMap::from([
            (key("192.168.1.12/32"), route(VIA_DIRECT, b, b)),
            (key("192.168.2.13/32"), route(VIA_TUNNEL, c, [192, 168, 1, 1])),
        ]),
        ..FamilyPlan::default()
    };
    assert_eq!(plan.v4, senders);
    assert_eq!((plan.config.gateway4, plan.config.route_prefixes4), ([0; 4], [0; 4]));
}
