//! On which of the node's addresses a NodePort answers.

use netpath_common::abi::service::{FLAG_NODE_PORT, FLAG_NODE_PORT_HERE};

use super::*;

/// The frontends of a NodePort with their flags, on a node whose uplink has two addresses, where load balancers may ask, and what
/// is said about the node.
fn chosen(setting: &str) -> (Vec<(String, u16)>, Vec<String>, Vec<String>) {
    let mut facts = NodeFacts {
        node_port_addresses: setting.parse().unwrap(),
        ..facts()
    };
    facts.uplink.addresses.push("203.0.113.77/28".parse().unwrap());
    let yaml = service(
        "shop",
        "type: NodePort, clusterIP: 10.96.0.10, ports: [{port: 80, nodePort: 30080}]",
    );
    let plan = plan(&cluster(&format!("{NODES}---\n{yaml}")), &facts).unwrap();
    let node_ports = plan.v4.services.iter().filter(|(frontend, _)| frontend.port == 30080);
    let frontends = node_ports.map(|(frontend, plan)| (Ipv4Addr::from(frontend.address).to_string(), plan.flags));
    let asked_on = plan.health_check_addresses.iter().map(IpAddr::to_string);
    (frontends.collect(), asked_on.collect(), said(&plan.problems))
}

#[test]
fn a_node_port_answers_on_the_addresses_that_are_chosen() {
    const INTERNAL: &str = "192.168.1.11";
    const SECOND: &str = "203.0.113.77";
    const LOOPBACK: &str = "127.0.0.1";
    for (setting, addresses, flag) in [
        ("all", vec![INTERNAL, SECOND], FLAG_NODE_PORT),
        ("0.0.0.0/0", vec![INTERNAL, SECOND], FLAG_NODE_PORT),
        ("primary", vec![INTERNAL], FLAG_NODE_PORT_HERE),
        ("203.0.113.0/24", vec![SECOND], FLAG_NODE_PORT_HERE),
        (
            "192.168.0.0/16,127.0.0.0/8",
            vec![LOOPBACK, INTERNAL],
            FLAG_NODE_PORT_HERE,
        ),
        (
            "192.168.0.0/16,203.0.113.64/26",
            vec![INTERNAL, SECOND],
            FLAG_NODE_PORT_HERE,
        ),
        ("127.0.0.0/8", vec![LOOPBACK], FLAG_NODE_PORT_HERE),
        // A family that no range is of has all of its addresses.
        ("2001:db8::/32", vec![INTERNAL, SECOND], FLAG_NODE_PORT),
    ] {
        let asked_on = match flag {
            FLAG_NODE_PORT => vec!["0.0.0.0".to_owned()],
            _ => addresses.iter().map(|address| (*address).to_owned()).collect(),
        };
        let frontends = addresses
            .into_iter()
            .map(|address| (address.to_owned(), flag))
            .collect();
        assert_eq!(chosen(setting), (frontends, asked_on, vec![]), "{setting}");
    }
}

#[test]
fn a_node_without_an_address_in_the_ranges_is_named() {
    let said = "Node a: no IPv4 address of the node is in the ranges that are set for NodePorts, 10.0.0.0/8: they answer nowhere on it";
    assert_eq!(chosen("10.0.0.0/8"), (vec![], vec![], vec![said.to_owned()]));
}
