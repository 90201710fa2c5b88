//! Devices, routes and sysctls. What netpath did is read back with `ip`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use netpath_agent::family::{V4, V6};
use netpath_agent::net::bridge::Bridge;
use netpath_agent::net::overlay::Overlay;
use netpath_agent::net::uplink::NextHop;
use netpath_agent::net::{Error, before, sysctl};
use netpath_agent::plan::{KernelRoute, Way};
use serde_json::{Value, json};

use crate::space::{in_namespace, ip, ip_json};

const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1));

/// Of each object, these members alone.
fn members(objects: &Value, names: &[&str]) -> Value {
    let pick = |object: &Value| -> Value {
        let present = names
            .iter()
            .filter_map(|name| Some((name.to_string(), object.get(name)?.clone())));
        Value::Object(present.collect())
    };
    objects.as_array().unwrap().iter().map(pick).collect()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn bridge() -> Bridge {
    Bridge {
        gateways: vec![net("10.244.1.1/24")],
        mtu: 1450,
        node: NODE,
    }
}

fn overlay() -> Overlay {
    Overlay {
        port: 4789,
        mtu: 1450,
        node: NODE,
    }
}

/// A pair of devices with the node's address on the first, both up.
fn make_uplink() {
    ip("link add up0 type veth peer name far0");
    ip("address add 10.0.1.1/24 dev up0");
    ip("link set up0 up");
    ip("link set far0 up");
}

#[test]
fn the_bridge_is_made_once_and_kept() {
    in_namespace(async |netlink| {
        let first = netlink.ensure_bridge(&bridge()).await.unwrap();
        assert_eq!(netlink.ensure_bridge(&bridge()).await.unwrap(), first);

        let link = &ip_json("link show netpath0")[0];
        assert_eq!(link["linkinfo"]["info_kind"], "bridge");
        assert_eq!(link["linkinfo"]["info_data"]["mcast_snooping"], 0);
        assert_eq!(link["linkinfo"]["info_data"]["stp_state"], 0);
        assert_eq!(
            (&link["mtu"], &link["address"]),
            (&json!(1450), &json!("4e:70:0a:00:01:01"))
        );
        assert!(link["flags"].as_array().unwrap().contains(&json!("UP")));
        let addresses = &ip_json("-4 address show netpath0")[0]["addr_info"];
        assert_eq!(
            members(addresses, &["local", "prefixlen"]),
            json!([{"local": "10.244.1.1", "prefixlen": 24}])
        );
    });
}

#[test]
fn the_bridge_keeps_its_mac_and_mtu_when_ports_come_and_follows_the_plan() {
    in_namespace(async |netlink| {
        netlink.ensure_bridge(&bridge()).await.unwrap();
        ip("link add p0 address 02:00:00:00:00:01 mtu 1400 type veth peer name q0");
        ip("link set p0 master netpath0");
        let link = &ip_json("link show netpath0")[0];
        assert_eq!(
            (&link["mtu"], &link["address"]),
            (&json!(1450), &json!("4e:70:0a:00:01:01"))
        );

        let wanted = Bridge {
            gateways: vec![net("10.244.9.1/24"), net("10.245.0.1/16")],
            mtu: 8950,
            // Pods know the bridge by its MAC, which is of the address that the node had.
            node: IpAddr::V4(Ipv4Addr::new(10, 0, 1, 9)),
        };
        netlink.ensure_bridge(&wanted).await.unwrap();
        let link = &ip_json("link show netpath0")[0];
        assert_eq!(
            (&link["mtu"], &link["address"]),
            (&json!(8950), &json!("4e:70:0a:00:01:01"))
        );
        assert_eq!(ip_json("link show p0")[0]["master"], "netpath0");
        assert_eq!(
            members(
                &ip_json("-4 address show netpath0")[0]["addr_info"],
                &["local", "prefixlen"]
            ),
            json!([{"local": "10.244.9.1", "prefixlen": 24}, {"local": "10.245.0.1", "prefixlen": 16}])
        );
    });
}

#[test]
fn another_device_of_the_bridges_name_is_left_alone() {
    in_namespace(async |netlink| {
        ip("link add netpath0 type veth peer name other");
        let before = ip_json("link show");
        let error = netlink.ensure_bridge(&bridge()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "device netpath0 is in the way: it is a veth device; rename or delete it (`ip link delete netpath0`)"
        );
        assert_eq!(ip_json("link show"), before);
    });
}

#[test]
fn a_gateway_address_that_another_device_has_is_named() {
    in_namespace(async |netlink| {
        ip("link add cni0 type bridge");
        ip("address add 10.244.1.1/24 dev cni0");
        let error = netlink.ensure_bridge(&bridge()).await.unwrap_err();
        assert!(matches!(error, Error::Taken { .. }));
        assert_eq!(
            error.to_string(),
            "address 10.244.1.1 for netpath0 is in the way: device cni0 has 10.244.1.1/24; take it off \
             (`ip address del 10.244.1.1/24 dev cni0`), or give the node another podCIDR"
        );
        assert_eq!(netlink.link("netpath0").await.unwrap(), None);
    });
}

#[test]
fn the_overlay_is_made_once_and_follows_port_and_mtu() {
    in_namespace(async |netlink| {
        let first = netlink.ensure_overlay(&overlay()).await.unwrap();
        assert_eq!(netlink.ensure_overlay(&overlay()).await.unwrap(), first);
        let link = &ip_json("link show netpath-vx")[0];
        assert_eq!(
            (&link["mtu"], &link["address"]),
            (&json!(1450), &json!("4e:78:0a:00:01:01"))
        );
        assert_eq!(
            link["flags"],
            json!(["BROADCAST", "MULTICAST", "NOARP", "UP", "LOWER_UP"])
        );
        assert_eq!(ip_json("address show netpath-vx")[0]["addr_info"], json!([]));
        let data = &link["linkinfo"]["info_data"];
        assert_eq!((&data["external"], &data["port"]), (&json!(true), &json!(4789)));
        assert_eq!(
            (&data["learning"], &data["udp_zero_csum6_rx"]),
            (&json!(false), &json!(true))
        );

        let second = netlink
            .ensure_overlay(&Overlay { mtu: 8950, ..overlay() })
            .await
            .unwrap();
        assert_eq!((second.index, second.mtu), (first.index, 8950));
        let third = netlink
            .ensure_overlay(&Overlay {
                port: 8472,
                ..overlay()
            })
            .await
            .unwrap();
        assert_eq!((third.mac, third.mtu), (first.mac, 1450));
        assert_eq!(
            ip_json("link show netpath-vx")[0]["linkinfo"]["info_data"]["port"],
            8472
        );
    });
}

#[test]
fn a_vxlan_port_in_use_is_named_and_nothing_is_left_behind() {
    in_namespace(async |netlink| {
        ip("link set lo up");
        let socket = std::net::UdpSocket::bind("0.0.0.0:4789").unwrap();
        let error = netlink.ensure_overlay(&overlay()).await.unwrap_err().to_string();
        assert!(
            error.starts_with("UDP port 4789 for VXLAN is in the way: a socket or vxlan device"),
            "{error}"
        );
        assert!(error.ends_with("with --vxlan-port"), "{error}");
        assert_eq!(netlink.link("netpath-vx").await.unwrap(), None);
        drop(socket);

        ip("link add flannel.1 type vxlan id 1 dstport 4789");
        let error = netlink.ensure_overlay(&overlay()).await.unwrap_err().to_string();
        assert!(
            error.starts_with("UDP port 4789 for VXLAN is in the way: vxlan device flannel.1 has it"),
            "{error}"
        );
        assert_eq!(netlink.link("netpath-vx").await.unwrap(), None);
    });
}

#[test]
fn another_device_of_the_overlays_name_is_left_alone() {
    in_namespace(async |netlink| {
        ip("link add netpath-vx type vxlan id 7 dstport 4789");
        let before = ip_json("link show netpath-vx");
        let error = netlink.ensure_overlay(&overlay()).await.unwrap_err().to_string();
        assert!(
            error.contains("it is a vxlan device that is not in metadata mode"),
            "{error}"
        );
        assert_eq!(ip_json("link show netpath-vx"), before);
    });
}

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

#[test]
fn routes_follow_the_plan_and_others_are_left_alone() {
    in_namespace(async |netlink| {
        make_uplink();
        let uplink = netlink.uplink(None, NODE).await.unwrap().index;
        let bridge = netlink.ensure_bridge(&bridge()).await.unwrap();
        netlink
            .ensure_service_next_hops(&bridge, &[net("10.244.1.1/24")])
            .await
            .unwrap();
        let overlay = netlink.ensure_overlay(&overlay()).await.unwrap().index;
        ip("route add 10.99.0.0/16 via 10.0.1.9 proto static");
        let others = ip_json("-4 route show proto static");
        let route = |destination: &str, way| KernelRoute {
            destination: net(destination),
            way,
            source: address("10.244.1.1"),
        };
        let tunnel = |remote| Way::Tunnel {
            device: overlay,
            vni: 78,
            local: address(if address(remote).is_ipv4() {
                "10.0.1.1"
            } else {
                "2001:db8:1::1"
            }),
            remote: address(remote),
        };
        let direct = |gateway| Way::Gateway {
            device: uplink,
            gateway: address(gateway),
        };

        let first = [
            route("10.244.2.0/24", direct("10.0.1.2")),
            route("10.244.3.0/24", tunnel("10.0.2.1")),
            route("10.96.0.0/12", Way::Link { device: bridge.index }),
        ];
        let report = netlink.apply_routes(&first).await.unwrap();
        assert_eq!(
            (report.set, report.deleted, report.errors.len()),
            (3, 0, 0),
            "{:?}",
            report.errors
        );
        assert_eq!(
            ip("-4 route show proto 78")
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect::<Vec<_>>(),
            [
                "10.96.0.0/12 via 169.254.78.1 dev netpath0 src 10.244.1.1 onlink linkdown",
                "10.244.2.0/24 via 10.0.1.2 dev up0 src 10.244.1.1 onlink",
                "10.244.3.0/24 encap ip id 78 src 10.0.1.1 dst 10.0.2.1 ttl 0 tos 0 dev netpath-vx scope link src 10.244.1.1",
            ]
        );
        let report = netlink.apply_routes(&first).await.unwrap();
        assert_eq!((report.set, report.deleted, report.errors.len()), (0, 0, 0));

        // One node moves behind a router, one comes nearer, the service range goes.
        let second = [
            route("10.244.2.0/24", tunnel("10.0.2.2")),
            route("10.244.3.0/24", direct("10.0.1.3")),
        ];
        let report = netlink.apply_routes(&second).await.unwrap();
        assert_eq!(
            (report.set, report.deleted, report.errors.len()),
            (2, 3, 0),
            "{:?}",
            report.errors
        );
        assert_eq!(ip("-4 route show proto 78").lines().count(), 2);
        assert_eq!(
            members(&ip_json("-4 route get 10.244.3.7"), &["gateway", "dev"]),
            json!([{"gateway": "10.0.1.3", "dev": "up0"}])
        );
        assert!(ip("-4 route show 10.244.2.0/24").contains("encap ip id 78 src 10.0.1.1 dst 10.0.2.2"));

        // Somebody else's route to the same place is neither replaced nor hidden.
        let taken = [route("10.99.0.0/16", tunnel("10.0.2.3"))];
        let report = netlink.apply_routes(&taken).await.unwrap();
        assert_eq!((report.set, report.deleted, report.errors.len()), (0, 2, 1));
        assert!(
            report.errors[0]
                .to_string()
                .starts_with("route to 10.99.0.0/16 is in the way"),
            "{}",
            report.errors[0]
        );
        netlink.remove_routes().await.unwrap();
        assert_eq!(ip("-4 route show proto 78"), "");
        assert_eq!(ip_json("-4 route show proto static"), others);
    });
}

/// Both families' routes lead the same ways; those of IPv6 through tunnels of either family.
#[test]
fn routes_of_ipv6_follow_the_plan_and_others_are_left_alone() {
    in_namespace(async |netlink| {
        make_uplink();
        ip("address add 2001:db8:1::1/64 dev up0 nodad");
        let uplink = netlink.uplink(None, NODE).await.unwrap();
        assert_eq!(uplink.addresses, [net("10.0.1.1/24"), net("2001:db8:1::1/64")]);
        let bridge = netlink.ensure_bridge(&dual_bridge()).await.unwrap();
        netlink
            .ensure_service_next_hops(&bridge, &dual_bridge().gateways)
            .await
            .unwrap();
        let overlay = netlink.ensure_overlay(&overlay()).await.unwrap().index;
        ip("route add fd00:99::/64 via 2001:db8:1::9 dev up0 proto static");
        let others = ip_json("-6 route show proto static");
        let route = |destination: &str, way| KernelRoute {
            destination: net(destination),
            way,
            source: address("fd00:244:1::1"),
        };
        let tunnel = |remote| Way::Tunnel {
            device: overlay,
            vni: 78,
            local: address(if address(remote).is_ipv4() {
                "10.0.1.1"
            } else {
                "2001:db8:1::1"
            }),
            remote: address(remote),
        };
        let direct = |gateway| Way::Gateway {
            device: uplink.index,
            gateway: address(gateway),
        };
        let shown = || {
            let routes = ip("-6 route show proto 78");
            let routes = routes
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
            routes.collect::<Vec<_>>()
        };

        let four = KernelRoute {
            destination: net("10.244.2.0/24"),
            way: direct("10.0.1.2"),
            source: address("10.244.1.1"),
        };
        let first = [
            route("fd00:244:2::/64", direct("2001:db8:1::2")),
            route("fd00:244:3::/64", tunnel("10.0.2.1")),
            route("fd00:96::/108", Way::Link { device: bridge.index }),
            four.clone(),
        ];
        let report = netlink.apply_routes(&first).await.unwrap();
        assert_eq!((report.set, report.deleted), (4, 0), "{:?}", report.errors);
        assert_eq!(
            shown(),
            [
                "fd00:96::/108 via fe80::4e:78 dev netpath0 src fd00:244:1::1 metric 1024 onlink linkdown pref medium",
                "fd00:244:2::/64 via 2001:db8:1::2 dev up0 src fd00:244:1::1 metric 1024 onlink pref medium",
                "fd00:244:3::/64 encap ip id 78 src 10.0.1.1 dst 10.0.2.1 ttl 0 tos 0 dev netpath-vx src fd00:244:1::1 metric 1024 \
                 pref medium",
            ]
        );
        let report = netlink.apply_routes(&first).await.unwrap();
        assert_eq!((report.set, report.deleted, report.errors.len()), (0, 0, 0));
        let known = netlink.own_route_names().await.unwrap();
        assert!(
            known.contains(&"fd00:244:3::/64 through the tunnel to 10.0.2.1".to_owned()),
            "{known:?}"
        );

        // One node moves behind a router, one comes nearer, one has another address, one has no IPv4 any more, the service range
        // goes.
        let second = [
            route("fd00:244:2::/64", tunnel("10.0.2.2")),
            route("fd00:244:3::/64", direct("2001:db8:1::3")),
            four.clone(),
        ];
        let report = netlink.apply_routes(&second).await.unwrap();
        assert_eq!((report.set, report.deleted), (2, 3), "{:?}", report.errors);
        assert_eq!(shown().len(), 2, "{:?}", shown());
        let third = [
            route("fd00:244:2::/64", tunnel("2001:db8:2::2")),
            route("fd00:244:3::/64", direct("2001:db8:1::4")),
            four,
        ];
        let report = netlink.apply_routes(&third).await.unwrap();
        assert_eq!((report.set, report.deleted), (2, 2), "{:?}", report.errors);
        let over_ipv6 = "fd00:244:2::/64 encap ip6 id 78 src 2001:db8:1::1 dst 2001:db8:2::2 hoplimit 0 tc 0 dev netpath-vx src \
                         fd00:244:1::1 metric 1024 pref medium";
        assert!(shown().contains(&over_ipv6.to_owned()), "{:?}", shown());
        let report = netlink.apply_routes(&third).await.unwrap();
        assert_eq!((report.set, report.deleted, report.errors.len()), (0, 0, 0));
        assert_eq!(
            members(&ip_json("-6 route get fd00:244:3::7"), &["gateway", "dev"]),
            json!([{"gateway": "2001:db8:1::4", "dev": "up0"}])
        );

        let taken = [route("fd00:99::/64", tunnel("10.0.2.3"))];
        let report = netlink.apply_routes(&taken).await.unwrap();
        assert_eq!((report.set, report.deleted, report.errors.len()), (0, 3, 1));
        let said = report.errors[0].to_string();
        assert!(said.starts_with("route to fd00:99::/64 is in the way"), "{said}");
        assert_eq!((shown(), ip("-4 route show proto 78")), (vec![], String::new()));
        assert_eq!(ip_json("-6 route show proto static"), others);
        let local = netlink.local_routes().await.unwrap();
        assert!(local.contains(&net("2001:db8:1::1/128")) && local.contains(&net("10.0.1.1/32")));
    });
}

fn dual_bridge() -> Bridge {
    Bridge {
        gateways: vec![net("10.244.1.1/24"), net("fd00:244:1::1/64")],
        ..bridge()
    }
}

/// Whatever the node's defaults are, and although nothing is connected to the bridge yet.
#[test]
fn the_bridge_has_a_gateway_of_each_family_at_once() {
    in_namespace(async |netlink| {
        set_sysctl6("conf/default/disable_ipv6", "1");
        for _ in 0..2 {
            netlink.ensure_bridge(&dual_bridge()).await.unwrap();
        }
        let addresses = &ip_json("address show netpath0 scope global")[0]["addr_info"];
        assert_eq!(
            members(addresses, &["local", "prefixlen", "tentative"]),
            json!([{"local": "10.244.1.1", "prefixlen": 24}, {"local": "fd00:244:1::1", "prefixlen": 64}])
        );
        assert_eq!(sysctl_value6("conf/netpath0/accept_ra"), "0");
        netlink.ensure_bridge(&bridge()).await.unwrap();
        assert_eq!(
            members(
                &ip_json("address show netpath0 scope global")[0]["addr_info"],
                &["local"]
            ),
            json!([{"local": "10.244.1.1"}])
        );
    });
}

fn sysctl_value6(name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/sys/net/ipv6/{name}")).unwrap();
    text.trim().to_owned()
}

fn set_sysctl6(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/ipv6/{name}"), value).unwrap();
}

/// A node that learns its way out from a router goes on to, when it becomes one.
#[test]
fn forwarding_ipv6_does_not_cost_the_node_its_own_routes() {
    in_namespace(async |_| {
        make_uplink();
        set_sysctl6("conf/far0/accept_ra", "0");
        let state = tempfile::tempdir().unwrap();
        assert_eq!(
            (
                sysctl_value6("conf/up0/accept_ra"),
                sysctl_value6("conf/all/forwarding")
            ),
            ("1".into(), "0".into())
        );
        sysctl::prepare::<V6>(&["up0"], state.path()).unwrap();
        let values = [
            "conf/all/forwarding",
            "conf/up0/forwarding",
            "conf/up0/accept_ra",
            "conf/far0/accept_ra",
        ];
        assert_eq!(values.map(sysctl_value6), ["1", "1", "2", "0"]);
        // A device that comes later than the switch.
        set_sysctl6("conf/up0/accept_ra", "1");
        sysctl::prepare::<V6>(&["up0"], state.path()).unwrap();
        assert_eq!(sysctl_value6("conf/up0/accept_ra"), "2");
        let changed = before::changed(state.path()).unwrap();
        let names: Vec<String> = changed.iter().map(before::Changed::name).collect();
        assert_eq!(names[0], "net.ipv6.conf.all.forwarding");
        assert!(names.contains(&"net.ipv6.conf.up0.accept_ra".to_owned()), "{names:?}");
        changed.iter().for_each(|change| before::restore(change).unwrap());
        assert_eq!(values.map(sysctl_value6), ["0", "0", "1", "0"]);
    });
}

#[test]
fn service_ranges_of_both_families_need_no_neighbour() {
    in_namespace(async |netlink| {
        let bridge = netlink.ensure_bridge(&dual_bridge()).await.unwrap();
        for _ in 0..2 {
            netlink
                .ensure_service_next_hops(&bridge, &dual_bridge().gateways)
                .await
                .unwrap();
        }
        assert_eq!(
            members(
                &ip_json("neighbour show dev netpath0 nud permanent"),
                &["dst", "lladdr"]
            ),
            json!([
                {"dst": "169.254.78.1", "lladdr": "4e:70:0a:00:01:01"},
                {"dst": "fe80::4e:78", "lladdr": "4e:70:0a:00:01:01"},
            ])
        );
    });
}

#[test]
fn the_service_range_needs_no_neighbour() {
    in_namespace(async |netlink| {
        let bridge = netlink.ensure_bridge(&bridge()).await.unwrap();
        netlink
            .ensure_service_next_hops(&bridge, &[net("10.244.1.1/24")])
            .await
            .unwrap();
        netlink
            .ensure_service_next_hops(&bridge, &[net("10.244.1.1/24")])
            .await
            .unwrap();
        assert_eq!(
            members(&ip_json("neighbour show dev netpath0"), &["dst", "lladdr", "state"]),
            json!([{"dst": "169.254.78.1", "lladdr": "4e:70:0a:00:01:01", "state": ["PERMANENT"]}])
        );
    });
}

fn sysctl_value(name: &str) -> String {
    std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"))
        .unwrap()
        .trim()
        .to_owned()
}

fn set_sysctl(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value).unwrap();
}

