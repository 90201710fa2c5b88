//! The agent as a process: it becomes ready, follows its node, heals, and leaves everything in force. It needs the eBPF
//! programs: `cargo xtask build-ebpf`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use netpath_agent::datapath::{pins::Pins, tables};
use netpath_common::{
    abi::{
        ABI_VERSION,
        config::Config,
        endpoint::{Endpoint, KIND_POD},
    },
    hook::Hook,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::space::{in_namespace, ip, ip_json};

/// No answer is longer in coming; programs take a while to be verified on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node with an agent that may come and go. The thread's namespace is the node's.
pub struct Node {
    folder: tempfile::TempDir,
    pub pins: Pins,
    agent: Option<Child>,
}

impl Node {
    /// A node of address 10.0.1.1 whose agent finds no objects yet.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        ip("link set lo up");
        ip("link add up0 type veth peer name far0");
        ip("address add 10.0.1.1/24 dev up0");
        ip("link set up0 up");
        ip("link set far0 up");
        ip("route add default via 10.0.1.254");
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("objects")).unwrap();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let pins = Pins::new(format!("/sys/fs/bpf/netpath-test-{}-{count}", std::process::id()));
        Self {
            folder,
            pins,
            agent: None,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a node's object, as an editor would.
    pub fn write_node(&self, name: &str, address: &str, subnet: &str) {
        self.write_node_of(name, &[address], &[subnet]);
    }

    /// The same with several addresses and subnets.
    pub fn write_node_of(&self, name: &str, addresses: &[&str], subnets: &[&str]) {
        let addresses = addresses.iter();
        let addresses: Vec<Value> = addresses
            .map(|address| json!({"type": "InternalIP", "address": address}))
            .collect();
        let object = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
            "spec": {"podCIDR": subnets[0], "podCIDRs": subnets},
            "status": {"addresses": addresses},
        });
        fs::write(self.path("new"), object.to_string()).unwrap();
        fs::rename(self.path("new"), self.path("objects").join(format!("{name}.yaml"))).unwrap();
    }

    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Starts an agent with further flags.
    pub fn start_with(&mut self, flags: &[&str]) {
        self.start_as("--folder", "objects", flags);
    }

    /// Starts an agent whose objects come from where a flag and one of the node's files say.
    pub fn start_from(&mut self, source: &str, file: &str) {
        self.start_as(source, file, &[]);
    }

    fn start_as(&mut self, source: &str, file: &str, flags: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_netpath-agent"));
        command.args([
            "--node-name",
            "n1",
            "--max-connections",
            "1024",
            "--max-services",
            "64",
            "--max-backends",
            "64",
        ]);
        command.args(["--startup-taint", "netpath.io/agent-not-ready"]);
        command.args(flags);
        command.arg("--bpf-root").arg(self.pins.root());
        for (flag, name) in [
            (source, file),
            ("--state-dir", "state"),
            ("--run-dir", "run"),
            ("--cni-conf-dir", "net.d"),
        ] {
            command.arg(flag).arg(self.path(name));
        }
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        self.agent = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }

    /// Ends the agent by a signal and returns its exit code, if it had one.
    pub fn end(&mut self, signal: Signal) -> Option<i32> {
        let mut agent = self.agent.take().unwrap();
        kill(Pid::from_raw(agent.id().try_into().unwrap()), signal).unwrap();
        agent.wait().unwrap().code()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// What the agent says of its readiness; `None` if it does not answer.
    pub fn readiness(&self) -> Option<String> {
        let mut stream = TcpStream::connect("127.0.0.1:9878").ok()?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: n1\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.split_once("\r\n\r\n")?.1.to_owned())
    }

    /// Waits for something to become true.
    pub fn until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !condition(self) {
            let readiness = self.readiness();
            assert!(
                Instant::now() < end,
                "{what} never came; readiness: {readiness:?}; the log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for readiness with nothing to remark.
    pub fn until_ready(&self) {
        self.until("readiness", |node| node.readiness().as_deref() == Some("ok\n"));
    }

    /// Waits for readiness, and returns what the agent remarks all the same.
    pub fn until_ready_with_remarks(&self) -> String {
        let remarks = |node: &Self| Some(node.readiness()?.strip_prefix("ok\n")?.to_owned());
        self.until("readiness", |node| {
            remarks(node).is_some_and(|remarks| !remarks.is_empty())
        });
        remarks(self).unwrap()
    }

    pub fn config(&self) -> Config {
        tables::config(&self.pins).unwrap().get().unwrap()
    }

    pub fn conflist(&self) -> Option<Value> {
        let text = fs::read_to_string(self.path("net.d").join("05-netpath.conflist")).ok()?;
        Some(serde_json::from_str(&text).unwrap())
    }

    /// The pinned links, each as `device-hook`.
    fn links(&self) -> Vec<String> {
        self.pins
            .links()
            .unwrap()
            .iter()
            .map(|(device, hook)| format!("{device}-{}", hook.name()))
            .collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        let _ = fs::remove_dir_all(self.pins.root());
    }
}

pub fn routes() -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    ip("-4 route show proto 78").lines().map(words).collect()
}

const LINKS: [&str; 12] = [
    "cgroup-connect4",
    "cgroup-sendmsg4",
    "cgroup-recvmsg4",
    "cgroup-getpeername4",
    "cgroup-connect6",
    "cgroup-sendmsg6",
    "cgroup-recvmsg6",
    "cgroup-getpeername6",
    "netpath-vx-from_overlay",
    "netpath0-from_host",
    "up0-from_wire",
    "up0-to_wire",
];

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
        assert_eq!(routes(), expected);

        // Neither an orderly end nor a kill takes anything away, and the next agent finds all as it is.
        assert_eq!(node.end(Signal::SIGTERM), Some(0));
        for signal in [Signal::SIGKILL, Signal::SIGTERM] {
            assert_eq!(
                (node.config(), node.links().as_slice()),
                (config, LINKS.map(String::from).as_slice())
            );
            assert_eq!(routes(), expected);
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
            node.config().overlay_ifindex != overlay && routes().contains(&tunnel.into())
        });
        node.until_ready();
        assert_eq!(node.links(), LINKS);

        // A node that moves to the segment, and another pod subnet for this one.
        node.write_node("n3", "10.0.1.3", "10.244.3.0/24");
        node.until("the direct route", |_| {
            routes().contains(&"10.244.3.0/24 via 10.0.1.3 dev up0 src 10.244.1.1 onlink".into())
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
            !routes().is_empty() && ip("link show").contains("netpath-vx")
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
        let mut node = Node::new();
        node.write_node("n1", "10.0.1.1", "10.244.1.0/24");
        node.start();
        node.until_ready();
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
fn a_second_agent_for_the_same_node_is_refused() {
    in_namespace(async |_| {
        let mut node = Node::new();
        node.write_node("n1", "10.0.1.1", "10.244.1.0/24");
        node.start();
        node.until_ready();
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
        node.until("the route to n3", |_| routes() == both);
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
            (routes().as_slice(), ways(&node)),
            (both.map(String::from).as_slice(), before)
        );

        node.write_node("n3", "10.0.1.3", "10.244.3.0/24");
        node.until("n2's end", |_| routes() == [both[0], both[2]]);
        node.until_ready();
    });
}
