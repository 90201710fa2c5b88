//! What goes wrong around the plugin: the machine restarts, tables and disks are full, namespaces go, requests are hostile.
//! Nothing may leak, and nothing may be given twice.

use std::{collections::BTreeSet, fs, path::PathBuf, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use netpath_agent::cni::{
    allocate::{Addresses, boot_id},
    collect,
    config::Network,
    record::Record,
};
use netpath_tests::lab::namespace::Namespace;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use super::node::{Node, Remains};

#[test]
fn del_cleans_whatever_is_left_however_often() -> Result<()> {
    let node = Node::new()?;
    node.del("never", None)?;

    // The namespace is gone, and the pair with it.
    let pod = node.pod("p")?;
    node.add("c1", &pod)?;
    let path = pod.path();
    drop(pod);
    ensure!(!path.exists());
    wait_until(|| Ok(node.remains()?.devices.is_empty())).context("the pair goes with its namespace")?;
    ensure!(
        node.remains()? != Remains::default(),
        "there is something left to clean"
    );
    node.del("c1", None)?;
    assert_eq!(node.remains()?, Remains::default());

    // CNI_NETNS names what is not there, or is no namespace.
    for netns in ["/nonexistent", "/etc/passwd"] {
        let pod = node.pod("p")?;
        node.add("c1", &pod)?;
        for _ in 0..2 {
            let mut plugin = node.plugin("DEL", "c1", None)?;
            plugin.env("CNI_NETNS", netns);
            node.run(plugin, node.config(json!({})).to_string().as_bytes())?.ok()?;
            assert_eq!(node.remains()?, Remains::default());
        }
    }

    // Wrong subnets stop ADD, and must not stop DEL.
    let pod = node.pod("p")?;
    node.add("c1", &pod)?;
    node.call("DEL", "c1", None, json!({"subnets": []}))?.ok()?;
    assert_eq!(node.remains()?, Remains::default());

    // No maps, no bridge.
    node.add("c1", &pod)?;
    fs::remove_dir_all(node.pins.root())?;
    node.netlink(async |netlink| Ok(netlink.delete_link("netpath0").await?))?;
    node.del("c1", Some(&pod))?;
    assert_eq!(node.remains()?, Remains::default());
    Ok(())
}

fn wait_until(mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    for _ in 0..500 {
        if done()? {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(10));
    }
    anyhow::bail!("not within 5 s")
}

#[test]
fn a_full_table_fails_add_by_name_and_everything_is_undone() -> Result<()> {
    let node = Node::with_room(2)?;
    let pods = (0..3).map(|n| node.pod(&format!("p{n}"))).collect::<Result<Vec<_>>>()?;
    node.add("c0", &pods[0])?;
    node.add("c1", &pods[1])?;
    let before = node.remains()?;
    let (code, text) = node.call("ADD", "c2", Some(&pods[2]), json!({}))?.error()?;
    assert_eq!(code, 50);
    assert!(
        text.contains("np_endpoint4 is full with 2 entries: raise --max-endpoints"),
        "{text}"
    );
    assert_eq!(node.remains()?, before);
    node.del("c0", Some(&pods[0]))?;
    node.add("c2", &pods[2])?;
    Ok(())
}

#[test]
fn the_node_s_own_address_is_never_a_pod_s() -> Result<()> {
    let node = Node::new()?;
    let own = netpath_common::abi::endpoint::Endpoint {
        kind: netpath_common::abi::endpoint::KIND_HOST,
        ..Default::default()
    };
    node.endpoints()?.insert(&[10, 244, 1, 2], &own)?;
    let pod = node.pod("p")?;
    let before = node.remains()?;
    let (code, text) = node.call("ADD", "c1", Some(&pod), json!({}))?.error()?;
    assert_eq!(code, 7);
    assert!(text.contains("address 10.244.1.2 is the node's own"), "{text}");
    assert_eq!(node.remains()?, before);
    assert_eq!(node.endpoints()?.get(&[10, 244, 1, 2])?, Some(own));
    Ok(())
}

#[test]
fn a_namespace_that_is_none_or_the_node_s_own_is_code_8() -> Result<()> {
    let node = Node::new()?;
    let own = node.namespace.path();
    for (netns, reason) in [
        ("/nonexistent", "No such file"),
        ("/etc/passwd", "not a namespace"),
        ("/proc/self/ns/mnt", "Invalid argument"),
        (own.to_str().context("a path")?, "the node's own namespace"),
    ] {
        let mut plugin = node.plugin("ADD", "c1", None)?;
        plugin.env("CNI_NETNS", netns);
        let reply = node.run(plugin, node.config(json!({})).to_string().as_bytes())?;
        let (code, text) = reply.error()?;
        assert!(text.contains(reason), "{netns}: {text}");
        assert_eq!(code, if netns.ends_with("mnt") { 100 } else { 8 }, "{netns}: {text}");
        assert_eq!(node.remains()?, Remains::default());
    }
    Ok(())
}

#[test]
fn after_a_reboot_all_addresses_are_free() -> Result<()> {
    let node = Node::new()?;
    let small = json!({"subnets": [{"subnet": "10.244.1.0/29"}]});
    let pods = (0..5)
        .map(|n| node.pod(&format!("p{n}")))
        .collect::<Result<Vec<Namespace>>>()?;
    for (number, pod) in pods.iter().enumerate() {
        node.call("ADD", &format!("c{number}"), Some(pod), small.clone())?
            .ok()?;
    }
    // A reboot takes devices, tables and pins, and leaves the files: here they get another boot's name.
    for number in 0..5 {
        node.del(&format!("c{number}"), None)?;
    }
    for host in 2..7 {
        let record = json!({"containerID": format!("c{host}"), "ifname": "eth0", "bootID": "another boot"});
        fs::write(
            node.state().join(format!("netpath/10.244.1.{host}")),
            record.to_string(),
        )?;
    }
    assert_eq!(node.call("STATUS", "", None, small.clone())?.ok()?, Value::Null);
    for (number, pod) in pods.iter().enumerate() {
        node.call("ADD", &format!("d{number}"), Some(pod), small.clone())?
            .ok()?;
    }
    let (code, _) = node.call("ADD", "d9", Some(&node.pod("q")?), small)?.error()?;
    assert_eq!(code, 11);
    Ok(())
}

/// A file system of a few inodes and pages, gone with the test.
struct Tiny(PathBuf);

impl Tiny {
    fn mount(path: PathBuf, inodes: u32) -> Result<Self> {
        fs::create_dir_all(&path)?;
        let options = format!("size=64k,nr_inodes={inodes}");
        mount(
            Some("tmpfs"),
            &path,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        )?;
        Ok(Self(path))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.0, MntFlags::MNT_DETACH) {
            eprintln!("cannot unmount {}: {error}", self.0.display());
        }
    }
}

