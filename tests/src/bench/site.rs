//! netpath on two nodes that one wire joins, set up as a cluster sets it up: the real agent in each node, fed from a folder
//! of Kubernetes YAML, and pods attached by the real CNI plugin. Once it stands, the agents have nothing to do.
//!
//! The wire is the rivals' own: one veth pair. The lab's cluster, with a switch or a router between its nodes, would time
//! these too.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
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
    rivals::{self, UPLINK as UPLINK_INDEX, WIRE_MTU},
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

/// A service that the pod on the client's own node answers.
pub const NEAR_SERVICE: Served = Served {
    number: 250,
    backend: Seat::Near,
    port: PORT,
};
/// The port of every service.
pub const SERVICE_PORT: u16 = 80;
/// Where services have their addresses from.
const SERVICE_CIDRS: &str = "10.96.0.0/12,fd00:96::/108";
/// The frontends of IPv4 of a service: TCP and UDP, at its own address and at the node's.
const FRONTENDS: usize = 4;
/// How many services nobody asks for are on [`Ground::Crowded`].
const CROWD: u16 = 45_000;
/// How long an agent may take to bring new objects into its maps.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where two nodes stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// On one segment: netpath sends directly.
    Segment,
    /// The same, among 45,000 services.
    Crowded,
    /// In two networks, the other one behind a gateway: netpath uses its tunnel. The gateway is an address of the other end
    /// of the wire, so that no forwarding by a router is part of the figure.
    Routed,
}

impl Ground {
    /// In few words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Segment => "on one segment",
            Self::Crowded => "on one segment among 45,000 services",
            Self::Routed => "in two networks",
        }
    }
}

/// Who is at one end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// The pod that asks, on the first node.
    Client,
    /// The pod beside it.
    Near,
    /// The pod on the other node.
    Far,
    /// A process of the first node.
    Node,
    /// A host on the nodes' wire that belongs to no cluster.
    Outside,
}

/// A service of the site's.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// Which one: its name and addresses follow from it.
    pub number: u8,
    /// The pod that answers.
    pub backend: Seat,
    /// Where the pod listens.
    pub port: u16,
}

