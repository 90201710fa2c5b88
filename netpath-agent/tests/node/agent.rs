//! Agents come and go: one becomes ready, leaves everything in force when it ends, and is the only one of its node.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use netpath_common::{abi::ABI_VERSION, hook::Hook};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::node::{LINKS, Node};
use crate::space::{in_namespace, ip_json, own_routes};

/// The first program is accepted and the others are with the verifier: the agent ends at once, and nothing is in force.
#[test]
fn an_agent_is_ended_while_its_programs_are_loaded() {
    in_namespace(async |_| {
        let mut node = Node::new();
        let first = node.pins.program(Hook::FromPod);
        let staged = PathBuf::from(format!("{}:new", first.display()));
        // On a busy machine this test may be too late to find the verifier at work.
        for _ in 0..5 {
            node.start();
            node.until("a program", |_| staged.exists() || first.exists());
            let asked = Instant::now();
            assert_eq!(node.end(Signal::SIGTERM), Some(0));
            let took = asked.elapsed();
            assert!(took < Duration::from_secs(1), "it took {took:?}");
            if !first.exists() {
                break;
            }
            fs::remove_dir_all(node.pins.root()).unwrap();
        }
        assert!(
            staged.exists() && !first.exists(),
            "the programs were always loaded by then"
        );

        // The next one begins anew.
        node.write_node("n1", "10.0.1.1", "10.244.1.0/24");
        node.start();
        node.until_ready();
        assert!(first.exists() && !staged.exists());
    });
}

#[test]
fn a_node_becomes_ready_once_its_object_is_there_and_stays_so_without_its_agent() {
    in_namespace(async |_| {
        let mut node = Node::new();
        node.write_node("n2", "10.0.1.2", "10.244.2.0/24");
        node.start();
        let missing = "applied: Node n1: there is no Node of this name; wait for the kubelet to register it, or correct \
                       --node-name\nattached: programs are not attached yet\nconflist: the CNI configuration is not \
                       written yet\n";
        node.until("the reason", |node| node.readiness().as_deref() == Some(missing));
        assert_eq!((node.config().abi_version, node.conflist()), (0, None));

        node.write_node("n1", "10.0.1.1", "10.244.1.0/24");
        node.until_ready();
        let config = node.config();
        assert_eq!(
            (config.abi_version, config.node4, config.gateway4),
            (ABI_VERSION, [10, 0, 1, 1], [10, 244, 1, 1])
        );
        assert_eq!((config.uplink_mtu, config.pod_mtu), (1500, 1450));
        assert_eq!(
            json!(config.bridge_ifindex),
            ip_json("link show netpath0")[0]["ifindex"]
        );
        assert_eq!(
            json!(config.overlay_ifindex),
            ip_json("link show netpath-vx")[0]["ifindex"]
        );
        assert_eq!(node.links(), LINKS);
        let subnets = json!([{"subnet": "10.244.1.0/24", "gateway": "10.244.1.1"}]);
        assert_eq!(node.conflist().unwrap()["plugins"][0]["subnets"], subnets);
        assert_eq!(node.conflist().unwrap()["plugins"][0]["mtu"], 1450);
        let expected = [
            "10.96.0.0/12 via 169.254.78.1 dev netpath0 src 10.244.1.1 onlink linkdown",
            "10.244.2.0/24 via 10.0.1.2 dev up0 src 10.244.1.1 onlink",
        ];
        assert_eq!(own_routes("-4"), expected);

        // Neither an orderly end nor a kill takes anything away, and the next agent finds all as it is.
        assert_eq!(node.end(Signal::SIGTERM), Some(0));
        for signal in [Signal::SIGKILL, Signal::SIGTERM] {
            assert_eq!(
                (node.config(), node.links().as_slice()),
                (config, LINKS.map(String::from).as_slice())
            );
            assert_eq!(own_routes("-4"), expected);
            assert!(node.conflist().is_some());
            let before = node.log().len();
            node.start();
            node.until_ready();
            let log = node.log().split_off(before);
            assert!(
                !log.contains("maps changed") && !log.contains("routes changed"),
                "{log}"
            );
            assert!(
                !log.contains("CNI configuration written") && log.contains("replaced=12"),
                "{log}"
            );
            node.end(signal);
        }
    });
}

#[test]
fn a_second_agent_for_the_same_node_is_refused() {
    in_namespace(async |_| {
        let mut node = Node::ready();
        let mut first = node.agent.take().unwrap();
        node.start();
        let status = node.agent.take().unwrap().wait().unwrap();
        assert_eq!(status.code(), Some(1));
        let said = format!("another netpath-agent runs on this node (process {}, ", first.id());
        assert!(node.log().contains(&said), "{}", node.log());
        assert_eq!(node.readiness().as_deref(), Some("ok\n"));
        first.kill().unwrap();
        first.wait().unwrap();
    });
}
