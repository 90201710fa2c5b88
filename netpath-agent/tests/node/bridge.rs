//! The bridge of the node's pods: its gateways, its MAC, and the neighbours that the service ranges are reached by.

use std::net::{IpAddr, Ipv4Addr};

use netpath_agent::net::bridge::Bridge;
use netpath_agent::net::{Error, Netlink};
use serde_json::json;

use crate::space::{NODE, in_namespace, ip, ip_json, members, net, set_sysctl, sysctl};

/// A bridge of IPv4 alone.
pub fn bridge() -> Bridge {
    Bridge {
        gateways: vec![net("10.244.1.1/24")],
        mtu: 1450,
        node: NODE,
    }
}

/// The same with a gateway of each family.
pub fn dual_bridge() -> Bridge {
    Bridge {
        gateways: vec![net("10.244.1.1/24"), net("fd00:244:1::1/64")],
        ..bridge()
    }
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

/// Whatever the node's defaults are, and although nothing is connected to the bridge yet.
#[test]
fn the_bridge_has_a_gateway_of_each_family_at_once() {
    in_namespace(async |netlink| {
        set_sysctl("ipv6/conf/default/disable_ipv6", "1");
        for _ in 0..2 {
            netlink.ensure_bridge(&dual_bridge()).await.unwrap();
        }
        let addresses = &ip_json("address show netpath0 scope global")[0]["addr_info"];
        assert_eq!(
            members(addresses, &["local", "prefixlen", "tentative"]),
            json!([{"local": "10.244.1.1", "prefixlen": 24}, {"local": "fd00:244:1::1", "prefixlen": 64}])
        );
        assert_eq!(sysctl("ipv6/conf/netpath0/accept_ra"), "0");
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

/// Makes a bridge and the ways to the service ranges over it, and makes them again.
async fn ensure_next_hops(netlink: &Netlink, wanted: &Bridge) {
    let bridge = netlink.ensure_bridge(wanted).await.unwrap();
    for _ in 0..2 {
        netlink
            .ensure_service_next_hops(&bridge, &wanted.gateways)
            .await
            .unwrap();
    }
}

#[test]
fn the_service_range_needs_no_neighbour() {
    in_namespace(async |netlink| {
        ensure_next_hops(&netlink, &bridge()).await;
        assert_eq!(
            members(&ip_json("neighbour show dev netpath0"), &["dst", "lladdr", "state"]),
            json!([{"dst": "169.254.78.1", "lladdr": "4e:70:0a:00:01:01", "state": ["PERMANENT"]}])
        );
    });
}

#[test]
fn service_ranges_of_both_families_need_no_neighbour() {
    in_namespace(async |netlink| {
        ensure_next_hops(&netlink, &dual_bridge()).await;
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