impl Served {
    /// Its address of IPv4.
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 96, 1, self.number)
    }

    /// Its address of IPv6.
    pub fn address6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 1, self.number.into())
    }

    /// Its port on every node.
    pub fn node_port(self) -> u16 {
        30_000 + u16::from(self.number)
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
                address: address(ground, number).into(),
                namespace,
            });
        }
        join(ground, &nodes)?;
        let folder = home.folder().join("objects");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        write(&folder, "nodes.yaml", &node_objects(ground))?;
        if ground == Ground::Crowded {
            write(&folder, "crowd.yaml", &crowd())?;
        }

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
            agent.start_with(&binary, &node.namespace, &["--service-cidr", SERVICE_CIDRS])?;
            site.agents.push(agent);
        }
        for (agent, node) in site.agents.iter_mut().zip(&site.nodes) {
            agent.wait(&node.namespace)?;
        }
        for (name, place) in PODS {
            let pod = Pod::add(&site.home, spec(name), place, site.node(place))?;
            site.pods.push(pod);
        }
        write(&folder, "near.yaml", &site.served_object(NEAR_SERVICE)?)?;
        site.await_services(FRONTENDS)?;
        Ok(site)
    }

    /// Whose namespace a seat is in; that of a host outside is made for it.
    ///
    /// # Errors
    /// When a namespace cannot be opened or made.
    pub fn namespace(&self, seat: Seat) -> Result<Arc<Namespace>> {
        if seat == Seat::Outside {
            return rivals::outside(&self.node_namespace(1)?);
        }
        let namespace = match self.pod(seat) {
            Some(pod) => &pod.namespace,
            None => &self.nodes[0].namespace,
        };
        Ok(Arc::new(Namespace::open(namespace.file())?))
    }

    /// A pod's own addresses, of IPv4 and of IPv6.
    ///
    /// # Errors
    /// When it is no pod's seat, or the pod has no address of IPv6.
    pub fn addresses(&self, seat: Seat) -> Result<(Ipv4Addr, Ipv6Addr)> {
        let pod = self.pod(seat).with_context(|| format!("{seat:?} is no pod"))?;
        let ipv6 = pod
            .address6
            .with_context(|| format!("the pod {} has no IPv6", pod.spec.name))?;
        Ok((pod.address4()?, ipv6))
    }

    fn pod(&self, seat: Seat) -> Option<&Pod> {
        match seat {
            Seat::Client => self.pods.first(),
            Seat::Near => self.pods.get(1),
            Seat::Far => self.pods.get(2),
            Seat::Node | Seat::Outside => None,
        }
    }

    /// Gives the cluster these services, and waits until the nodes have them.
    ///
    /// # Errors
    /// When they do not arrive in the maps.
    pub fn serve(&self, services: &[Served]) -> Result<()> {
        let before = self.served(0)?;
        let mut text = String::new();
        for service in services {
            text += &self.served_object(*service)?;
        }
        write(&self.objects(), "served.yaml", &text)?;
        self.await_services(before + services.len() * FRONTENDS)
    }

    /// A service in both families, with a port on every node, and its slices.
    fn served_object(&self, service: Served) -> Result<String> {
        let (name, port) = (format!("served-{}", service.number), service.port);
        let (own, backend) = (
            (service.address(), service.address6()),
            self.addresses(service.backend)?,
        );
        let node_port = service.node_port();
        let mut text = format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
             spec: {{type: NodePort, clusterIP: {}, clusterIPs: [\"{}\", \"{}\"], ipFamilies: [IPv4, IPv6], ipFamilyPolicy: RequireDualStack, ports: [\
             {{name: t, port: {SERVICE_PORT}, protocol: TCP, nodePort: {node_port}}}, \
             {{name: u, port: {SERVICE_PORT}, protocol: UDP, nodePort: {node_port}}}]}}\n",
            own.0, own.0, own.1
        );
        for (family, backend) in [("IPv4", backend.0.into()), ("IPv6", backend.1.into())] {
            text += &slice_object(&name, family, port, &[backend]);
        }
        Ok(text)
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
        address(self.ground, place as u8 + 1)
    }

    /// The same of IPv6, where nodes have one.
    pub fn node_address6(&self, place: usize) -> Option<Ipv6Addr> {
        ipv6_address(self.ground, place as u8 + 1)
    }

    /// Where a node's agent pins.
    pub fn pins(&self, place: usize) -> Pins {
        Pins::new(self.agents[place].bpf_root.clone())
    }

    /// What its node knows of a pod: 0 is the client, 1 the server on its node, 2 the other.
    ///
    /// # Errors
    /// When the node does not know the pod.
    pub fn endpoint(&self, pod: usize) -> Result<Endpoint> {
        let pod = &self.pods[pod];
        let table = Table::<[u8; 4], Endpoint>::open(&self.pins(pod.node), names::ENDPOINT4)?;
        let address = pod.address4()?;
        let endpoint = table.get(&address.octets())?;
        endpoint.with_context(|| format!("{address} is not in {}", names::ENDPOINT4))
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

    /// How many frontends of IPv4 a node serves.
    fn served(&self, place: usize) -> Result<usize> {
        let table = Table::<Frontend, Service>::open(&self.pins(place), names::SERVICE4)?;
        Ok(table.entries()?.iter().filter(|(_, service)| service.count > 0).count())
    }

    /// Waits until every node serves so many frontends of IPv4.
    ///
    /// # Errors
    /// After a minute.
    pub fn await_services(&self, wanted: usize) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        for place in 0..self.nodes.len() {
            loop {
                let served = self.served(place)?;
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
        match ipv6_address(ground, number) {
            Some(address) => {
                // Nobody else is on the wire who could have the address.
                node.sysctl(&format!("ipv6/conf/{UPLINK}/accept_dad"), "0")?;
                node.net.address(UPLINK_INDEX, address, 64)?;
            }
            None => {
                let gateway = Ipv4Addr::new(172, 18, number, 254);
                node.net.neighbour(UPLINK_INDEX, gateway, other_mac)?;
                node.net.route(Ipv4Addr::UNSPECIFIED, 0, Some(gateway), UPLINK_INDEX)?;
            }
        }
    }
    Ok(())
}

fn address(ground: Ground, number: u8) -> Ipv4Addr {
    match ground {
        Ground::Segment | Ground::Crowded => Ipv4Addr::new(172, 18, 0, number),
        Ground::Routed => Ipv4Addr::new(172, 18, number, 1),
    }
}

/// A node's address of IPv6. Nodes behind routers have none: their tunnels, which carry both families, are of IPv4.
fn ipv6_address(ground: Ground, number: u8) -> Option<Ipv6Addr> {
    match ground {
        Ground::Segment | Ground::Crowded => Some(Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 0, number.into())),
        Ground::Routed => None,
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
        let own = [
            Some(IpAddr::V4(address(ground, number))),
            ipv6_address(ground, number).map(IpAddr::V6),
        ];
        let own: Vec<_> = own
            .into_iter()
            .flatten()
            .map(|address| format!("{{type: InternalIP, address: \"{address}\"}}"))
            .collect();
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Node\nmetadata: {{name: node-{number}}}\n\
             spec: {{podCIDR: 10.244.{number}.0/24, podCIDRs: [10.244.{number}.0/24, \"fd00:10:{number}::/64\"]}}\n\
             status: {{addresses: [{}]}}\n",
            own.join(", ")
        );
    }
    text
}

/// Services of one port and two endpoints, none of which is there.
fn crowd() -> String {
    let mut text = String::new();
    for number in 0..CROWD {
        let [high, low] = number.to_be_bytes();
        let (name, address) = (format!("crowd-{number}"), Ipv4Addr::new(10, 97, high, low));
        let backends = [10, 11].map(|first| IpAddr::from([10, 240 + first, high, low]));
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
             spec: {{clusterIP: {address}, clusterIPs: [{address}], ports: [{{name: t, port: {SERVICE_PORT}, protocol: TCP}}]}}\n{}",
            slice_object(&name, "IPv4", PORT, &backends)
        );
    }
    text
}

/// A Service with a TCP and a UDP port 80 and its EndpointSlice.
pub fn service_object(name: &str, address: Ipv4Addr, backends: &[Ipv4Addr]) -> String {
    let backends: Vec<IpAddr> = backends.iter().copied().map(IpAddr::V4).collect();
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{clusterIP: {address}, clusterIPs: [{address}], ports: [{{name: t, port: {SERVICE_PORT}, protocol: TCP}}, \
         {{name: u, port: {SERVICE_PORT}, protocol: UDP}}]}}\n{}",
        slice_object(name, "IPv4", PORT, &backends)
    )
}

/// The EndpointSlice of a family of a service, all of whose ports lead to one.
fn slice_object(service: &str, family: &str, port: u16, backends: &[IpAddr]) -> String {
    let endpoints: Vec<String> = backends
        .iter()
        .map(|backend| format!("{{addresses: [\"{backend}\"], conditions: {{ready: true, serving: true}}}}"))
        .collect();
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {service}-{}, namespace: default, \
         labels: {{kubernetes.io/service-name: {service}}}}}\naddressType: {family}\n\
         ports: [{{name: t, port: {port}, protocol: TCP}}, {{name: u, port: {port}, protocol: UDP}}]\n\
         endpoints: [{}]\n",
        family.to_lowercase(),
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
