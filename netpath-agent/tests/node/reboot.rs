//! A node whose API server comes and goes, also while the node starts again.

use std::collections::BTreeSet;
use std::fs;
use std::sync::mpsc;
use std::thread;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::sync::mpsc as commands;

use self::server::{ApiServer, Asked};
use crate::node::Node;
use crate::space::{in_namespace, ip, own_routes};

#[expect(dead_code, reason = "the library's own tests use all of it")]
#[path = "../../src/source/api/tests/server/mod.rs"]
mod server;

/// Where the server has each kind.
const NODES: &str = "/api/v1/nodes";
const SERVICES: &str = "/api/v1/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
const SERVICE_CIDRS: &str = "/apis/networking.k8s.io/v1/servicecidrs";

/// A server on a thread of its own, since the test's own waits for processes.
struct Server {
    commands: commands::UnboundedSender<Command>,
    url: String,
    thread: Option<thread::JoinHandle<()>>,
}

/// Verbs and resources.
type Rights = BTreeSet<(String, String)>;

enum Command {
    Away,
    Back,
    Set(Value),
    Changes(mpsc::Sender<Vec<Asked>>),
    Rights(mpsc::Sender<Rights>),
}

impl Server {
    fn start() -> Self {
        let (sender, mut receiver) = commands::unbounded_channel();
        let (told, url) = mpsc::channel();
        // The thread begins in the network namespace of the one that starts it.
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut server = ApiServer::start().await;
                told.send(server.url()).unwrap();
                while let Some(command) = receiver.recv().await {
                    match command {
                        Command::Away => server.go_away().await,
                        Command::Back => server.come_back().await,
                        Command::Set(object) => server.set(object),
                        Command::Rights(answer) => answer.send(server.rights()).unwrap(),
                        Command::Changes(answer) => answer.send(server.changes()).unwrap(),
                    }
                }
            });
        });
        Self {
            commands: sender,
            url: url.recv().unwrap(),
            thread: Some(thread),
        }
    }

    fn tell(&self, command: Command) {
        assert!(self.commands.send(command).is_ok(), "the server's thread has ended");
    }

    /// Everything that was asked to be changed, once all earlier commands are done.
    fn changes(&self) -> Vec<Asked> {
        let (answer, changes) = mpsc::channel();
        self.tell(Command::Changes(answer));
        changes.recv().unwrap()
    }

    /// The rights that requests took so far.
    fn rights(&self) -> Rights {
        let (answer, rights) = mpsc::channel();
        self.tell(Command::Rights(answer));
        rights.recv().unwrap()
    }

    fn set_node(&self, name: &str, address: &str, subnet: &str) {
        self.tell(Command::Set(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"podCIDRs": [subnet]},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]},
        })));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let (closed, _) = commands::unbounded_channel();
        self.commands = closed;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A node that has seen its cluster of two nodes once.
fn known() -> (Node, Server) {
    let (mut node, server) = (Node::new(), Server::start());
    server.set_node("n1", "10.0.1.1", "10.244.1.0/24");
    server.set_node("n2", "10.0.1.2", "10.244.2.0/24");
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server.url}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
    });
    fs::write(node.path("kubeconfig"), kubeconfig.to_string()).unwrap();
    start(&mut node);
    node.until_ready();
    let objects = node.path("state").join(".agent/objects.json");
    node.until("the record", |_| {
        fs::read_to_string(&objects).is_ok_and(|text| text.contains("10.244.2.0/24"))
    });
    (node, server)
}

fn start(node: &mut Node) {
    node.start_from("--kubeconfig", "kubeconfig");
}

/// What a reboot takes: everything of the kernel's, and the run folder.
fn reboot(node: &Node) {
    fs::remove_dir_all(node.pins.root()).unwrap();
    ip("link delete netpath0");
    ip("link delete netpath-vx");
    ip("route flush proto 78");
    fs::remove_dir_all(node.path("run")).unwrap();
    assert_eq!(own_routes("-4"), [""; 0]);
}

const ROUTES: [&str; 2] = [
    "10.96.0.0/12 via 169.254.78.1 dev netpath0 src 10.244.1.1 onlink linkdown",
    "10.244.2.0/24 via 10.0.1.2 dev up0 src 10.244.1.1 onlink",
];

