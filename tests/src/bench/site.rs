//! netpath on two nodes that one wire joins, set up as a cluster sets it up: the real agent in each node, fed from a folder
//! of Kubernetes YAML, and pods attached by the real CNI plugin. Once it stands, the agents have nothing to do.
//!
//! The wire is the rivals' own: one veth pair. The lab's cluster, with a switch or a router between its nodes, would time
//! these too.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use netpath_agent::datapath::{maps::Table, pins::Pins};
use netpath_common::{
    abi::{
        endpoint::Endpoint,
        service::{Service, v4::Frontend},
    },
    names,
};

use super::{
    netlink::End,
    netns::Namespace,
    rivals::{Pair, WIRE_MTU},
    workload::PORT,
};
use crate::lab::{
    self,
    agent::Agent,
    home::Home,
    kubelet::{self, Pod},
    objects::PodSpec,
    process,
    topology::{NodeNet, UPLINK},
};

/// The service that the pod on the client's own node answers.
pub const NEAR_SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 96, 0, 11), 80);
/// The service that the pod on the other node answers.
pub const FAR_SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 96, 0, 12), 80);
/// The uplinks' interface index in each node.
const UPLINK_INDEX: u32 = 5;
/// How long an agent may take to bring new objects into its maps.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where two nodes stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// On one segment: netpath sends directly.
    Segment,
    /// In two networks, the other one behind a gateway: netpath uses its tunnel. The gateway is an address of the other end
    /// of the wire, so that no forwarding by a router is part of the figure.
    Routed,
}

impl Ground {
    /// In few words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Segment => "on one segment",
            Self::Routed => "in two networks",
        }
    }
}

/// Two nodes, a client and a server on the first, a server on the second. Parts are dropped in this order.
pub struct Site {
    pods: Vec<Pod>,
    agents: Vec<Agent>,
    nodes: Vec<NodeNet>,
    ground: Ground,
    home: Home,
}

/// A place for a pod.
const PODS: [(&str, usize); 3] = [("client", 0), ("near", 0), ("far", 1)];

impl Site {
    /// Builds it and waits until the services are in the first node's maps.
    ///
    /// # Errors
    /// Anything on the way; what was there by then is gone again.
    pub fn start(ground: Ground) -> Result<Self> {
        let home = Home::unique()?;
        let mut nodes = Vec::new();
        for number in [1, 2] {
            let short = format!("n{number}");
            let namespace = lab::namespace::Namespace::create(&home.namespace(&short))?;
            nodes.push(NodeNet {
                name: format!("node-{number}"),
                short,
                address: address(ground, number),
                namespace,
            });
        }
        join(ground, &nodes)?;
        let folder = home.folder().join("objects");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        write(&folder, "nodes.yaml", &node_objects(ground))?;

        let mut site = Self {
            pods: Vec::new(),
            agents: Vec::new(),
            nodes,
            ground,
            home,
        };
        let binary = process::binary("netpath-agent")?;
        for node in &site.nodes {
            let mut agent = Agent::new(&site.home, node, &folder)?;
            agent.start(&binary, &node.namespace)?;
            site.agents.push(agent);
        }
        for (agent, node) in site.agents.iter_mut().zip(&site.nodes) {
            agent.wait(&node.namespace)?;
        }
        for (name, place) in PODS {
            let pod = Pod::add(&site.home, spec(name), place, site.node(place))?;
            site.pods.push(pod);
        }
        write(
            &folder,
            "services.yaml",
            &service_objects(site.pods[1].address, site.pods[2].address),
        )?;
        site.await_services(2 * 2)?;
        Ok(site)
    }

    /// The client and the server on its own node.
    ///
    /// # Errors
    /// When a namespace cannot be opened.
    pub fn near(&self) -> Result<Pair> {
        self.pair(1)
    }

    /// The client and the server on the other node.
    ///
    /// # Errors
    /// When a namespace cannot be opened.
    pub fn far(&self) -> Result<Pair> {
        self.pair(2)
    }

    fn pair(&self, server: usize) -> Result<Pair> {
        Ok(Pair {
            client: Arc::new(Namespace::open(self.pods[0].namespace.file())?),
            server: Arc::new(Namespace::open(self.pods[server].namespace.file())?),
            address: self.pods[server].address,
            nodes: Vec::new(),
            links: Vec::new(),
        })
    }

    /// Where the nodes stand.
    pub fn ground(&self) -> Ground {
        self.ground
    }

