//! hostPorts: what ADD writes for them, who may have which, and that they go with their pod.

use std::{collections::BTreeMap, net::Ipv4Addr};

use anyhow::{Context, Result, ensure};
use netpath_agent::datapath::tables;
use netpath_common::abi::{
    conntrack::{DIRECTION_ORIGINAL, DIRECTION_REPLY, v4 as conntrack},
    endpoint::{Endpoint, KIND_HOST},
    service::{
        BackendKey, FLAG_EXTERNAL_IP, FLAG_HOST_PORT, FLAG_LOAD_BALANCER, FLAG_NODE_PORT, FLAG_NODE_PORT_HERE,
        FLAG_NONE_HERE, HOST_PORT_SETS, Service,
        v4::{Backend, Frontend},
    },
};
use netpath_tests::entries;
use serde_json::{Value, json};

use super::{
    address,
    node::{GATEWAY, NODE, Node, Remains},
};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// A node with its own addresses in the tables, as the agent writes them.
fn node() -> Result<Node> {
    let node = Node::new()?;
    for own in [NODE, GATEWAY] {
        let host = Endpoint {
            kind: KIND_HOST,
            ..Endpoint::default()
        };
        node.endpoints()?.insert(&own.octets(), &host)?;
    }
    Ok(node)
}

fn mapping(address: &str, port: u16, target: u16, protocol: &str) -> Value {
    json!({"hostIP": address, "hostPort": port, "containerPort": target, "protocol": protocol})
}

fn with(mappings: &[Value]) -> Value {
    json!({"capabilities": {"portMappings": true}, "runtimeConfig": {"portMappings": mappings}})
}

fn frontend(address: Ipv4Addr, port: u16, protocol: u8) -> Frontend {
    entries::frontend(address.octets(), port, protocol)
}

fn backend(pod: Ipv4Addr, port: u16) -> Backend {
    entries::backend(pod.octets(), port)
}

/// Every frontend with its flags and its one backend; every set of hostPorts must be named by one.
fn served(node: &Node) -> Result<BTreeMap<Frontend, (u16, Backend)>> {
    let sets: BTreeMap<BackendKey, Backend> = tables::backends::<[u8; 4]>(&node.pins)?
        .entries()?
        .into_iter()
        .collect();
    let mut served = BTreeMap::new();
    let mut unnamed = sets.clone();
    for (frontend, service) in tables::services::<[u8; 4]>(&node.pins)?.entries()? {
        let place = BackendKey {
            set: service.set,
            slot: 0,
        };
        let backend = *sets
            .get(&place)
            .with_context(|| format!("{service:?} names no backend"))?;
        ensure!(service.count == 1 && service.set >= HOST_PORT_SETS, "{service:?}");
        unnamed.remove(&place);
        served.insert(frontend, (service.flags, backend));
    }
    ensure!(unnamed.is_empty(), "no frontend names {unnamed:?}");
    Ok(served)
}

#[test]
fn one_port_on_several_addresses_and_protocols_has_a_pod_each() -> Result<()> {
    let node = node()?;
    let mut expected = BTreeMap::new();
    let mut attached = Vec::new();
    let own = NODE.to_string();
    for (container, address_of, protocol, number) in [
        ("loopback", "127.0.0.1", "tcp", TCP),
        ("own", own.as_str(), "TCP", TCP),
        ("datagrams", own.as_str(), "udp", UDP),
        ("messages", own.as_str(), "sctp", SCTP),
    ] {
        let pod = node.pod(container)?;
        let changes = with(&[mapping(address_of, 54_323, 8080, protocol)]);
        let result = node.call("ADD", container, Some(&pod), changes.clone())?.ok()?;
        let key = frontend(address_of.parse()?, 54_323, number);
        expected.insert(key, (FLAG_HOST_PORT, backend(address(&result)?, 8080)));
        ensure!(served(&node)? == expected, "{:?}", served(&node)?);
        let mut check = changes;
        check["prevResult"] = result;
        node.call("CHECK", container, Some(&pod), check.clone())?.ok()?;
        attached.push((container, pod, key, check));
    }
    let everywhere = node.pod("everywhere")?;
    let ports = [
        mapping("", 80, 8080, "tcp"),
        mapping("0.0.0.0", 53, 5353, "udp"),
        mapping("", 53, 5354, "SCTP"),
    ];
    let result = node.call("ADD", "everywhere", Some(&everywhere), with(&ports))?.ok()?;
    let pod = address(&result)?;
    let mut all = expected.clone();
    for own in [NODE, GATEWAY, Ipv4Addr::LOCALHOST] {
        for (port, protocol, target) in [(80, TCP, 8080), (53, UDP, 5353), (53, SCTP, 5354)] {
            let flags = FLAG_HOST_PORT | FLAG_NODE_PORT;
            all.insert(frontend(own, port, protocol), (flags, backend(pod, target)));
        }
    }
    ensure!(served(&node)? == all, "{:?}", served(&node)?);
    node.del("everywhere", None)?;
    ensure!(served(&node)? == expected);

    let (container, pod, key, check) = &attached[0];
    tables::services::<[u8; 4]>(&node.pins)?.remove(key)?;
    let (code, text) = node.call("CHECK", container, Some(pod), check.clone())?.error()?;
    ensure!(
        code == 101 && text.contains("hostPort 127.0.0.1:54323/TCP"),
        "{code}: {text}"
    );
    for (container, pod, _, _) in &attached {
        // Also without the mappings, and again.
        node.del(container, Some(pod))?;
        node.del(container, None)?;
    }
    ensure!(served(&node)?.is_empty());
    for own in [NODE, GATEWAY] {
        node.endpoints()?.remove(&own.octets())?;
    }
    assert_eq!(node.remains()?, Remains::default());
    Ok(())
}

