//! A node that netpath has left is as it was before: sysctls, devices, addresses, neighbours and routes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::node::Node;
use crate::space::{in_namespace, ip, set_sysctl};

/// All that an agent could change of a network namespace.
#[derive(Debug, PartialEq, Eq)]
struct State {
    sysctls: BTreeMap<String, String>,
    told: Vec<(&'static str, String)>,
}

fn state() -> State {
    let mut sysctls = BTreeMap::new();
    collect(Path::new("/proc/sys/net"), &mut sysctls);
    let told = [
        "-d link show",
        "address show",
        "neighbour show nud permanent",
        "rule show",
        "-4 route show table all",
        "-6 route show table all",
    ];
    let told = told.map(|what| (what, ip(what))).into();
    State { sysctls, told }
}

/// The state of a new node. IPv6 addresses of devices are tentative at first, and their routes come late.
fn settled(node: &Node) -> State {
    node.until("settled addresses", |_| {
        let addresses = ip("-6 address show");
        addresses.matches("scope link").count() == 2 && !addresses.contains("tentative")
    });
    state()
}

fn is_as_before(before: &State) {
    let after = state();
    assert_eq!((differing(before, &after), differing(&after, before)), (vec![], vec![]));
    assert_eq!(after.told, before.told);
}

fn has_line(text: &str, line: &str) {
    assert!(
        text.lines().any(|found| found == line),
        "{line:?} is missing in\n{text}"
    );
}

/// Every sysctl below a folder that can be read.
fn collect(folder: &Path, into: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, into);
        } else if let Ok(value) = fs::read_to_string(&path) {
            into.insert(path.display().to_string(), value);
        }
    }
}

/// The sysctls that differ between two states.
fn differing(one: &State, other: &State) -> Vec<String> {
    let differs = |(name, value): (&String, &String)| (other.sysctls.get(name) != Some(value)).then(|| name.clone());
    one.sysctls.iter().filter_map(differs).collect()
}

