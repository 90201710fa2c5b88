//! The CNI plugin as runtimes run it: the real binary in a node's namespace, with real programs and tables, and no agent.

pub mod families;
mod faults;
mod hostports;
pub mod node;
mod races;
mod reference;

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use netlink_packet_route::link::{InfoBridgePort, InfoPortData, LinkAttribute, LinkInfo};
use netpath_agent::{datapath::sys::pinned_link, net::link::Link};
use netpath_common::{
    abi::{bridge::Port, endpoint::Endpoint},
    hook::Hook,
};
use netpath_tests::lab::namespace::Namespace;
use serde_json::{Value, json};

use node::{GATEWAY, Node, Remains, inside};

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

pub fn link(namespace: &Namespace, name: &str) -> Result<Link> {
    inside(namespace, async |netlink| {
        netlink.link(name).await?.with_context(|| format!("no device {name}"))
    })
}

/// The address that a result tells.
fn address(result: &Value) -> Result<Ipv4Addr> {
    let text = result["ips"][0]["address"].as_str().context("no address")?;
    Ok(text.split_once('/').context("no prefix")?.0.parse()?)
}

#[test]
fn what_add_answers_is_what_there_is_in_every_version() -> Result<()> {
    let node = Node::new()?;
    let bridge = link(&node.namespace, "netpath0")?;
    for (version, number) in [("0.3.1", 2), ("0.4.0", 3), ("1.0.0", 4), ("1.1.0", 5)] {
        let pod = node.pod(&format!("p{number}"))?;
        let result = node
            .call("ADD", "c1", Some(&pod), json!({"cniVersion": version}))?
            .ok()?;
        let eth0 = link(&pod, "eth0")?;
        let device = result["interfaces"][1]["name"].as_str().context("no name")?.to_owned();
        let port = link(&node.namespace, &device)?;
        let mut expected = json!({
            "cniVersion": version,
            "interfaces": [
                {"name": "netpath0", "mac": mac_text(bridge.mac)},
                {"name": device, "mac": mac_text(port.mac)},
                {"name": "eth0", "mac": mac_text(eth0.mac), "sandbox": pod.path()},
            ],
            "ips": [{"address": format!("10.244.1.{number}/24"), "gateway": "10.244.1.1", "interface": 2}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.244.1.1"}],
            "dns": {},
        });
        match version {
            "0.3.1" | "0.4.0" => expected["ips"][0]["version"] = "4".into(),
            "1.1.0" => {
                expected["interfaces"][1]["mtu"] = 1450.into();
                expected["interfaces"][2]["mtu"] = 1450.into();
            }
            _ => {}
        }
        assert_eq!(result, expected);
        if version != "0.3.1" {
            let checked = node.call(
                "CHECK",
                "c1",
                Some(&pod),
                json!({"cniVersion": version, "prevResult": result}),
            )?;
            assert_eq!(checked.ok()?, Value::Null);
        }
        let deleted = node.call(
            "DEL",
            "c1",
            Some(&pod),
            json!({"cniVersion": version, "prevResult": result}),
        )?;
        assert_eq!(deleted.ok()?, Value::Null);
        assert_eq!(node.remains()?, Remains::default());
    }
    Ok(())
}

#[test]
fn when_add_returns_the_pod_is_ready_and_the_node_knows_it() -> Result<()> {
    let node = Node::new()?;
    let pod = node.pod("p")?;
    let result = node.add("c1", &pod)?;
    let device = result["interfaces"][1]["name"].as_str().context("no name")?.to_owned();

    let eth0 = link(&pod, "eth0")?;
    assert_eq!((eth0.kind.as_str(), eth0.mtu, eth0.up), ("veth", 1450, true));
    assert_eq!(
        eth0.mac[0] & 3,
        2,
        "locally administered, one device: {}",
        mac_text(eth0.mac)
    );
    let (addresses, mut routes) = inside(&pod, async |netlink| {
        Ok((netlink.addresses().await?, netlink.routes().await?))
    })?;
    // The kernel makes its own to link-local addresses of IPv6.
    routes.retain(|(destination, _)| destination.addr().is_ipv4());
    assert_eq!(addresses, [(eth0.index, "10.244.1.2/24".parse()?)]);
    assert_eq!(
        routes,
        [
            ("0.0.0.0/0".parse()?, Some(GATEWAY.into())),
            ("10.244.1.0/24".parse()?, None)
        ]
    );

    let port = link(&node.namespace, &device)?;
    let bridge = link(&node.namespace, "netpath0")?;
    assert_eq!((port.mtu, port.up, port.controller), (1450, true, Some(bridge.index)));
    let flags = node.netlink(async |netlink| bridge_port(netlink.handle(), &device).await)?;
    for expected in [
        InfoBridgePort::Learning(false),
        InfoBridgePort::UnicastFlood(false),
        InfoBridgePort::Isolated(false),
        InfoBridgePort::State(netlink_packet_route::link::BridgePortState::Forwarding),
    ] {
        assert!(flags.contains(&expected), "{expected:?} is not in {flags:?}");
    }
    let fdb = node
        .namespace
        .run(|| Ok(Command::new("bridge").args(["fdb", "show", "dev", &device]).output()?))?;
    let fdb = String::from_utf8(fdb.stdout)?;
    let entry = format!("{} master netpath0 static", mac_text(eth0.mac));
    assert!(
        fdb.lines().any(|line| line.trim() == entry),
        "{entry:?} is not in {fdb}"
    );
    let neighbour =
        node.netlink(async |netlink| Ok(netlink.permanent_neighbour(&bridge, address(&result)?.into()).await?))?;
    assert_eq!(neighbour, Some(eth0.mac));

    let own = Endpoint {
        ifindex: port.index,
        mac: eth0.mac,
        kind: netpath_common::abi::endpoint::KIND_POD,
    };
    assert_eq!(node.endpoints()?.entries()?, [([10, 244, 1, 2], own)]);
    let own = Port {
        mac: eth0.mac,
        address4: [10, 244, 1, 2],
        ..Port::default()
    };
    assert_eq!(node.ports()?.entries()?, [(port.index, own)]);
    let attached = pinned_link(&node.pins.link(&device, Hook::FromPod))?.context("no link")?;
    assert_eq!(attached.ifindex(), Some(port.index));
    let record: Value = serde_json::from_slice(&fs::read(node.state().join("netpath/10.244.1.2"))?)?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    assert_eq!(
        record,
        json!({"containerID": "c1", "ifname": "eth0", "bootID": boot.trim(), "netns": pod.path()})
    );
    Ok(())
}

#[test]
fn the_first_packet_after_add_arrives() -> Result<()> {
    let node = Node::new()?;
    let pods = (0..6).map(|n| node.pod(&format!("p{n}"))).collect::<Result<Vec<_>>>()?;
    let mut servers: Vec<UdpSocket> = Vec::new();
    let mut echo = [0; 16];
    for (number, pod) in pods.iter().enumerate() {
        let own = address(&node.add(&format!("c{number}"), pod)?)?;
        // Straight after ADD: from the new pod to every older one, and from the node to the new pod.
        let client = pod.run(|| Ok(UdpSocket::bind((own, 7000))?))?;
        client.set_read_timeout(Some(Duration::from_millis(500)))?;
        for server in &servers {
            client.send_to(b"first", server.local_addr()?)?;
            let (length, from) = server.recv_from(&mut echo).with_context(|| {
                format!(
                    "{own} to {}",
                    server.local_addr().map(|to| to.to_string()).unwrap_or_default()
                )
            })?;
            assert_eq!((&echo[..length], from), (&b"first"[..], client.local_addr()?));
        }
        let host = node.namespace.run(|| Ok(UdpSocket::bind((GATEWAY, 0))?))?;
        host.send_to(b"probe", client.local_addr()?)?;
        let (length, from) = client
            .recv_from(&mut echo)
            .with_context(|| format!("the node to {own}"))?;
        assert_eq!((&echo[..length], from), (&b"probe"[..], host.local_addr()?));
        servers.push(client);
    }
    Ok(())
}

async fn bridge_port(handle: &rtnetlink::Handle, device: &str) -> Result<Vec<InfoBridgePort>> {
    use futures::TryStreamExt;
    let answers = handle.link().get().match_name(device).execute();
    let message = answers.try_collect::<Vec<_>>().await?.pop().context("no device")?;
    for attribute in message.attributes {
        if let LinkAttribute::LinkInfo(infos) = attribute {
            for info in infos {
                if let LinkInfo::PortData(InfoPortData::BridgePort(flags)) = info {
                    return Ok(flags);
                }
            }
        }
    }
    anyhow::bail!("{device} is not a bridge port")
}

#[test]
fn an_interface_that_exists_is_not_touched_and_neither_is_the_attachment_that_has_it() -> Result<()> {
    let node = Node::new()?;
    let pod = node.pod("p")?;
    let result = node.add("c1", &pod)?;
    let before = node.remains()?;

    let (code, text) = node.call("ADD", "c1", Some(&pod), json!({}))?.error()?;
    assert_eq!(code, 100);
    assert!(text.contains("the container is attached already"), "{text}");
    let (code, text) = node.call("ADD", "c2", Some(&pod), json!({}))?.error()?;
    assert_eq!(code, 100);
    assert!(text.contains("interface eth0 is in the way"), "{text}");

    assert_eq!(node.remains()?, before);
    let checked = node.call("CHECK", "c1", Some(&pod), json!({"prevResult": result}))?;
    assert_eq!(checked.ok()?, Value::Null);
    node.del("c2", Some(&pod))?;
    assert_eq!(
        node.remains()?,
        before,
        "DEL of an attachment that never was takes nothing of another's"
    );
    Ok(())
}

#[test]
fn an_add_that_fails_at_its_last_step_leaves_nothing() -> Result<()> {
    let node = Node::new()?;
    let pod = node.pod("p")?;
    node.add("c1", &pod)?;
    let before = node.remains()?;
    let config = node.config(json!({})).to_string();
    let mut plugin = node.plugin("ADD", "c1", Some(&pod))?;
    plugin.env("CNI_IFNAME", "net1");
    // The kernel refuses a second default route.
    let (code, text) = node.run(plugin, config.as_bytes())?.error()?;
    assert_eq!(code, 100);
    assert!(text.contains("default route via 10.244.1.1"), "{text}");
    assert_eq!(node.remains()?, before, "a failed ADD leaves nothing");
    Ok(())
}

#[test]
fn check_names_every_difference() -> Result<()> {
    let node = Node::new()?;
    let pod = node.pod("p")?;
    let result = node.add("c1", &pod)?;
    let device = result["interfaces"][1]["name"].as_str().context("no name")?.to_owned();
    let check = || node.call("CHECK", "c1", Some(&pod), json!({"prevResult": result}));
    assert_eq!(check()?.ok()?, Value::Null);

    node.ports()?.remove(&link(&node.namespace, &device)?.index)?;
    node.endpoints()?.remove(&[10, 244, 1, 2])?;
    netpath_agent::datapath::attach::detach(&node.pins, Hook::FromPod, &device)?;
    fs::remove_file(node.state().join("netpath/10.244.1.2"))?;
    let ip = |arguments: &'static [&'static str]| {
        pod.run(|| {
            ensure!(Command::new("ip").args(arguments).status()?.success());
            Ok(())
        })
    };
    ip(&["address", "flush", "dev", "eth0"])?;
    ip(&["link", "set", "eth0", "down"])?;
    node.netlink(async |netlink| {
        let bridge = netlink.link("netpath0").await?.context("no bridge")?;
        Ok(netlink
            .forget_neighbour(&bridge, Ipv4Addr::new(10, 244, 1, 2).into())
            .await?)
    })?;
    let (code, text) = check()?.error()?;
    assert_eq!(code, 101);
    for difference in [
        "eth0 is down",
        "eth0 has no address 10.244.1.2/24",
        "route to 0.0.0.0/0 via 10.244.1.1 is missing",
        "np_endpoint4 has not the pod's entry for 10.244.1.2",
        "np_bridge has not the pod's entry",
        &format!("program from_pod is not attached to {device}"),
        "10.244.1.2 is not a permanent neighbour on netpath0",
        "address 10.244.1.2 is not reserved for it",
    ] {
        assert!(text.contains(difference), "{difference:?} is not in {text}");
    }

    let (code, _) = node.call("CHECK", "c1", Some(&pod), json!({}))?.error()?;
    assert_eq!(code, 7, "no prevResult");
    node.del("c1", Some(&pod))?;
    let (code, text) = check()?.error()?;
    assert_eq!(code, 101);
    assert!(text.contains("interface eth0 does not exist"), "{text}");
    assert_eq!(node.remains()?, Remains::default());
    Ok(())
}