#[test]
fn a_port_that_is_taken_fails_the_add_and_leaves_nothing() -> Result<()> {
    let node = node()?;
    let pod = node.pod("p")?;
    node.call("ADD", "first", Some(&pod), with(&[mapping("", 80, 8080, "tcp")]))?
        .ok()?;
    for (port, flags) in [
        (30_080, FLAG_NODE_PORT),
        (30_081, FLAG_NODE_PORT_HERE),
        (443, FLAG_LOAD_BALANCER),
        (444, FLAG_EXTERNAL_IP),
    ] {
        let service = Service {
            // None of its endpoints is here: what it is does not hang on that.
            flags: flags | FLAG_NONE_HERE,
            ..Service::default()
        };
        tables::services::<[u8; 4]>(&node.pins)?.insert(&frontend(NODE, port, TCP), &service)?;
    }
    let held = tables::services::<[u8; 4]>(&node.pins)?.entries()?;
    let (sets, remains) = (tables::backends::<[u8; 4]>(&node.pins)?.entries()?, node.remains()?);
    let own = NODE.to_string();
    for (mappings, code, said) in [
        (vec![mapping("", 80, 1, "tcp")], 11, "10.244.1.2 has it"),
        (vec![mapping(&own, 80, 1, "tcp")], 11, "10.244.1.2 has it"),
        (vec![mapping("127.0.0.1", 80, 1, "tcp")], 11, "10.244.1.2 has it"),
        (vec![mapping("127.0.0.9", 80, 1, "tcp")], 11, "10.244.1.2 has it"),
        // The first is free, and given back.
        (
            vec![mapping("", 81, 1, "tcp"), mapping("", 80, 1, "tcp")],
            11,
            ":80/TCP is taken",
        ),
        (vec![mapping("", 30_080, 1, "tcp")], 7, "as its NodePort"),
        (vec![mapping("127.0.0.1", 30_080, 1, "tcp")], 7, "as its NodePort"),
        (vec![mapping(&own, 30_081, 1, "tcp")], 7, "as its NodePort"),
        (vec![mapping("", 443, 1, "tcp")], 11, "load balancer's address"),
        (vec![mapping(&own, 443, 1, "tcp")], 11, "load balancer's address"),
        (vec![mapping(&own, 444, 1, "tcp")], 11, "one of its externalIPs"),
        (vec![mapping("192.0.2.99", 82, 1, "tcp")], 7, "is not the node's"),
        (vec![mapping("", 83, 1, "dccp")], 2, "DCCP is not served"),
        (vec![mapping("::", 84, 1, "tcp")], 2, "no address of IPv6"),
        (
            vec![mapping("", 85, 70_000u32 as u16, "tcp"), json!("x")],
            6,
            "cannot be read",
        ),
    ] {
        let second = node.pod("q")?;
        let answer = node.call("ADD", "second", Some(&second), with(&mappings))?;
        let (found, text) = answer.error().with_context(|| format!("{mappings:?}"))?;
        ensure!(found == code && text.contains(said), "{mappings:?}: {found}: {text}");
        ensure!(
            tables::services::<[u8; 4]>(&node.pins)?.entries()? == held,
            "{mappings:?}"
        );
        ensure!(
            tables::backends::<[u8; 4]>(&node.pins)?.entries()? == sets,
            "{mappings:?}"
        );
        assert_eq!(node.remains()?, remains, "{mappings:?}");
    }
    // Other protocols and ports are free.
    let second = node.pod("q")?;
    let free = [
        mapping("", 80, 1, "udp"),
        mapping("", 80, 1, "sctp"),
        mapping("", 81, 1, "tcp"),
    ];
    node.call("ADD", "second", Some(&second), with(&free))?.ok()?;
    Ok(())
}