#[test]
fn a_full_disk_fails_add_by_name_and_does_not_stop_del() -> Result<()> {
    let node = Node::new()?;
    let pod = node.pod("p")?;
    // Room for the folder, its lock, one address and what is under way.
    let _state = Tiny::mount(node.state(), 5)?;
    node.add("c1", &pod)?;
    fs::write(node.state().join("other"), "")?;
    let before = node.remains_of(&["netpath"])?;
    let (code, text) = node.call("ADD", "c2", Some(&node.pod("q")?), json!({}))?.error()?;
    assert_eq!(code, 5);
    assert!(text.contains("No space left on device"), "{text}");
    assert!(text.contains("make room on that file system"), "{text}");
    assert_eq!(node.remains_of(&["netpath"])?, before);
    node.del("c1", None)?;
    assert_eq!(node.remains_of(&["netpath"])?, Remains::default());
    Ok(())
}

#[test]
fn reconciling_takes_what_is_gone_and_leaves_what_lives_or_is_under_way() -> Result<()> {
    let node = Node::new()?;
    let (alive, dies) = (node.pod("p")?, node.pod("q")?);
    node.add("c1", &alive)?;
    let kept = node.remains()?;
    node.add("c2", &dies)?;
    let two = node.remains()?;
    drop(dies);
    wait_until(|| Ok(node.remains()?.devices == kept.devices))?;

    let network = Network::parse(node.config(json!({})).to_string().as_bytes())?;
    // An ADD that has its address, and nothing else yet.
    let addresses = Addresses::new(&node.state(), "netpath", boot_id()?);
    let record = Record {
        container_id: "c3".into(),
        ifname: "eth0".into(),
        boot_id: String::new(),
        netns: None,
        pod: None,
        port_mappings: Vec::new(),
    };
    let under_way = addresses.reserve(&network.pools()?, record)?;
    let reconcile = || node.netlink(async |_| Ok(collect::reconcile(&network).await?));
    reconcile()?;
    let mut expected = kept;
    expected
        .files
        .insert(format!("netpath/{}", under_way.addresses()[0]).into());
    assert_eq!(node.remains()?, expected);
    assert_eq!((two.files.len(), two.links.len()), (2, 2));

    // The ADD was killed there.
    drop(under_way);
    expected.files.retain(|file| file.ends_with("10.244.1.2"));
    // A process that another test is about to start has a copy of the lock until it runs its own program.
    wait_until(|| {
        reconcile()?;
        Ok(node.remains()? == expected)
    })
}

