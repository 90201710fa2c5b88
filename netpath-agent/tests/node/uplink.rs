//! The device to the other nodes, and what the kernel says of ways and local addresses.

use std::collections::BTreeSet;

use ipnet::IpNet;
use netpath_agent::net::uplink::NextHop;

use crate::space::{NODE, address, in_namespace, ip, make_uplink, net};

#[test]
fn the_uplink_is_found_by_the_nodes_address_or_by_name() {
    in_namespace(async |netlink| {
        make_uplink();
        let uplink = netlink.uplink(None, NODE).await.unwrap();
        assert_eq!(
            (uplink.name.as_str(), uplink.kind.as_str(), uplink.mtu),
            ("up0", "veth", 1500)
        );
        assert_eq!(uplink.addresses, [net("10.0.1.1/24")]);
        let far = netlink.uplink(Some("far0"), NODE).await.unwrap();
        assert_eq!((far.name.as_str(), far.addresses.len()), ("far0", 0));
        assert_eq!(
            netlink.uplink(None, address("10.9.9.9")).await.unwrap_err().to_string(),
            "a device with 10.9.9.9 (the node's InternalIP) is missing; correct status.addresses of the Node, or name the \
             device with --uplink"
        );
        assert_eq!(
            netlink.uplink(Some("eth7"), NODE).await.unwrap_err().to_string(),
            "device eth7 (the uplink) is missing; give --uplink one of: lo, far0, up0"
        );
    });
}

#[test]
fn next_hops_are_the_kernels() {
    in_namespace(async |netlink| {
        make_uplink();
        let device = netlink.uplink(None, NODE).await.unwrap().index;
        assert_eq!(netlink.next_hop(address("10.0.2.1")).await.unwrap(), None);
        ip("route add 10.0.2.0/24 via 10.0.1.254");
        let gateway = Some(address("10.0.1.254"));
        assert_eq!(
            netlink.next_hop(address("10.0.2.1")).await.unwrap(),
            Some(NextHop { gateway, device })
        );
        assert_eq!(
            netlink.next_hop(address("10.0.1.2")).await.unwrap(),
            Some(NextHop { gateway: None, device })
        );
    });
}

/// An address of any device, and what others route to the node's stack; nothing of any other table.
#[test]
fn local_routes_are_what_the_node_s_stack_has() {
    in_namespace(async |netlink| {
        make_uplink();
        ip("link set lo up");
        ip("address add 203.0.113.8/32 dev lo");
        ip("route add local 198.51.100.0/28 dev up0 proto 66");
        ip("route add 192.0.2.0/24 via 10.0.1.254");
        let found: BTreeSet<IpNet> = netlink.local_routes().await.unwrap().into_iter().collect();
        let expected = [
            "127.0.0.0/8",
            "127.0.0.1/32",
            "10.0.1.1/32",
            "203.0.113.8/32",
            "::1/128",
            "198.51.100.0/28",
        ];
        assert_eq!(found, expected.into_iter().map(net).collect());
    });
}
