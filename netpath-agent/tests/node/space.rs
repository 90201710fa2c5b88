//! A network namespace a test, a node's wire in it, and `ip` and `/proc` as its independent witnesses.

use std::fs;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Command;

use ipnet::IpNet;
use netpath_agent::net::Netlink;
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

/// The address of [`make_uplink`].
pub const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1));

/// Runs a test on a thread, a runtime and a network namespace of its own. The namespace goes with the thread.
pub fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce(Netlink) -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: this test needs root");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { test(Netlink::connect().unwrap()).await });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `ip` in the calling thread's namespace.
pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `ip` in the calling thread's namespace, and reads its JSON.
pub fn ip_json(arguments: &str) -> Value {
    serde_json::from_str(&ip(&format!("-j -d {arguments}"))).unwrap()
}

/// Of each object that `ip` shows, these members alone.
pub fn members(objects: &Value, names: &[&str]) -> Value {
    let pick = |object: &Value| -> Value {
        let present = names
            .iter()
            .filter_map(|name| Some((name.to_string(), object.get(name)?.clone())));
        Value::Object(present.collect())
    };
    objects.as_array().unwrap().iter().map(pick).collect()
}

/// netpath's own routes of a family, which is `-4` or `-6`, in the words of `ip`.
pub fn own_routes(family: &str) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown = ip(&format!("{family} route show proto 78"));
    shown.lines().map(words).collect()
}

/// A pair of devices with the node's address on the first, both up.
pub fn make_uplink() {
    ip("link add up0 type veth peer name far0");
    ip("address add 10.0.1.1/24 dev up0");
    ip("link set up0 up");
    ip("link set far0 up");
}

pub fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The value of a sysctl below `net`, such as `ipv4/ip_forward`.
pub fn sysctl(name: &str) -> String {
    fs::read_to_string(sysctl_file(name)).unwrap().trim().to_owned()
}

pub fn set_sysctl(name: &str, value: &str) {
    fs::write(sysctl_file(name), value).unwrap();
}

fn sysctl_file(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net").join(name)
}