#[test]
fn hostile_requests_get_an_error_object_and_write_nothing() -> Result<()> {
    let node = Node::new()?;
    let pod = node.pod("p")?;
    let outside = node.home.folder();
    let listing = || -> Result<BTreeSet<_>> { fs::read_dir(&outside)?.map(|entry| Ok(entry?.file_name())).collect() };
    let before = listing()?;
    let mut cases: Vec<(&str, String, Vec<u8>, &[u64])> = Vec::new();
    for name in ["../x", "..", "/etc", "a/b", "", "a\u{0}b", "-x", &"x".repeat(4000)] {
        let config = node.config(json!({"name": name})).to_string().into_bytes();
        cases.push(("CNI_IFNAME", "eth0".into(), config, &[7]));
    }
    for path in ["../state", "/", "", "/var/../etc"] {
        let config = node.config(json!({"stateDir": path})).to_string().into_bytes();
        cases.push(("CNI_IFNAME", "eth0".into(), config, &[7]));
    }
    let good = node.config(json!({})).to_string().into_bytes();
    for container in ["../x", "a/../../b", "-rf", "$(id)", "a b", &"x".repeat(300)] {
        cases.push(("CNI_CONTAINERID", container.into(), good.clone(), &[4]));
    }
    for ifname in ["../x", "eth0/..", "a:b", "eth%d", "0123456789abcdef", "."] {
        cases.push(("CNI_IFNAME", ifname.into(), good.clone(), &[4]));
    }
    for stdin in [
        &b""[..],
        b"{",
        b"[]",
        b"\xff\xfe\x00",
        &b"[".repeat(200_000),
        &b"{\"a\":".repeat(100_000),
    ] {
        cases.push(("CNI_IFNAME", "eth0".into(), stdin.to_vec(), &[6]));
    }
    for (variable, value, stdin, codes) in cases {
        for command in ["ADD", "DEL", "CHECK"] {
            let mut plugin = node.plugin(command, "c1", Some(&pod))?;
            plugin.env(variable, &value);
            let reply = node.run(plugin, &stdin)?;
            assert!(!reply.stderr.contains("panicked"), "{}", reply.stderr);
            let (code, text) = reply.error()?;
            assert!(codes.contains(&code), "{command} {variable}={value:?}: {code} {text}");
        }
    }
    assert_eq!(listing()?, before);
    assert_eq!(node.remains()?, Remains::default());
    Ok(())
}