#[test]
fn connections_to_a_port_go_with_its_pod() -> Result<()> {
    let node = node()?;
    let pod = node.pod("p")?;
    let changes = with(&[mapping("", 53, 5353, "udp")]);
    let at = address(&node.call("ADD", "c", Some(&pod), changes)?.ok()?)?;
    let client = [203, 0, 113, 9];
    let tuple = |source: [u8; 4], destination: [u8; 4], source_port, destination_port| conntrack::Tuple {
        source,
        destination,
        source_port,
        destination_port,
        protocol: UDP,
        reserved: [0; 3],
    };
    let becomes = |to: conntrack::Tuple, direction| conntrack::Connection {
        source: to.source,
        destination: to.destination,
        source_port: to.source_port,
        destination_port: to.destination_port,
        direction,
        ..conntrack::Connection::default()
    };
    let mut kept = Vec::new();
    let mut connections = tables::connections::<[u8; 4]>(&node.pins)?;
    for (frontend, backend) in [(NODE.octets(), at.octets()), (NODE.octets(), [10, 244, 9, 9])] {
        for port in [4000, 4001] {
            let there = tuple(client, frontend, port + u16::from(backend[3]), 53);
            let led = tuple(client, backend, there.source_port, 5353);
            let back = tuple(backend, client, 5353, there.source_port);
            let shown = tuple(frontend, client, 53, there.source_port);
            for (key, value) in [
                (there, becomes(led, DIRECTION_ORIGINAL)),
                (back, becomes(shown, DIRECTION_REPLY)),
            ] {
                connections.insert(&key, &value)?;
                if backend != at.octets() {
                    kept.push((key, value));
                }
            }
        }
    }
    ensure!(connections.entries()?.len() == 8);
    node.del("c", Some(&pod))?;
    kept.sort_by_key(|(key, _)| bytemuck::bytes_of(key).to_vec());
    assert_eq!(connections.entries()?, kept);
    Ok(())
}

#[test]
fn what_nobody_closed_is_cleared_away_and_what_is_missing_is_made_up_for() -> Result<()> {
    let node = node()?;
    let pod = node.pod("p")?;
    node.call("ADD", "c", Some(&pod), with(&[mapping("", 80, 8080, "tcp")]))?
        .ok()?;
    let right = served(&node)?;
    let (mut services, mut backends) = (
        tables::services::<[u8; 4]>(&node.pins)?,
        tables::backends::<[u8; 4]>(&node.pins)?,
    );
    // A pod that is gone without a word; a service of the agent's; an entry that somebody removed; an address that came.
    let stale = Service {
        flags: FLAG_HOST_PORT,
        ..entries::service(HOST_PORT_SETS + 5, 1)
    };
    let place = BackendKey {
        set: stale.set,
        slot: 0,
    };
    backends.insert(&place, &backend(Ipv4Addr::new(10, 244, 1, 200), 1))?;
    services.insert(&frontend(NODE, 90, UDP), &stale)?;
    let (theirs, agents) = (
        frontend(Ipv4Addr::new(10, 96, 0, 1), 443, TCP),
        Service {
            set: 7,
            count: 1,
            ..stale
        },
    );
    let agents = Service { flags: 0, ..agents };
    services.insert(&theirs, &agents)?;
    backends.insert(&BackendKey { set: 7, slot: 0 }, &backend(NODE, 6443))?;
    services.remove(&frontend(GATEWAY, 80, TCP))?;
    let came = Ipv4Addr::new(192, 0, 2, 77);
    let host = Endpoint {
        kind: KIND_HOST,
        ..Endpoint::default()
    };
    node.endpoints()?.insert(&came.octets(), &host)?;

    let valid = json!({"cni.dev/valid-attachments": [{"containerID": "c", "ifname": "eth0"}]});
    node.call("GC", "", None, valid)?.ok()?;
    ensure!(services.get(&theirs)? == Some(agents));
    ensure!(backends.get(&BackendKey { set: 7, slot: 0 })? == Some(backend(NODE, 6443)));
    services.remove(&theirs)?;
    backends.remove(&BackendKey { set: 7, slot: 0 })?;
    let mut expected = right.clone();
    let one = *right.values().next().context("none")?;
    expected.insert(frontend(came, 80, TCP), one);
    ensure!(served(&node)? == expected, "{:?}", served(&node)?);
    // Nobody is valid.
    node.call("GC", "", None, json!({"cni.dev/valid-attachments": []}))?
        .ok()?;
    ensure!(served(&node)?.is_empty());
    Ok(())
}
