//! A node in a namespace, with an agent as a process that comes and goes. It needs the eBPF programs: `cargo xtask build-ebpf`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use netpath_agent::datapath::{pins::Pins, tables};
use netpath_common::abi::config::Config;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::space::{ip, make_uplink};

/// No answer is longer in coming; programs take a while to be verified on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The pinned links of an agent that is ready.
pub const LINKS: [&str; 12] = [
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

/// A node with an agent that may come and go. The thread's namespace is the node's.
pub struct Node {
    folder: tempfile::TempDir,
    pub pins: Pins,
    pub agent: Option<Child>,
}

impl Node {
    /// A node of address 10.0.1.1 whose agent finds no objects yet.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        ip("link set lo up");
        make_uplink();
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

    /// The same node with its object, and an agent that is ready.
    pub fn ready() -> Self {
        let mut node = Self::new();
        node.write_node("n1", "10.0.1.1", "10.244.1.0/24");
        node.start();
        node.until_ready();
        node
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
    pub fn links(&self) -> Vec<String> {
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
