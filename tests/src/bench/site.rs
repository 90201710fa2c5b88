//! netpath on two nodes that one wire joins, set up as a cluster sets it up: the real agent in each node, fed from a folder
//! of Kubernetes YAML, and pods attached by the real CNI plugin. Once it stands, the agents have nothing to do.
//!
//! The wire is the rivals' own: one veth pair. The lab's cluster, with a switch or a router between its nodes, would time
//! these too.

pub mod ground;
pub mod services;

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, Ipv6Addr},
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

use self::{
    ground::Ground,
    services::{FRONTENDS, NEAR_SERVICE, Served},
};
use super::{netns::Namespace, rivals};
use crate::lab::{
    self,
    agent::Agent,
    home::Home,
    kubelet::{self, Pod},
    objects::PodSpec,
    process,
    topology::NodeNet,
};

/// Where services have their addresses from.
const SERVICE_CIDRS: &str = "10.96.0.0/12,fd00:96::/108";
/// How long an agent may take to bring new objects into its maps.
const PATIENCE: Duration = Duration::from_secs(60);

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
                address: ground.address(number).into(),
                namespace,
            });
        }
        ground.join(&nodes)?;
        let folder = home.folder().join("objects");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        write(&folder, "nodes.yaml", &ground.node_objects())?;
        if ground == Ground::Crowded {
            write(&folder, "crowd.yaml", &services::crowd())?;
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
        write(&folder, "near.yaml", &site.object(NEAR_SERVICE)?)?;
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
            text += &self.object(*service)?;
        }
        write(&self.objects(), "served.yaml", &text)?;
        self.await_services(before + services.len() * FRONTENDS)
    }

    fn object(&self, service: Served) -> Result<String> {
        Ok(service.object(self.addresses(service.backend)?))
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
        self.ground.address(place as u8 + 1)
    }

    /// The same of IPv6, where nodes have one.
    pub fn node_address6(&self, place: usize) -> Option<Ipv6Addr> {
        self.ground.address6(place as u8 + 1)
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

/// Writes a file of objects whole: beside, then renamed.
///
/// # Errors
/// When the folder refuses it.
pub fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let (beside, file) = (folder.join(format!(".{name}.new")), folder.join(name));
    fs::write(&beside, text).with_context(|| format!("cannot write {}", beside.display()))?;
    fs::rename(&beside, &file).with_context(|| format!("cannot write {}", file.display()))
}
