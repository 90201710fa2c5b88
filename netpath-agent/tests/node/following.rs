//! An agent follows its node and its objects, heals what others changed, and says what is in the way.

use std::fs;
use std::time::Duration;

use netpath_agent::datapath::tables;
use netpath_common::abi::endpoint::{Endpoint, KIND_POD};
use nix::sys::signal::Signal;

use crate::node::{LINKS, Node};
use crate::space::{in_namespace, ip, ip_json, own_routes};

#[test]
fn the_node_is_followed_and_healed() {
    in_namespace(async |_| {
        let mut node = Node::new();
        node.write_node("n1", "10.0.1.1", "10.244.1.0/24");
        node.write_node("n3", "10.0.2.1", "10.244.3.0/24");
        node.start();
        node.until_ready();
        let overlay = node.config().overlay_ifindex;

        ip("link set up0 mtu 1400");
        node.until("the smaller MTU", |node| {
            node.conflist().unwrap()["plugins"][0]["mtu"] == 1350
        });
        assert_eq!((node.config().uplink_mtu, node.config().pod_mtu), (1400, 1350));
        assert_eq!(ip_json("link show netpath0")[0]["mtu"], 1350);

        ip("link delete netpath-vx");
        let tunnel = "10.244.3.0/24 encap ip id 78 src 10.0.1.1 dst 10.0.2.1 ttl 0 tos 0 dev netpath-vx scope link src 10.244.1.1";
        node.until("the vxlan device", |node| {
            node.config().overlay_ifindex != overlay && own_routes("-4").contains(&tunnel.into())
        });
        node.until_ready();
        assert_eq!(node.links(), LINKS);

        // A node that moves to the segment, and another pod subnet for this one.
        node.write_node("n3", "10.0.1.3", "10.244.3.0/24");
        node.until("the direct route", |_| {
            own_routes("-4").contains(&"10.244.3.0/24 via 10.0.1.3 dev up0 src 10.244.1.1 onlink".into())
        });
        node.write_node("n1", "10.0.1.1", "10.244.9.0/24");
        node.until("the other subnet", |node| {
            node.conflist().unwrap()["plugins"][0]["subnets"][0]["subnet"] == "10.244.9.0/24"
        });
        assert_eq!(node.config().gateway4, [10, 244, 9, 1]);
        assert!(ip("-4 address show netpath0").contains("10.244.9.1/24"));

        // A foreign device in the way: nothing of it is touched, what runs goes on, and readiness says what to do.
        ip("link delete netpath-vx");
        node.until("the vxlan device again", |_| {
            !own_routes("-4").is_empty() && ip("link show").contains("netpath-vx")
        });
        node.end(Signal::SIGKILL);
        ip("link delete netpath-vx");
        ip("link add netpath-vx type veth peer name other0");
        node.start();
        node.until("the reason", |node| {
            let readiness = node.readiness().unwrap_or_default();
            readiness.starts_with("applied: device netpath-vx is in the way: it is a veth device; rename or delete it")
        });
        assert_eq!(ip_json("link show netpath-vx")[0]["linkinfo"]["info_kind"], "veth");
        ip("link delete netpath-vx");
        node.until_ready();
    });
}

#[test]
fn pods_that_another_subnet_cuts_off_are_named() {
    in_namespace(async |_| {
        let node = Node::ready();
        let pod = Endpoint {
            ifindex: 1,
            kind: KIND_POD,
            ..Endpoint::default()
        };
        let mut endpoints = tables::endpoints::<[u8; 4]>(&node.pins).unwrap();
        endpoints.insert(&[10, 244, 1, 5], &pod).unwrap();
        node.write_node("n1", "10.0.1.1", "10.244.9.0/24");
        let remarks = node.until_ready_with_remarks();
        assert_eq!(
            remarks,
            "Node n1: its pod subnets are now 10.244.9.0/24, and pods have addresses of earlier ones, to which nobody finds a \
             way: 10.244.1.5; delete these pods, so that they are made anew, or give the Node the subnet of 10.244.1.5 back\n"
        );
        endpoints.remove(&[10, 244, 1, 5]).unwrap();
        // The next change of anything brings the next round.
        node.write_node("n2", "10.0.1.2", "10.244.2.0/24");
        node.until_ready();
    });
}