#[test]
fn a_node_that_starts_without_its_api_server_serves_what_it_knew() {
    in_namespace(async |_| {
        let (mut node, server) = known();
        assert_eq!(node.end(Signal::SIGTERM), Some(0));
        server.tell(Command::Away);
        reboot(&node);
        start(&mut node);
        let remarks = node.until_ready_with_remarks();
        assert!(remarks.starts_with("the node serves what was known at 2"), "{remarks}");
        assert!(remarks.contains(&server.url), "{remarks}");
        assert_eq!(own_routes("-4"), ROUTES);
        assert_eq!(node.config().gateway4, [10, 244, 1, 1]);
        assert!(node.conflist().is_some());

        // Also the next agent knows that what the kernel holds is from that record alone.
        node.end(Signal::SIGKILL);
        ip("route flush proto 78");
        start(&mut node);
        node.until_ready_with_remarks();
        assert_eq!(own_routes("-4"), ROUTES);

        // And gives way to the server, once that is there.
        server.set_node("n2", "10.0.1.2", "10.244.7.0/24");
        server.tell(Command::Back);
        let news = "10.244.7.0/24 via 10.0.1.2 dev up0 src 10.244.1.1 onlink";
        node.until("the news", |_| own_routes("-4") == [ROUTES[0], news]);
        node.until_ready();
        let served = |asked: &Asked| asked.body["reason"] == "ServedRemembered";
        node.until("the Event", |_| server.changes().iter().any(served));
    });
}

#[test]
fn a_node_that_serves_stays_as_it_is_while_its_api_server_is_away() {
    in_namespace(async |_| {
        let (mut node, server) = known();
        node.end(Signal::SIGTERM);
        server.tell(Command::Away);
        server.set_node("n2", "10.0.1.2", "10.244.7.0/24");
        // Older than what the kernel holds, for all that the agent knows.
        let objects = node.path("state").join(".agent/objects.json");
        let older = fs::read_to_string(&objects)
            .unwrap()
            .replace("10.244.2.0", "10.244.6.0");
        fs::write(&objects, older).unwrap();
        start(&mut node);
        node.until("the reason", |node| {
            let readiness = node.readiness().unwrap_or_default();
            let end = "; until then the node serves on as it was and takes up no change\n";
            readiness.contains(end) && readiness.contains(&server.url)
        });
        // Longer than a node that serves nothing would wait.
        thread::sleep(std::time::Duration::from_secs(12));
        assert_eq!(own_routes("-4"), ROUTES);
        server.tell(Command::Back);
        let news = "10.244.7.0/24 via 10.0.1.2 dev up0 src 10.244.1.1 onlink";
        node.until("the news", |_| own_routes("-4") == [ROUTES[0], news]);
        node.until_ready();
    });
}

/// What the agent's ClusterRole must give, and no more.
const RIGHTS: [(&str, &str); 14] = [
    ("create", "events.events.k8s.io"),
    ("get", "nodes"),
    ("get", "services"),
    ("list", "endpointslices.discovery.k8s.io"),
    ("list", "nodes"),
    ("list", "servicecidrs.networking.k8s.io"),
    ("list", "services"),
    ("patch", "events.events.k8s.io"),
    ("patch", "nodes"),
    ("patch", "nodes/status"),
    ("watch", "endpointslices.discovery.k8s.io"),
    ("watch", "nodes"),
    ("watch", "servicecidrs.networking.k8s.io"),
    ("watch", "services"),
];

#[test]
fn the_agent_asks_for_no_more_than_its_role_gives() {
    in_namespace(async |_| {
        let (mut node, server) = known();
        node.end(Signal::SIGTERM);
        // A service that is refused, and a taint that is to go.
        server.tell(Command::Set(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "till", "namespace": "shop", "uid": "u"},
            "spec": {"clusterIP": "banana", "ports": [{"port": 80}]},
        })));
        server.tell(Command::Set(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
            "spec": {"podCIDRs": ["10.244.1.0/24"], "taints": [{"key": "netpath.io/agent-not-ready", "effect": "NoSchedule"}]},
            "status": {"addresses": [{"type": "InternalIP", "address": "10.0.1.1"}]},
        })));
        start(&mut node);
        let expected: Rights = RIGHTS
            .map(|(verb, resource)| (verb.to_owned(), resource.to_owned()))
            .into();
        node.until("every right", |_| server.rights().is_superset(&expected));
        assert_eq!(server.rights(), expected);
    });
}

#[test]
fn the_node_object_says_that_the_network_is_there() {
    in_namespace(async |_| {
        let (node, server) = known();
        let condition = |asked: &Asked| {
            let condition = &asked.body["status"]["conditions"][0];
            let text = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
            (asked.path == format!("{NODES}/n1/status")).then(|| (text("type"), text("status"), text("reason")))
        };
        let said = |last: &str| ("NetworkUnavailable".to_owned(), last.to_owned());
        node.until("the condition", |_| {
            let conditions = server.changes().iter().filter_map(condition).collect::<Vec<_>>();
            conditions
                .last()
                .map(|(kind, status, _)| (kind.clone(), status.clone()))
                == Some(said("False"))
        });
        node.until("the Event", |_| {
            let reasons: BTreeSet<String> = server
                .changes()
                .iter()
                .filter_map(|asked| Some(asked.body["reason"].as_str()?.to_owned()))
                .collect();
            reasons.contains("NetpathReady")
        });
    });
}