#[test]
fn forwarding_is_on_and_strict_filters_become_loose() {
    in_namespace(async |_| {
        make_uplink();
        set_sysctl("conf/all/rp_filter", "0");
        set_sysctl("conf/up0/rp_filter", "1");
        set_sysctl("conf/far0/rp_filter", "0");
        let state = tempfile::tempdir().unwrap();
        sysctl::prepare::<V4>(&["up0", "far0"], state.path()).unwrap();
        assert_eq!(sysctl_value("ip_forward"), "1");
        assert_eq!(
            (sysctl_value("conf/up0/rp_filter"), sysctl_value("conf/far0/rp_filter")),
            ("2".into(), "0".into())
        );
        set_sysctl("conf/all/rp_filter", "1");
        sysctl::prepare::<V4>(&["up0", "far0"], state.path()).unwrap();
        assert_eq!(sysctl_value("conf/far0/rp_filter"), "2");
        let error = sysctl::prepare::<V4>(&["nowhere"], state.path())
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "sysctl net.ipv4.conf.nowhere.forwarding: No such file or directory (os error 2)"
        );
    });
}

#[test]
fn reserved_ports_keep_what_was_there_and_are_given_back() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().to_owned();
    in_namespace(async move |_| {
        set_sysctl("ip_local_reserved_ports", "8080,49152-49160");
        sysctl::reserve_ports(&(49152..=65535), &path).unwrap();
        assert_eq!(sysctl_value("ip_local_reserved_ports"), "8080,49152-65535");
        // A later start with another range gives the first one back.
        sysctl::reserve_ports(&(50000..=50010), &path).unwrap();
        assert_eq!(sysctl_value("ip_local_reserved_ports"), "8080,49152-49160,50000-50010");
        sysctl::release_ports(&path).unwrap();
        assert_eq!(sysctl_value("ip_local_reserved_ports"), "8080,49152-49160");
        sysctl::release_ports(&path).unwrap();
        set_sysctl("ip_local_reserved_ports", "\n");
        sysctl::reserve_ports(&(50000..=50010), &path).unwrap();
        sysctl::release_ports(&path).unwrap();
        assert_eq!(sysctl_value("ip_local_reserved_ports"), "");
    });
}

#[test]
fn unwise_ranges_are_warned_of() {
    in_namespace(async |_| {
        assert_eq!(sysctl::port_warning(&(49152..=65535)).unwrap(), None);
        let warning = sysctl::port_warning(&(32768..=65535)).unwrap().unwrap();
        let said = "net.ipv4.ip_local_port_range 32768-60999 leaves the node's own sockets 0 ports beside --nat-ports 32768-65535";
        assert!(warning.starts_with(said), "{warning}");
    });
}