/// The node's address and its object's are never changed in one step: in between the agent says what is wrong.
#[test]
fn a_node_that_changes_its_address_is_followed() {
    in_namespace(async |_| {
        let mut node = Node::new();
        node.write_node("n1", "10.0.1.1", "10.244.1.0/24");
        node.write_node("n2", "10.0.1.2", "10.244.2.0/24");
        node.start();
        node.until_ready();
        ip("address del 10.0.1.1/24 dev up0");
        ip("address add 10.0.1.9/24 dev up0");
        let missing = "applied: a device with 10.0.1.1 (the node's InternalIP) is missing; correct status.addresses of the \
                       Node, or name the device with --uplink\n";
        node.until("the reason", |node| node.readiness().as_deref() == Some(missing));
        assert_eq!(node.config().node4, [10, 0, 1, 1]);
        node.write_node("n1", "10.0.1.9", "10.244.1.0/24");
        node.until_ready();
        assert_eq!(
            (node.config().node4, node.config().gateway4),
            ([10, 0, 1, 9], [10, 244, 1, 1])
        );
        // Its object is deleted: all that runs goes on, and it is said what is missing.
        fs::remove_file(node.path("objects").join("n1.yaml")).unwrap();
        node.until("the reason", |node| {
            let readiness = node.readiness().unwrap_or_default();
            readiness
                .starts_with("applied: Node n1: there is no Node of this name; wait for the kubelet to register it")
        });
        assert_eq!(node.config().node4, [10, 0, 1, 9]);
        assert!(node.conflist().is_some());
    });
}

#[test]
fn a_file_that_is_broken_from_the_start_takes_nothing_off_a_node_that_serves() {
    in_namespace(async |_| {
        let mut node = Node::new();
        let broken = |node: &Node| fs::write(node.path("objects").join("n3.yaml"), "kind: [").unwrap();
        // A fresh node has nothing to lose: it goes on without that file.
        broken(&node);
        node.write_node("n1", "10.0.1.1", "10.244.1.0/24");
        node.write_node("n2", "10.0.1.2", "10.244.2.0/24");
        node.start();
        let remarks = node.until_ready_with_remarks();
        assert!(remarks.contains("objects/n3.yaml: document 1: "), "{remarks}");
        assert!(node.log().contains("objects/n3.yaml: "), "{}", node.log());
        node.write_node("n3", "10.0.1.3", "10.244.3.0/24");
        let both = [
            "10.96.0.0/12 via 169.254.78.1 dev netpath0 src 10.244.1.1 onlink linkdown",
            "10.244.2.0/24 via 10.0.1.2 dev up0 src 10.244.1.1 onlink",
            "10.244.3.0/24 via 10.0.1.3 dev up0 src 10.244.1.1 onlink",
        ];
        node.until("the route to n3", |_| own_routes("-4") == both);
        let ways = |node: &Node| tables::routes::<[u8; 4]>(&node.pins).unwrap().entries().unwrap();
        node.until("the way to n3", |node| {
            ways(node).iter().any(|(key, _)| key.address == [10, 244, 3, 0])
        });
        let before = ways(&node);
        node.end(Signal::SIGTERM);

        broken(&node);
        fs::remove_file(node.path("objects").join("n2.yaml")).unwrap();
        node.start();
        node.until("the reason", |node| {
            let readiness = node.readiness().unwrap_or_default();
            readiness.contains("source: File ") && readiness.contains("objects/n3.yaml: document 1: ")
        });
        let readiness = node.readiness().unwrap();
        let end = "; mend the file, or remove it; until then the node serves on as it was and takes up no change\n";
        assert!(readiness.contains(end), "{readiness}");
        assert!(node.log().contains(end.trim_end()), "{}", node.log());
        // Longer than the folder is looked at: nothing of it comes through meanwhile.
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(
            (own_routes("-4").as_slice(), ways(&node)),
            (both.map(String::from).as_slice(), before)
        );

        node.write_node("n3", "10.0.1.3", "10.244.3.0/24");
        node.until("n2's end", |_| own_routes("-4") == [both[0], both[2]]);
        node.until_ready();
    });
}
