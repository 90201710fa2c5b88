//! The plan's routes in the kernel, beside those of others. Both families' lead the same ways; those of IPv6 through tunnels of
//! either family.

use std::net::IpAddr;

use netpath_agent::net::Netlink;
use netpath_agent::net::bridge::Bridge;
use netpath_agent::plan::{KernelRoute, Way};
use serde_json::json;

use crate::bridge::{bridge, dual_bridge};
use crate::overlay::overlay;
use crate::space::{NODE, address, in_namespace, ip, ip_json, make_uplink, members, net, own_routes};

/// A node with all that a family's routes lead through.
struct Ground {
    netlink: Netlink,
    /// The node's own address toward its pods.
    source: IpAddr,
    uplink: u32,
    bridge: u32,
    overlay: u32,
}

impl Ground {
    /// The family is that of the bridge's last gateway.
    async fn new(netlink: Netlink, wanted: &Bridge) -> Self {
        let bridge = netlink.ensure_bridge(wanted).await.unwrap();
        netlink
            .ensure_service_next_hops(&bridge, &wanted.gateways)
            .await
            .unwrap();
        Self {
            source: wanted.gateways.last().unwrap().addr(),
            uplink: netlink.uplink(None, NODE).await.unwrap().index,
            bridge: bridge.index,
            overlay: netlink.ensure_overlay(&overlay()).await.unwrap().index,
            netlink,
        }
    }

    fn route(&self, destination: &str, way: Way) -> KernelRoute {
        KernelRoute {
            destination: net(destination),
            way,
            source: self.source,
        }
    }

    fn direct(&self, destination: &str, gateway: &str) -> KernelRoute {
        let (device, gateway) = (self.uplink, address(gateway));
        self.route(destination, Way::Gateway { device, gateway })
    }

    fn tunnel(&self, destination: &str, remote: &str) -> KernelRoute {
        let remote = address(remote);
        let local = if remote.is_ipv4() { "10.0.1.1" } else { "2001:db8:1::1" };
        let way = Way::Tunnel {
            device: self.overlay,
            vni: 78,
            local: address(local),
            remote,
        };
        self.route(destination, way)
    }

    fn service_range(&self, destination: &str) -> KernelRoute {
        self.route(destination, Way::Link { device: self.bridge })
    }

    /// Brings the kernel to these routes, which takes so many routes set and deleted.
    async fn apply(&self, routes: &[KernelRoute], (set, deleted): (usize, usize)) {
        let report = self.netlink.apply_routes(routes).await.unwrap();
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        assert_eq!((report.set, report.deleted), (set, deleted));
    }

    /// Somebody else's route to the same place is neither replaced nor hidden, and so many of ours go.
    async fn is_refused(&self, route: KernelRoute, deleted: usize) {
        let said = format!("route to {} is in the way", route.destination);
        let report = self.netlink.apply_routes(&[route]).await.unwrap();
        assert_eq!((report.set, report.deleted, report.errors.len()), (0, deleted, 1));
        let error = report.errors[0].to_string();
        assert!(error.starts_with(&said), "{error}");
    }
}

#[test]
fn routes_follow_the_plan_and_others_are_left_alone() {
    in_namespace(async |netlink| {
        make_uplink();
        let ground = Ground::new(netlink, &bridge()).await;
        ip("route add 10.99.0.0/16 via 10.0.1.9 proto static");
        let others = ip_json("-4 route show proto static");

        let first = [
            ground.direct("10.244.2.0/24", "10.0.1.2"),
            ground.tunnel("10.244.3.0/24", "10.0.2.1"),
            ground.service_range("10.96.0.0/12"),
        ];
        ground.apply(&first, (3, 0)).await;
        assert_eq!(
            own_routes("-4"),
            [
                "10.96.0.0/12 via 169.254.78.1 dev netpath0 src 10.244.1.1 onlink linkdown",
                "10.244.2.0/24 via 10.0.1.2 dev up0 src 10.244.1.1 onlink",
                "10.244.3.0/24 encap ip id 78 src 10.0.1.1 dst 10.0.2.1 ttl 0 tos 0 dev netpath-vx scope link src 10.244.1.1",
            ]
        );
        ground.apply(&first, (0, 0)).await;

        // One node moves behind a router, one comes nearer, the service range goes.
        let second = [
            ground.tunnel("10.244.2.0/24", "10.0.2.2"),
            ground.direct("10.244.3.0/24", "10.0.1.3"),
        ];
        ground.apply(&second, (2, 3)).await;
        assert_eq!(own_routes("-4").len(), 2);
        assert_eq!(
            members(&ip_json("-4 route get 10.244.3.7"), &["gateway", "dev"]),
            json!([{"gateway": "10.0.1.3", "dev": "up0"}])
        );
        assert!(ip("-4 route show 10.244.2.0/24").contains("encap ip id 78 src 10.0.1.1 dst 10.0.2.2"));

        ground.is_refused(ground.tunnel("10.99.0.0/16", "10.0.2.3"), 2).await;
        ground.netlink.remove_routes().await.unwrap();
        assert_eq!(own_routes("-4"), Vec::<String>::new());
        assert_eq!(ip_json("-4 route show proto static"), others);
    });
}