fn uninstall(node: &Node, options: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netpath"));
    command
        .arg("uninstall")
        .args(options)
        .arg("--bpf-root")
        .arg(node.pins.root());
    for (flag, name) in [
        ("--state-dir", "state"),
        ("--run-dir", "run"),
        ("--cni-conf-dir", "net.d"),
        ("--cni-bin-dir", "bin"),
    ] {
        command.arg(flag).arg(node.path(name));
    }
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn a_node_is_left_as_it_was_found() {
    in_namespace(async |_| {
        let mut node = Node::new();
        set_sysctl("ipv4/ip_forward", "0");
        set_sysctl("ipv4/conf/all/rp_filter", "1");
        set_sysctl("ipv4/conf/up0/rp_filter", "1");
        set_sysctl("ipv4/conf/all/accept_redirects", "1");
        set_sysctl("ipv4/conf/far0/forwarding", "1");
        set_sysctl("ipv4/ip_local_reserved_ports", "8080,50000");
        let before = settled(&node);

        node.write_node("n1", "10.0.1.1", "10.244.1.0/24");
        node.write_node("n2", "10.0.1.2", "10.244.2.0/24");
        node.write_node("n3", "10.0.2.1", "10.244.3.0/24");
        node.start();
        node.until_ready();
        node.end(Signal::SIGKILL);
        let during = state();
        let changed = [
            "conf/all/accept_redirects",
            "conf/all/forwarding",
            "conf/default/forwarding",
            "conf/lo/forwarding",
            "conf/up0/accept_local",
            "conf/up0/forwarding",
            "conf/up0/rp_filter",
            "ip_forward",
            "ip_local_reserved_ports",
        ];
        assert_eq!(
            differing(&before, &during),
            changed.map(|name| format!("/proc/sys/net/ipv4/{name}"))
        );
        // The next agent finds what the first one made, and must not take that for the node's own.
        node.start();
        node.until_ready();
        node.end(Signal::SIGTERM);

        let listed = uninstall(&node, &["--dry-run"]);
        let now = state();
        assert_eq!((differing(&during, &now), differing(&now, &during)), (vec![], vec![]));
        for line in [
            "would remove program from_wire from up0",
            "would remove route 10.96.0.0/12 on the bridge",
            "would remove route 10.244.2.0/24 via 10.0.1.2",
            "would remove route 10.244.3.0/24 through the tunnel to 10.0.2.1",
            "would remove device netpath0",
            "would remove device netpath-vx",
            "would remove map np_service4",
            "would remove program from_pod",
            "would restore net.ipv4.ip_local_reserved_ports, without 49152-49999,50001-65535",
            "would restore net.ipv4.ip_forward = 0",
            "would restore net.ipv4.conf.up0.accept_local = 0",
            "would restore net.ipv4.conf.up0.forwarding = 0",
            "would restore net.ipv4.conf.up0.rp_filter = 1",
        ] {
            has_line(&listed, line);
        }
        let done = uninstall(&node, &[]);
        assert_eq!(
            done,
            listed
                .replace("would remove", "removed")
                .replace("would restore", "restored")
        );
        is_as_before(&before);
        assert_eq!(uninstall(&node, &[]), "nothing of netpath's is on this node\n");
    });
}

#[test]
fn a_node_of_both_families_is_left_as_it_was_found() {
    in_namespace(async |_| {
        let mut node = Node::new();
        ip("address add 2001:db8:1::1/64 dev up0 nodad");
        set_sysctl("ipv4/ip_forward", "0");
        let before = settled(&node);

        node.write_node_of(
            "n1",
            &["10.0.1.1", "2001:db8:1::1"],
            &["10.244.1.0/24", "fd00:244:1::/64"],
        );
        node.write_node_of(
            "n2",
            &["10.0.1.2", "2001:db8:1::2"],
            &["10.244.2.0/24", "fd00:244:2::/64"],
        );
        node.write_node_of("n3", &["10.0.2.1"], &["10.244.3.0/24", "fd00:244:3::/64"]);
        node.start_with(&["--service-cidr", "10.96.0.0/12,fd00:96::/108"]);
        node.until_ready();
        node.end(Signal::SIGTERM);
        let during = state();
        let changed = [
            "ipv6/conf/all/forwarding",
            "ipv6/conf/default/forwarding",
            "ipv6/conf/far0/accept_ra",
            "ipv6/conf/far0/forwarding",
            "ipv6/conf/lo/accept_ra",
            "ipv6/conf/lo/forwarding",
            "ipv6/conf/up0/accept_ra",
            "ipv6/conf/up0/forwarding",
        ];
        let differing6: Vec<String> = differing(&before, &during)
            .into_iter()
            .filter(|name| name.starts_with("/proc/sys/net/ipv6"))
            .collect();
        assert_eq!(differing6, changed.map(|name| format!("/proc/sys/net/{name}")));
        let conflist = fs::read_to_string(node.path("net.d").join("05-netpath.conflist")).unwrap();
        let conflist: serde_json::Value = serde_json::from_str(&conflist).unwrap();
        assert_eq!(
            conflist["plugins"][0]["subnets"],
            serde_json::json!([
                {"subnet": "10.244.1.0/24", "gateway": "10.244.1.1"},
                {"subnet": "fd00:244:1::/64", "gateway": "fd00:244:1::1"},
            ])
        );

        let done = uninstall(&node, &[]);
        for line in [
            "removed route fd00:96::/108 on the bridge",
            "removed route fd00:244:2::/64 via 2001:db8:1::2",
            "removed route fd00:244:3::/64 through the tunnel to 10.0.2.1",
            "removed map np_service6",
            "restored net.ipv6.conf.all.forwarding = 0",
            "restored net.ipv6.conf.up0.accept_ra = 1",
        ] {
            has_line(&done, line);
        }
        is_as_before(&before);
    });
}

#[test]
fn what_others_changed_since_is_left_to_them() {
    in_namespace(async |_| {
        let mut node = Node::new();
        set_sysctl("ipv4/ip_forward", "1");
        set_sysctl("ipv4/conf/up0/rp_filter", "1");
        set_sysctl("ipv4/conf/all/rp_filter", "0");
        node.write_node("n1", "10.0.1.1", "10.244.1.0/24");
        node.start();
        node.until_ready();
        node.end(Signal::SIGTERM);
        set_sysctl("ipv4/conf/up0/rp_filter", "0");
        let done = uninstall(&node, &[]);
        assert!(!done.contains("rp_filter"), "{done}");
        let left = fs::read_to_string("/proc/sys/net/ipv4/conf/up0/rp_filter").unwrap();
        assert_eq!(left, "0\n");
    });
}