#[test]
fn gc_keeps_what_is_listed_and_other_networks() -> Result<()> {
    let node = Node::new()?;
    let pods = (1..=4)
        .map(|n| node.pod(&format!("p{n}")))
        .collect::<Result<Vec<_>>>()?;
    for (number, pod) in pods.iter().take(3).enumerate() {
        node.add(&format!("c{number}"), pod)?;
    }
    let other = json!({"name": "other", "subnets": [{"subnet": "10.244.9.0/24"}]});
    node.call("ADD", "c9", Some(&pods[3]), other)?.ok()?;
    let before = node.remains()?;
    assert_eq!(before.devices.len(), 4);

    assert_eq!(node.call("GC", "", None, json!({}))?.ok()?, Value::Null);
    assert_eq!(node.remains()?, before, "a missing list is not an empty one");

    let valid = json!([{"containerID": "c1", "ifname": "eth0"}, {"containerID": "gone", "ifname": "eth0"}]);
    node.call("GC", "", None, json!({"cni.dev/valid-attachments": valid}))?
        .ok()?;
    let after = node.remains()?;
    let files: Vec<_> = after.files.iter().map(|path| path.as_path()).collect();
    assert_eq!(files, [Path::new("netpath/10.244.1.3"), Path::new("other/10.244.9.2")]);
    assert_eq!((after.devices.len(), after.links.len(), after.ports.len()), (2, 2, 2));
    assert_eq!(
        after.endpoints.into_keys().collect::<Vec<_>>(),
        [[10, 244, 1, 3], [10, 244, 9, 2]]
    );

    // Devices that no file tells of, because somebody emptied the folder.
    fs::remove_file(node.state().join("netpath/10.244.1.3"))?;
    node.call("GC", "", None, json!({"cni.dev/valid-attachments": []}))?
        .ok()?;
    let after = node.remains()?;
    assert_eq!(after.endpoints.into_keys().collect::<Vec<_>>(), [[10, 244, 9, 2]]);
    assert_eq!(after.devices.len(), 1);
    Ok(())
}

