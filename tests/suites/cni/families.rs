//! Pods of both families, and of IPv6 alone: an address of each that the node has, and all else in each.

use std::{
    net::{Ipv6Addr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use netpath_agent::{datapath::tables, net::bridge::Bridge};
use netpath_common::abi::{
    ABI_VERSION,
    bridge::Port,
    config::Config,
    endpoint::{Endpoint, KIND_HOST, KIND_POD},
    service::{
        BackendKey, FLAG_HOST_PORT, FLAG_NODE_PORT,
        v6::{Backend, Frontend},
    },
};
use netpath_tests::entries;
use serde_json::{Value, json};

use super::{
    link, mac_text,
    node::{NODE, Node, Remains, inside},
};

type Wide = [u8; 16];

/// The node's own address of IPv6, and its gateway.
pub const NODE6: &str = "2001:db8:50::1";
const GATEWAY6: &str = "fd00:244:1::1";

fn wide(address: &str) -> Result<Wide> {
    Ok(address.parse::<Ipv6Addr>()?.octets())
}

/// A node of both families, with its own addresses in the tables.
pub fn node() -> Result<Node> {
    let node = Node::new()?;
    let bridge = node.netlink(async |netlink| {
        let bridge = Bridge {
            gateways: vec!["10.244.1.1/24".parse()?, format!("{GATEWAY6}/64").parse()?],
            mtu: 1450,
            node: NODE.into(),
        };
        Ok(netlink.ensure_bridge(&bridge).await?)
    })?;
    node.configure(&bridge, ABI_VERSION)?;
    let mut config = tables::config(&node.pins)?;
    let both = Config {
        node6: wide(NODE6)?,
        gateway6: wide(GATEWAY6)?,
        ..config.get()?
    };
    config.set(&both)?;
    let host = Endpoint {
        kind: KIND_HOST,
        ..Endpoint::default()
    };
    node.endpoints()?.insert(&NODE.octets(), &host)?;
    for own in [NODE6, GATEWAY6] {
        tables::endpoints::<Wide>(&node.pins)?.insert(&wide(own)?, &host)?;
    }
    Ok(node)
}

/// The plugin's configuration there.
pub fn dual(more: Value) -> Value {
    let mut changes = json!({"subnets": [
        {"subnet": "10.244.1.0/24", "gateway": "10.244.1.1"},
        {"subnet": "fd00:244:1::/64", "gateway": GATEWAY6},
    ]});
    if let (Value::Object(changes), Value::Object(more)) = (&mut changes, more) {
        changes.extend(more);
    }
    changes
}

/// The entries of pods in IPv6's table.
fn pods(node: &Node) -> Result<Vec<(Wide, Endpoint)>> {
    let entries = tables::endpoints::<Wide>(&node.pins)?.entries()?.into_iter();
    Ok(entries.filter(|(_, endpoint)| endpoint.kind == KIND_POD).collect())
}

#[test]
fn a_pod_has_an_address_of_each_family_and_all_that_goes_with_it() -> Result<()> {
    let node = node()?;
    let pod = node.pod("p")?;
    // Whatever the pod's defaults are.
    pod.run(|| Ok(std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?))?;
    let result = node.call("ADD", "c1", Some(&pod), dual(json!({})))?.ok()?;
    assert_eq!(
        result["ips"],
        json!([
            {"address": "10.244.1.2/24", "gateway": "10.244.1.1", "interface": 2},
            {"address": "fd00:244:1::2/128", "gateway": GATEWAY6, "interface": 2},
        ])
    );
    assert_eq!(
        result["routes"],
        json!([{"dst": "0.0.0.0/0", "gw": "10.244.1.1"}, {"dst": "::/0", "gw": GATEWAY6}])
    );
    let device = result["interfaces"][1]["name"].as_str().context("no name")?.to_owned();
    let (eth0, port) = (link(&pod, "eth0")?, link(&node.namespace, &device)?);
    let bridge = link(&node.namespace, "netpath0")?;
    let (addresses, routes, gateway) = inside(&pod, async |netlink| {
        let gateway = netlink.permanent_neighbour(&eth0, GATEWAY6.parse()?).await?;
        Ok((netlink.addresses().await?, netlink.routes().await?, gateway))
    })?;
    assert_eq!(
        addresses,
        [
            (eth0.index, "10.244.1.2/24".parse()?),
            (eth0.index, "fd00:244:1::2/128".parse()?)
        ]
    );
    ensure!(
        routes.contains(&("::/0".parse()?, Some(GATEWAY6.parse()?))),
        "{routes:?}"
    );
    assert_eq!(gateway.map(mac_text), Some(mac_text(bridge.mac)));
    let ready = pod.run(|| {
        let shown = std::process::Command::new("ip")
            .args(["-6", "address", "show", "dev", "eth0"])
            .output()?;
        let accepts = std::fs::read_to_string("/proc/sys/net/ipv6/conf/eth0/accept_ra")?;
        Ok((String::from_utf8(shown.stdout)?, accepts))
    })?;
    let line = ready.0.lines().find(|line| line.contains("fd00:244:1::2/128"));
    ensure!(line.is_some_and(|line| !line.contains("tentative")), "{}", ready.0);
    assert_eq!(ready.1, "0\n");

    let own = Endpoint {
        ifindex: port.index,
        mac: eth0.mac,
        kind: KIND_POD,
    };
    assert_eq!(node.endpoints()?.get(&[10, 244, 1, 2])?, Some(own));
    assert_eq!(pods(&node)?, [(wide("fd00:244:1::2")?, own)]);
    let entry = Port {
        mac: eth0.mac,
        address4: [10, 244, 1, 2],
        address6: wide("fd00:244:1::2")?,
        ..Port::default()
    };
    assert_eq!(node.ports()?.entries()?, [(port.index, entry)]);
    let neighbour = |address: &str| {
        let address = address.parse()?;
        node.netlink(async |netlink| Ok(netlink.permanent_neighbour(&bridge, address).await?))
    };
    for address in ["10.244.1.2", "fd00:244:1::2"] {
        assert_eq!(neighbour(address)?, Some(eth0.mac), "{address}");
    }

    let check = || node.call("CHECK", "c1", Some(&pod), dual(json!({"prevResult": result})));
    assert_eq!(check()?.ok()?, Value::Null);
    tables::endpoints::<Wide>(&node.pins)?.remove(&wide("fd00:244:1::2")?)?;
    std::fs::remove_file(node.state().join("netpath/fd00:244:1::2"))?;
    node.netlink(async |netlink| Ok(netlink.forget_neighbour(&bridge, "fd00:244:1::2".parse()?).await?))?;
    pod.run(|| {
        let status = std::process::Command::new("ip")
            .args(["-6", "address", "flush", "dev", "eth0"])
            .status()?;
        ensure!(status.success());
        Ok(())
    })?;
    let (code, text) = check()?.error()?;
    assert_eq!(code, 101);
    for difference in [
        "eth0 has no address fd00:244:1::2/128",
        "np_endpoint6 has not the pod's entry for fd00:244:1::2",
        "fd00:244:1::2 is not a permanent neighbour on netpath0",
        "address fd00:244:1::2 is not reserved for it",
    ] {
        assert!(text.contains(difference), "{difference:?} is not in {text}");
    }
    assert!(!text.contains("10.244.1.2"), "{text}");
    node.del("c1", Some(&pod))?;
    assert_eq!((pods(&node)?, neighbour("10.244.1.2")?), (vec![], None));
    Ok(())
}

/// Straight after ADD, as in IPv4: from the new pod to the older one and back, and from the node to it.
#[test]
fn the_first_packet_of_ipv6_after_add_arrives() -> Result<()> {
    let node = node()?;
    let mut older: Option<UdpSocket> = None;
    let mut echo = [0; 16];
    for name in ["p", "q"] {
        let pod = node.pod(name)?;
        node.call("ADD", name, Some(&pod), dual(json!({})))?.ok()?;
        let number = if older.is_none() { 2 } else { 3 };
        let own = Ipv6Addr::new(0xfd00, 0x244, 1, 0, 0, 0, 0, number);
        let client = pod.run(|| Ok(UdpSocket::bind((own, 7000))?))?;
        client.set_read_timeout(Some(Duration::from_millis(500)))?;
        if let Some(server) = &older {
            for (from, to) in [(&client, server), (server, &client)] {
                from.send_to(b"first", to.local_addr()?)?;
                let (length, source) = to.recv_from(&mut echo).context("from pod to pod")?;
                assert_eq!((&echo[..length], source), (&b"first"[..], from.local_addr()?));
            }
        }
        let host = node
            .namespace
            .run(|| Ok(UdpSocket::bind((GATEWAY6.parse::<Ipv6Addr>()?, 0))?))?;
        host.set_read_timeout(Some(Duration::from_millis(500)))?;
        for (from, to) in [(&host, &client), (&client, &host)] {
            from.send_to(b"probe", to.local_addr()?)?;
            let (length, source) = to.recv_from(&mut echo).context("between node and pod")?;
            assert_eq!((&echo[..length], source), (&b"probe"[..], from.local_addr()?));
        }
        older = Some(client);
    }
    Ok(())
}

/// Nothing of a pod stays in either family, whether it went by DEL, by GC or without a word.
#[test]
fn what_a_pod_had_goes_with_it_in_both_families() -> Result<()> {
    let node = node()?;
    let host = node.remains()?;
    let bridge = link(&node.namespace, "netpath0")?;
    for way in ["del", "gc", "gone"] {
        let pod = node.pod(way)?;
        let result = node.call("ADD", way, Some(&pod), dual(json!({})))?.ok()?;
        let address = result["ips"][1]["address"].as_str().context("no address")?.to_owned();
        let address = address.split('/').next().context("an address")?.parse()?;
        match way {
            "del" => node.del(way, Some(&pod))?,
            "gc" => drop(
                node.call("GC", "", None, dual(json!({"cni.dev/valid-attachments": []})))?
                    .ok()?,
            ),
            _ => {
                drop(pod);
                node.del(way, None)?;
            }
        }
        assert_eq!((node.remains()?, pods(&node)?), (host_of(&host), vec![]), "{way}");
        let left = node.netlink(async |netlink| Ok(netlink.permanent_neighbour(&bridge, address).await?))?;
        assert_eq!(left, None, "{way}");
    }
    Ok(())
}

/// What a node without pods has.
fn host_of(remains: &Remains) -> Remains {
    Remains {
        endpoints: remains.endpoints.clone(),
        ..Remains::default()
    }
}

#[test]
fn a_node_of_ipv6_alone_gives_addresses_of_it_alone() -> Result<()> {
    let node = node()?;
    let pod = node.pod("p")?;
    let six = json!({"subnets": [{"subnet": "fd00:244:1::/126", "gateway": GATEWAY6}]});
    let result = node.call("ADD", "c1", Some(&pod), six.clone())?.ok()?;
    assert_eq!(
        result["ips"],
        json!([{"address": "fd00:244:1::2/128", "gateway": GATEWAY6, "interface": 2}])
    );
    assert_eq!(result["routes"], json!([{"dst": "::/0", "gw": GATEWAY6}]));
    let mut check = six.clone();
    check["prevResult"] = result;
    node.call("CHECK", "c1", Some(&pod), check)?.ok()?;
    let (code, text) = node.call("STATUS", "", None, six)?.error()?;
    ensure!(
        code == 50 && text.contains("all 1 of fd00:244:1::/126 are in use"),
        "{text}"
    );
    let ports: Vec<Port> = node.ports()?.entries()?.into_iter().map(|(_, port)| port).collect();
    assert_eq!((ports[0].address4, ports[0].address6), ([0; 4], wide("fd00:244:1::2")?));
    node.del("c1", Some(&pod))?;
    assert_eq!(pods(&node)?, []);
    Ok(())
}

fn ports(mappings: Value) -> Value {
    dual(json!({"capabilities": {"portMappings": true}, "runtimeConfig": {"portMappings": mappings}}))
}

/// The frontends of hostPorts in IPv6: address, port, flags and the backend.
fn served(node: &Node) -> Result<Vec<(String, u16, u16, Backend)>> {
    let backends = tables::backends::<Wide>(&node.pins)?;
    let services = tables::services::<Wide>(&node.pins)?.entries()?.into_iter();
    let served = services.map(|(Frontend { address, port, .. }, service)| {
        let place = BackendKey {
            set: service.set,
            slot: 0,
        };
        let backend = backends.get(&place)?.context("no backend")?;
        Ok((Ipv6Addr::from(address).to_string(), port, service.flags, backend))
    });
    let mut served = served.collect::<Result<Vec<_>>>()?;
    served.sort();
    Ok(served)
}

#[test]
fn host_ports_are_on_the_addresses_of_each_family() -> Result<()> {
    let node = node()?;
    let pod = node.pod("p")?;
    let mappings = json!([
        {"hostPort": 80, "containerPort": 8080, "protocol": "tcp"},
        {"hostIP": "0.0.0.0", "hostPort": 81, "containerPort": 8081},
        {"hostIP": "::", "hostPort": 82, "containerPort": 8082},
        {"hostIP": NODE6, "hostPort": 83, "containerPort": 8083},
        {"hostIP": "::1", "hostPort": 84, "containerPort": 8084},
    ]);
    let result = node.call("ADD", "c1", Some(&pod), ports(mappings.clone()))?.ok()?;
    let backend = |port| -> Result<Backend> { Ok(entries::backend(wide("fd00:244:1::2")?, port)) };
    let all = FLAG_HOST_PORT | FLAG_NODE_PORT;
    let mut expected = Vec::new();
    for own in [NODE6, GATEWAY6, "::1"] {
        expected.push((own.to_owned(), 80, all, backend(8080)?));
        expected.push((own.to_owned(), 82, all, backend(8082)?));
    }
    expected.push((NODE6.to_owned(), 83, FLAG_HOST_PORT, backend(8083)?));
    expected.push(("::1".to_owned(), 84, FLAG_HOST_PORT, backend(8084)?));
    expected.sort();
    assert_eq!(served(&node)?, expected);
    let four = tables::services::<[u8; 4]>(&node.pins)?.entries()?.into_iter();
    let mut four: Vec<_> = four.map(|(frontend, _)| (frontend.address, frontend.port)).collect();
    four.sort_unstable();
    let own4 = |port| [([127, 0, 0, 1], port), (NODE.octets(), port)];
    let mut expected4 = [own4(80), own4(81)].concat();
    expected4.sort_unstable();
    assert_eq!(four, expected4);

    let mut check = ports(mappings);
    check["prevResult"] = result;
    node.call("CHECK", "c1", Some(&pod), check.clone())?.ok()?;
    let gone = entries::frontend(wide(NODE6)?, 83, 6);
    tables::services::<Wide>(&node.pins)?.remove(&gone)?;
    let (_, text) = node.call("CHECK", "c1", Some(&pod), check)?.error()?;
    let missing = format!("np_service6 has not the pod's hostPort [{NODE6}]:83/TCP");
    ensure!(text.contains(&missing), "{text}");

    let other = node.pod("q")?;
    let taken = ports(json!([{"hostIP": "::", "hostPort": 80, "containerPort": 1}]));
    let (code, text) = node.call("ADD", "c2", Some(&other), taken)?.error()?;
    ensure!(
        code == 11 && text.contains("the pod with the address fd00:244:1::2 has it"),
        "{text}"
    );
    let strange = ports(json!([{"hostIP": "2001:db8::99", "hostPort": 90, "containerPort": 1}]));
    let (code, text) = node.call("ADD", "c2", Some(&other), strange)?.error()?;
    ensure!(
        code == 7 && text.contains("2001:db8::99, which is not the node's"),
        "{text}"
    );
    let mut four = ports(json!([{"hostIP": NODE6, "hostPort": 90, "containerPort": 1}]));
    four["subnets"] = json!([{"subnet": "10.244.1.0/24"}]);
    let (code, text) = node.call("ADD", "c2", Some(&other), four)?.error()?;
    ensure!(code == 2 && text.contains("the pod has no address of IPv6"), "{text}");
    assert_eq!(pods(&node)?.len(), 1, "what failed left nothing");

    node.call("DEL", "c1", Some(&pod), dual(json!({})))?.ok()?;
    assert_eq!((served(&node)?, pods(&node)?), (vec![], vec![]));
    assert_eq!(tables::backends::<Wide>(&node.pins)?.entries()?, []);
    Ok(())
}