    /// A node's namespace: 0 is the client's.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn node_namespace(&self, place: usize) -> Result<Namespace> {
        Namespace::open(self.nodes[place].namespace.file())
    }

    /// A node's address.
    pub fn node_address(&self, place: usize) -> Ipv4Addr {
        self.nodes[place].address
    }

    /// Where a node's agent pins.
    pub fn pins(&self, place: usize) -> Pins {
        Pins::new(self.agents[place].bpf_root.clone())
    }

    /// A pod's address and what its node knows of it: 0 is the client, 1 the server on its node, 2 the other.
    ///
    /// # Errors
    /// When the node does not know the pod.
    pub fn endpoint(&self, pod: usize) -> Result<(Ipv4Addr, Endpoint)> {
        let pod = &self.pods[pod];
        let table = Table::<[u8; 4], Endpoint>::open(&self.pins(pod.node), names::ENDPOINT4)?;
        let endpoint = table.get(&pod.address.octets())?;
        Ok((
            pod.address,
            endpoint.with_context(|| format!("{} is not in {}", pod.address, names::ENDPOINT4))?,
        ))
    }

    /// What the CNI plugin is told of a node.
    pub fn node(&self, place: usize) -> kubelet::Node<'_> {
        kubelet::Node {
            namespace: &self.nodes[place].namespace,
            conf_dir: &self.agents[place].conf_dir,
        }
    }

    /// The folder the agents watch.
    pub fn objects(&self) -> PathBuf {
        self.home.folder().join("objects")
    }

    /// The claim on the name.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The process id of a node's agent.
    ///
    /// # Errors
    /// When it does not run.
    pub fn agent(&self, place: usize) -> Result<u32> {
        self.agents[place]
            .id()
            .with_context(|| format!("the agent of {} does not run", self.nodes[place].name))
    }

    /// Waits until every node has so many frontends.
    ///
    /// # Errors
    /// After ten seconds.
    pub fn await_services(&self, wanted: usize) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        for place in 0..self.nodes.len() {
            loop {
                let table = Table::<Frontend, Service>::open(&self.pins(place), names::SERVICE4)?;
                let served = table.entries()?.iter().filter(|(_, service)| service.count > 0).count();
                if served >= wanted {
                    break;
                }
                if Instant::now() > end {
                    bail!(
                        "{}: {served} frontends of {wanted} after {PATIENCE:?}",
                        self.nodes[place].name
                    );
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }
}

/// The wire between the nodes, and the routes over it.
fn join(ground: Ground, nodes: &[NodeNet]) -> Result<()> {
    let [one, two] = [&nodes[0], &nodes[1]].map(|node| Namespace::open(node.namespace.file()));
    let (one, two) = (one?, two?);
    let macs = [1, 2].map(|number| [0x02, 0, 0, 0, 0xff, number]);
    let [near, far] = macs.map(|mac| End {
        name: UPLINK,
        index: UPLINK_INDEX,
        mac,
    });
    one.net.veth(&near, &far, &two, WIRE_MTU)?;
    for (number, node, other_mac) in [(1, &one, macs[1]), (2, &two, macs[0])] {
        node.net.address(UPLINK_INDEX, address(ground, number), 24)?;
        if ground == Ground::Routed {
            let gateway = Ipv4Addr::new(172, 18, number, 254);
            node.net.neighbour(UPLINK_INDEX, gateway, other_mac)?;
            node.net.route(Ipv4Addr::UNSPECIFIED, 0, Some(gateway), UPLINK_INDEX)?;
        }
    }
    Ok(())
}

fn address(ground: Ground, number: u8) -> Ipv4Addr {
    match ground {
        Ground::Segment => Ipv4Addr::new(172, 18, 0, number),
        Ground::Routed => Ipv4Addr::new(172, 18, number, 1),
    }
}

/// A pod without labels and ports.
pub fn spec(name: &str) -> PodSpec {
    PodSpec {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        node: None,
        labels: BTreeMap::new(),
        ports: Vec::new(),
    }
}

fn node_objects(ground: Ground) -> String {
    let mut text = String::new();
    for number in [1, 2] {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Node\nmetadata: {{name: node-{number}}}\n\
             spec: {{podCIDR: 10.244.{number}.0/24, podCIDRs: [10.244.{number}.0/24]}}\n\
             status: {{addresses: [{{type: InternalIP, address: {}}}]}}\n",
            address(ground, number)
        );
    }
    text
}

fn service_objects(near: Ipv4Addr, far: Ipv4Addr) -> String {
    service_object("near", *NEAR_SERVICE.ip(), &[near]) + &service_object("far", *FAR_SERVICE.ip(), &[far])
}

/// A Service with a TCP and a UDP port 80 and its EndpointSlice.
pub fn service_object(name: &str, address: Ipv4Addr, backends: &[Ipv4Addr]) -> String {
    let endpoints: Vec<String> = backends
        .iter()
        .map(|backend| format!("{{addresses: [{backend}], conditions: {{ready: true, serving: true}}}}"))
        .collect();
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{clusterIP: {address}, clusterIPs: [{address}], ports: [{{name: t, port: 80, protocol: TCP}}, \
         {{name: u, port: 80, protocol: UDP}}]}}\n\
         ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-1, namespace: default, \
         labels: {{kubernetes.io/service-name: {name}}}}}\naddressType: IPv4\n\
         ports: [{{name: t, port: {PORT}, protocol: TCP}}, {{name: u, port: {PORT}, protocol: UDP}}]\n\
         endpoints: [{}]\n",
        endpoints.join(", ")
    )
}

/// Writes a file of objects whole: beside, then renamed.
///
/// # Errors
/// When the folder refuses it.
pub fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let (beside, file) = (folder.join(format!(".{name}.new")), folder.join(name));
    fs::write(&beside, text).with_context(|| format!("cannot write {}", beside.display()))?;
    fs::rename(&beside, &file).with_context(|| format!("cannot write {}", file.display()))
}