#[test]
fn status_tells_what_add_would_meet() -> Result<()> {
    let node = Node::new()?;
    let small = json!({"subnets": [{"subnet": "10.244.1.0/30"}]});
    let status = |changes: &Value| node.call("STATUS", "", None, changes.clone());
    assert_eq!(status(&small)?.ok()?, Value::Null);

    let pod = node.pod("p")?;
    node.call("ADD", "c1", Some(&pod), small.clone())?.ok()?;
    let (code, text) = status(&small)?.error()?;
    assert_eq!(code, 50);
    assert!(text.contains("all 1 of 10.244.1.0/30 are in use"), "{text}");
    let second = node.pod("q")?;
    let (code, text) = node.call("ADD", "c2", Some(&second), small.clone())?.error()?;
    assert_eq!(code, 11, "an address may be free again later: {text}");
    assert!(
        text.contains("all 1 of 10.244.1.0/30 are in use; delete pods on this node"),
        "{text}"
    );

    let bridge = link(&node.namespace, "netpath0")?;
    node.configure(&bridge, 0)?;
    let (code, text) = status(&json!({}))?.error()?;
    assert_eq!(code, 51, "pods are attached: {text}");
    node.configure(&bridge, 4_000_000)?;
    let (code, text) = node.call("ADD", "c2", Some(&second), json!({}))?.error()?;
    assert_eq!(code, 11, "agent and plugin differ until the upgrade is done: {text}");
    node.del("c1", None)?;
    fs::remove_file(node.pins.program(Hook::FromPod))?;
    let (code, text) = status(&json!({}))?.error()?;
    assert_eq!(code, 50);
    assert!(text.contains("program from_pod is not pinned"), "{text}");
    assert_eq!(node.remains()?, Remains::default());
    Ok(())
}