#[test]
fn routes_of_ipv6_follow_the_plan_and_others_are_left_alone() {
    in_namespace(async |netlink| {
        make_uplink();
        ip("address add 2001:db8:1::1/64 dev up0 nodad");
        let uplink = netlink.uplink(None, NODE).await.unwrap();
        assert_eq!(uplink.addresses, [net("10.0.1.1/24"), net("2001:db8:1::1/64")]);
        let ground = Ground::new(netlink, &dual_bridge()).await;
        ip("route add fd00:99::/64 via 2001:db8:1::9 dev up0 proto static");
        let others = ip_json("-6 route show proto static");

        let four = KernelRoute {
            source: address("10.244.1.1"),
            ..ground.direct("10.244.2.0/24", "10.0.1.2")
        };
        let first = [
            ground.direct("fd00:244:2::/64", "2001:db8:1::2"),
            ground.tunnel("fd00:244:3::/64", "10.0.2.1"),
            ground.service_range("fd00:96::/108"),
            four.clone(),
        ];
        ground.apply(&first, (4, 0)).await;
        assert_eq!(
            own_routes("-6"),
            [
                "fd00:96::/108 via fe80::4e:78 dev netpath0 src fd00:244:1::1 metric 1024 onlink linkdown pref medium",
                "fd00:244:2::/64 via 2001:db8:1::2 dev up0 src fd00:244:1::1 metric 1024 onlink pref medium",
                "fd00:244:3::/64 encap ip id 78 src 10.0.1.1 dst 10.0.2.1 ttl 0 tos 0 dev netpath-vx src fd00:244:1::1 metric 1024 \
                 pref medium",
            ]
        );
        ground.apply(&first, (0, 0)).await;
        let known = ground.netlink.own_route_names().await.unwrap();
        assert!(
            known.contains(&"fd00:244:3::/64 through the tunnel to 10.0.2.1".to_owned()),
            "{known:?}"
        );

        // One node moves behind a router, one comes nearer, one has another address, one has no IPv4 any more, the service range
        // goes.
        let second = [
            ground.tunnel("fd00:244:2::/64", "10.0.2.2"),
            ground.direct("fd00:244:3::/64", "2001:db8:1::3"),
            four.clone(),
        ];
        ground.apply(&second, (2, 3)).await;
        assert_eq!(own_routes("-6").len(), 2, "{:?}", own_routes("-6"));
        let third = [
            ground.tunnel("fd00:244:2::/64", "2001:db8:2::2"),
            ground.direct("fd00:244:3::/64", "2001:db8:1::4"),
            four,
        ];
        ground.apply(&third, (2, 2)).await;
        let over_ipv6 = "fd00:244:2::/64 encap ip6 id 78 src 2001:db8:1::1 dst 2001:db8:2::2 hoplimit 0 tc 0 dev netpath-vx src \
                         fd00:244:1::1 metric 1024 pref medium";
        let shown = own_routes("-6");
        assert!(shown.contains(&over_ipv6.to_owned()), "{shown:?}");
        ground.apply(&third, (0, 0)).await;
        assert_eq!(
            members(&ip_json("-6 route get fd00:244:3::7"), &["gateway", "dev"]),
            json!([{"gateway": "2001:db8:1::4", "dev": "up0"}])
        );

        ground.is_refused(ground.tunnel("fd00:99::/64", "10.0.2.3"), 3).await;
        assert_eq!(["-4", "-6"].map(own_routes), [const { Vec::<String>::new() }; 2]);
        assert_eq!(ip_json("-6 route show proto static"), others);
        let local = ground.netlink.local_routes().await.unwrap();
        assert!(local.contains(&net("2001:db8:1::1/128")) && local.contains(&net("10.0.1.1/32")));
    });
}
