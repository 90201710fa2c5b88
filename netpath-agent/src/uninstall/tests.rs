//! A node equipped and cleared, in a network namespace of the test's own. The programs must be built: `cargo xtask
//! build-ebpf`.

use std::net::{IpAddr, Ipv4Addr};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rtnetlink::{LinkMessageBuilder, LinkVeth};

use super::*;
use crate::{
    datapath::{attach::attach, cgroup, load::load, scratch::Scratch, sizes::Sizes},
    net::{bridge::Bridge, overlay::Overlay},
    plan::{KernelRoute, Way},
};

const POD: &str = "np0123456789a";
const STRANGERS: [&str; 2] = ["np0123456789b", "npkeep"];

/// Devices, a route and a port of the bridge, as an agent and its plugin make them, and two of a stranger's.
async fn equip() {
    let netlink = Netlink::connect().expect("a netlink socket");
    let node = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let gateway = "10.244.1.1/24".parse().expect("a network");
    let bridge = Bridge {
        gateways: vec![gateway],
        mtu: 1450,
        node,
    };
    let bridge = netlink.ensure_bridge(&bridge).await.expect("a bridge");
    let overlay = Overlay {
        port: 4789,
        mtu: 1450,
        node,
    };
    netlink.ensure_overlay(&overlay).await.expect("a vxlan device");
    for (name, peer, port) in [(POD, "eth0", true), (STRANGERS[0], STRANGERS[1], false)] {
        let pair = LinkMessageBuilder::<LinkVeth>::new(name, peer);
        let pair = if port { pair.controller(bridge.index) } else { pair };
        let added = netlink.handle().link().add(pair.build()).execute().await;
        added.expect("a veth pair");
    }
    let route = KernelRoute {
        destination: "10.96.0.0/12".parse().expect("a network"),
        way: Way::Link { device: bridge.index },
        source: IpAddr::V4(Ipv4Addr::new(10, 244, 1, 1)),
    };
    let report = netlink.apply_routes([&route]).await.expect("routes");
    assert!(report.errors.is_empty(), "{:?}", report.errors);
}

async fn devices() -> Vec<String> {
    let netlink = Netlink::connect().expect("a netlink socket");
    let links = netlink.links().await.expect("devices");
    let mut names: Vec<String> = links.into_iter().map(|link| link.name).collect();
    names.sort();
    names
}

/// A node in this thread's own network namespace, with an agent's files below `folder`.
fn node(pins: &Pins, folder: &Path) -> Places {
    unshare(CloneFlags::CLONE_NEWNET).expect("root");
    let sizes = Sizes {
        max_services: 16,
        max_backends: 16,
        max_sources: 64,
        max_connections: 256,
        max_affinities: 64,
        ..Sizes::default()
    };
    load(pins, &sizes).expect("programs that load");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(equip());
    for (hook, device) in [(Hook::FromPod, POD), (Hook::FromOverlay, names::OVERLAY_DEVICE)] {
        attach(pins, hook, device).expect("attached");
    }
    let root = cgroup::root(None).expect("a cgroup2");
    for hook in cgroup::hooks() {
        cgroup::attach(pins, hook, &root).expect("attached");
    }
    let places = Places {
        pins: pins.clone(),
        // Port 1 of a namespace whose loopback device is down.
        agent: SocketAddr::from(([127, 0, 0, 1], 1)),
        state_dir: folder.join("state"),
        run_dir: folder.join("run"),
        conflist: folder.join("05-netpath.conflist"),
        cni_bin_dir: folder.join("bin"),
    };
    for file in [
        places.cni_bin_dir.join("netpath-cni"),
        places.cni_bin_dir.join("netpath"),
        places.cni_bin_dir.join("bridge"),
        places.state_dir.join("netpath/10.244.1.2"),
        places.state_dir.join(".agent/hash-seed"),
        places.run_dir.join(LOCK),
        places.run_dir.join(NOTED),
        places.conflist.clone(),
    ] {
        fs::create_dir_all(file.parent().expect("a folder")).expect("created");
        fs::write(file, "x").expect("written");
    }
    sysctl::reserve_ports(&(50_000..=50_999), &places.state_dir.join(".agent")).expect("reserved");
    places
}

