//! A node for the plugin alone: a namespace with the bridge, the programs loaded and configured as an agent leaves them,
//! and no agent.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    net::Ipv4Addr,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};
use netpath_agent::{
    datapath::{load, maps::Table, pins::Pins, sizes::Sizes, tables},
    net::{Netlink, bridge::Bridge, link::Link},
};
use netpath_common::{
    abi::{ABI_VERSION, bridge::Port, config::Config, endpoint::Endpoint},
    names,
};
use netpath_tests::lab::{home::Home, namespace::Namespace, process};
use serde_json::{Value, json};

/// The address of the node itself; nothing has it.
pub const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 1);
/// The gateway of the default subnet.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 1);

/// A node.
pub struct Node {
    pub pins: Pins,
    pub namespace: Namespace,
    pub home: Home,
}

/// What there is of attachments on a node. A node without any has the default.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Remains {
    pub files: BTreeSet<PathBuf>,
    pub devices: BTreeSet<String>,
    pub links: BTreeSet<String>,
    pub endpoints: BTreeMap<[u8; 4], u32>,
    pub ports: BTreeMap<u32, [u8; 4]>,
    pub neighbours: BTreeSet<Ipv4Addr>,
}

/// What the plugin answered.
#[derive(Debug)]
pub struct Reply {
    pub success: bool,
    /// `Null` if nothing was printed.
    pub answer: Value,
    pub stderr: String,
}

/// Tables that take little memory.
pub fn sizes(max_endpoints: u32) -> Sizes {
    Sizes {
        max_services: 16,
        max_backends: 16,
        max_maglev: 64,
        max_sources: 64,
        max_endpoints,
        max_routes: 16,
        max_connections: 64,
        max_affinities: 64,
        max_fragments: 64,
        max_held_fragments: 128,
        max_sockets: 64,
    }
}

impl Reply {
    pub fn from(output: &Output) -> Result<Self> {
        let stdout = std::str::from_utf8(&output.stdout).context("the answer is not UTF-8")?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let answer = match stdout {
            "" => Value::Null,
            json => serde_json::from_str(json).with_context(|| format!("not JSON: {json:?}; {stderr}"))?,
        };
        Ok(Self {
            success: output.status.success(),
            answer,
            stderr,
        })
    }

    /// The result of a command that must succeed.
    pub fn ok(self) -> Result<Value> {
        ensure!(self.success, "{} {}", self.answer, self.stderr);
        Ok(self.answer)
    }

    /// The code and the whole text of a command that must fail.
    pub fn error(self) -> Result<(u64, String)> {
        ensure!(!self.success, "it succeeded: {}", self.answer);
        let text = |key: &str| self.answer[key].as_str().unwrap_or_default().to_owned();
        let code = self.answer["code"].as_u64().context("no code")?;
        Ok((code, format!("{}; {}", text("msg"), text("details"))))
    }
}

impl Node {
    /// A node whose tables have room for some pods.
    pub fn with_room(max_endpoints: u32) -> Result<Self> {
        let home = Home::unique()?;
        let namespace = Namespace::create(&home.namespace("n"))?;
        let pins = Pins::new(home.bpf_root().join("n"));
        load::load(&pins, &sizes(max_endpoints))?;
        let node = Self { home, namespace, pins };
        let bridge = node.netlink(async |netlink| {
            let bridge = Bridge {
                gateways: vec!["10.244.1.1/24".parse()?],
                mtu: 1450,
                node: NODE.into(),
            };
            Ok(netlink.ensure_bridge(&bridge).await?)
        })?;
        node.configure(&bridge, ABI_VERSION)?;
        Ok(node)
    }

    pub fn new() -> Result<Self> {
        Self::with_room(256)
    }

    /// Writes the configuration as an agent does.
    pub fn configure(&self, bridge: &Link, abi_version: u32) -> Result<()> {
        let config = Config {
            abi_version,
            bridge_ifindex: bridge.index,
            bridge_mac: bridge.mac,
            pod_mtu: 1450,
            uplink_mtu: 1500,
            node4: NODE.octets(),
            gateway4: GATEWAY.octets(),
            nat_port_min: 49152,
            nat_port_max: 65535,
            ..Config::default()
        };
        Ok(tables::config(&self.pins)?.set(&config)?)
    }

    /// A pod's namespace.
    pub fn pod(&self, name: &str) -> Result<Namespace> {
        Namespace::create(&self.home.namespace(name))
    }

    /// The state folder, which the plugin makes.
    pub fn state(&self) -> PathBuf {
        self.home.folder().join("state")
    }

    /// The configuration as a runtime hands it on, with some keys changed.
    pub fn config(&self, changes: Value) -> Value {
        let mut config = json!({
            "cniVersion": "1.1.0", "name": "netpath", "type": "netpath-cni", "bridge": "netpath0", "mtu": 1450,
            "bpfRoot": self.pins.root(), "stateDir": self.state(),
            "subnets": [{"subnet": "10.244.1.0/24", "gateway": "10.244.1.1"}],
        });
        if let (Value::Object(config), Value::Object(changes)) = (&mut config, changes) {
            config.extend(changes);
        }
        config
    }