fn block_on_devices() -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(devices())
}

fn reserved() -> String {
    let path = "/proc/sys/net/ipv4/ip_local_reserved_ports";
    fs::read_to_string(path).expect("a sysctl").trim().to_owned()
}

#[test]
fn every_trace_goes_and_strangers_stay() {
    let scratch = Scratch::fresh();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let places = node(&scratch.0, folder.path());
    let before = block_on_devices();
    assert_eq!(reserved(), "50000-50999");

    let listed = uninstall(&places, true);
    assert_eq!(listed.problems, [""; 0]);
    assert_eq!(block_on_devices(), before);
    assert_eq!(reserved(), "50000-50999");
    assert!(places.conflist.exists() && places.pins.map(names::CONFIG).exists());

    let done = uninstall(&places, false);
    assert_eq!(done.problems, [""; 0]);
    assert_eq!((&done.removed, &done.restored), (&listed.removed, &listed.restored));
    let route = "route 10.96.0.0/12 on the bridge".to_owned();
    assert!(done.removed.contains(&route), "{done}");
    for hook in cgroup::hooks() {
        let program = format!("program {} from cgroup", hook.name());
        assert!(done.removed.contains(&program), "{done}");
    }
    let ports = "net.ipv4.ip_local_reserved_ports, without 50000-50999";
    assert_eq!(done.restored, [ports]);
    assert_eq!(block_on_devices(), ["lo", STRANGERS[0], STRANGERS[1]]);
    assert_eq!(reserved(), "");
    assert!(!places.pins.root().exists());
    let names = |folder: &Path| -> Vec<_> {
        let entries = fs::read_dir(folder).expect("a folder");
        entries.map(|entry| entry.expect("an entry").file_name()).collect()
    };
    assert_eq!(names(folder.path()), ["bin"]);
    assert_eq!(names(&places.cni_bin_dir), ["bridge"]);

    let again = uninstall(&places, false);
    assert_eq!(again.to_string(), "nothing of netpath's is on this node\n");
}

#[test]
fn a_running_agent_is_not_undone() {
    let scratch = Scratch::fresh();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let places = node(&scratch.0, folder.path());
    let lock = Lock::take(&places.run_dir).expect("free");
    let done = uninstall(&places, false);
    assert_eq!(done.removed, [""; 0]);
    assert_eq!(done.problems.len(), 1, "{done}");
    assert!(
        done.problems[0].contains("another netpath-agent runs on this node"),
        "{done}"
    );
    assert!(places.conflist.exists() && places.pins.map(names::CONFIG).exists());
    drop(lock);
    assert_eq!(uninstall(&places, false).problems, [""; 0]);
}

#[test]
fn files_of_others_stay_and_are_named() {
    let scratch = Scratch::fresh();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let places = node(&scratch.0, folder.path());
    fs::write(places.state_dir.join("precious"), "x").expect("written");
    let stays = format!(
        "{} stays: it holds files that are not netpath's",
        places.state_dir.display()
    );
    let listed = uninstall(&places, true);
    let done = uninstall(&places, false);
    assert_eq!((&done.stays, &done.problems), (&vec![stays], &vec![]));
    assert_eq!((&listed.stays, &listed.removed), (&done.stays, &done.removed));
    assert!(places.state_dir.join("precious").exists());
}

#[test]
fn a_folder_that_is_a_mount_stays_empty() {
    let scratch = Scratch::fresh();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let places = node(&scratch.0, folder.path());
    // Seen by this thread alone, and gone with it.
    unshare(CloneFlags::CLONE_NEWNS).expect("root");
    let (none, state) = (None::<&str>, places.state_dir.as_path());
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("mounts of its own");
    mount(Some(state), state, none, MsFlags::MS_BIND, none).expect("a mount");
    let listed = uninstall(&places, true);
    let done = uninstall(&places, false);
    assert_eq!(done.problems, [""; 0]);
    assert_eq!(listed.removed, done.removed);
    let left = fs::read_dir(state).expect("the folder").count();
    assert_eq!(left, 0);
    assert_eq!(
        uninstall(&places, false).to_string(),
        "nothing of netpath's is on this node\n"
    );
}