    /// The plugin with the environment of a runtime.
    pub fn plugin(&self, command: &str, container: &str, netns: Option<&Namespace>) -> Result<Command> {
        let mut plugin = Command::new(process::binary("netpath-cni")?);
        plugin
            .env_clear()
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", container)
            .env("CNI_NETNS", netns.map(Namespace::path).unwrap_or_default())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/opt/cni/bin");
        Ok(plugin)
    }

    /// Runs the plugin on the node.
    pub fn run(&self, plugin: Command, stdin: &[u8]) -> Result<Reply> {
        Reply::from(&process::output(plugin, &self.namespace, stdin)?)
    }

    /// Runs a command on a container with the configuration's defaults changed.
    pub fn call(&self, command: &str, container: &str, netns: Option<&Namespace>, changes: Value) -> Result<Reply> {
        let config = self.config(changes).to_string();
        self.run(self.plugin(command, container, netns)?, config.as_bytes())
    }

    /// Attaches a container.
    pub fn add(&self, container: &str, netns: &Namespace) -> Result<Value> {
        self.call("ADD", container, Some(netns), json!({}))?.ok()
    }

    /// Detaches a container.
    pub fn del(&self, container: &str, netns: Option<&Namespace>) -> Result<()> {
        let answer = self.call("DEL", container, netns, json!({}))?.ok()?;
        ensure!(answer.is_null(), "DEL prints nothing, and printed {answer}");
        Ok(())
    }

    /// Starts the plugin and gives it its configuration, without waiting for its end.
    pub fn start(&self, mut plugin: Command, stdin: &Value) -> Result<Child> {
        plugin
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.namespace.run(|| Ok(plugin.spawn()?))?;
        let mut pipe = child.stdin.take().context("a pipe")?;
        pipe.write_all(stdin.to_string().as_bytes())?;
        Ok(child)
    }

    /// Runs a function with netlink on the node.
    pub fn netlink<T: Send>(&self, function: impl AsyncFnOnce(&Netlink) -> Result<T> + Send) -> Result<T> {
        inside(&self.namespace, function)
    }

    pub fn endpoints(&self) -> Result<Table<[u8; 4], Endpoint>> {
        Ok(Table::open(&self.pins, names::ENDPOINT4)?)
    }

    pub fn ports(&self) -> Result<Table<u32, Port>> {
        Ok(Table::open(&self.pins, names::BRIDGE)?)
    }

    /// All that is on the node because of attachments.
    pub fn remains(&self) -> Result<Remains> {
        let networks = match fs::read_dir(self.state()) {
            Ok(entries) => entries
                .map(|entry| Ok(entry?.file_name()))
                .collect::<Result<Vec<_>>>()?,
            Err(_) => Vec::new(),
        };
        let networks: Vec<&str> = networks.iter().filter_map(|name| name.to_str()).collect();
        self.remains_of(&networks)
    }

    /// The same, with the files of these networks alone.
    pub fn remains_of(&self, networks: &[&str]) -> Result<Remains> {
        let mut remains = Remains::default();
        for network in networks {
            for file in fs::read_dir(self.state().join(network))? {
                let path = file?.path();
                // The lock and the hint are the network's, not an attachment's.
                if !path.ends_with(".lock") && !path.ends_with(".last") {
                    remains.files.insert(path.strip_prefix(self.state())?.to_owned());
                }
            }
        }
        let (devices, neighbours) = self.netlink(async |netlink| {
            // One after the other: a netlink socket has room for one list under way.
            let devices = netlink.links().await?;
            let neighbours = netlink.handle().neighbours().get().execute();
            Ok((devices, neighbours.try_collect::<Vec<_>>().await?))
        })?;
        let names = devices.into_iter().map(|device| device.name);
        remains.devices = names
            .filter(|name| !["lo", "netpath0"].contains(&name.as_str()))
            .collect();
        for neighbour in neighbours {
            if neighbour.header.state == NeighbourState::Permanent {
                let addresses = neighbour
                    .attributes
                    .into_iter()
                    .filter_map(|attribute| match attribute {
                        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(address),
                        _ => None,
                    });
                remains.neighbours.extend(addresses);
            }
        }
        if self.pins.root().exists() {
            let links = self.pins.links()?.into_iter();
            remains.links = links
                .map(|(device, hook)| format!("{device}-{}", hook.name()))
                .collect();
            let endpoints = self.endpoints()?.entries()?.into_iter();
            remains.endpoints = endpoints
                .map(|(address, endpoint)| (address, endpoint.ifindex))
                .collect();
            let ports = self.ports()?.entries()?.into_iter();
            remains.ports = ports.map(|(ifindex, port)| (ifindex, port.address4)).collect();
        }
        Ok(remains)
    }
}

/// Runs a function with the product's netlink in a namespace.
pub fn inside<T: Send>(namespace: &Namespace, function: impl AsyncFnOnce(&Netlink) -> Result<T> + Send) -> Result<T> {
    namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { function(&Netlink::connect()?).await })
    })
}
