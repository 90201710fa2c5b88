//! A cluster: the topology, an agent in each node, the pods, their servers, and the slices that tell the agents of them.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    agent::Agent,
    endpoints::{self, Running},
    home::Home,
    interrupt,
    kubelet::{self, Pod},
    namespace::Namespace,
    objects::{self, Objects, PodPort, PodSpec},
    pod::READY,
    process::{self, Process},
    topology::{CLIENT, CLIENT6, Topology},
};

/// The port on which nodes and the client outside answer, TCP and UDP.
pub const HOST_PORT: u16 = 9100;
/// A running cluster. Its parts are dropped in this order.
#[derive(Debug)]
pub struct Cluster {
    servers: Vec<Process>,
    /// The pods.
    pub pods: Vec<Pod>,
    /// The agents, in the order of the nodes.
    pub agents: Vec<Agent>,
    /// The ground.
    pub topology: Topology,
    /// The objects as they were read.
    pub objects: Objects,
    /// The folder that the agents watch.
    pub folder: PathBuf,
    /// The claim on the name, and the end of everything.
    pub home: Home,
}

impl Cluster {
    /// Starts a cluster for the objects of a folder, telling each step.
    ///
    /// # Errors
    /// Anything on the way; what was there by then is gone again.
    pub fn start(home: Home, source: &Path, tell: &dyn Fn(&str)) -> Result<Self> {
        let objects = objects::read(source)?;
        let programs = ["netpath-agent", "netpath-cni", "netpath-lab"].map(process::binary);
        let [agent_binary, _, lab_binary] = programs;
        let (agent_binary, lab_binary) = (agent_binary?, lab_binary?);
        let places = place(&objects)?;

        tell(&format!(
            "{} nodes, a router and a client, as network namespaces",
            objects.nodes.len()
        ));
        let nodes: Vec<_> = objects
            .nodes
            .iter()
            .map(|node| (node.name.clone(), node.addresses.clone()))
            .collect();
        let topology = Topology::build(&home, &nodes)?;
        let folder = home.folder().join("objects");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        for file in &objects.files {
            if let Some(name) = file.file_name() {
                fs::copy(file, folder.join(name)).with_context(|| format!("cannot copy {}", file.display()))?;
            }
        }
        let mut cluster = Self {
            servers: Vec::new(),
            pods: Vec::new(),
            agents: Vec::new(),
            topology,
            objects,
            folder,
            home,
        };

        tell("an agent in each node");
        for node in &cluster.topology.nodes {
            interrupt::check()?;
            let mut agent = Agent::new(&cluster.home, node, &cluster.folder)?;
            agent.start(&agent_binary, &node.namespace)?;
            cluster.agents.push(agent);
        }
        for (agent, node) in cluster.agents.iter_mut().zip(&cluster.topology.nodes) {
            agent.wait(&node.namespace)?;
        }

        tell(&format!("{} pods, attached by netpath-cni", places.len()));
        for (spec, place) in cluster.objects.pods.clone().into_iter().zip(places) {
            interrupt::check()?;
            let pod = Pod::add(&cluster.home, spec, place, cluster.node(place))?;
            cluster.pods.push(pod);
        }

        tell("a server in each pod, each node and outside");
        cluster.serve(&lab_binary)?;
        endpoints::publish(
            &cluster.folder,
            &endpoints::slices(&cluster.objects.services, &cluster.running()),
        )?;
        Ok(cluster)
    }

    /// Detaches every pod, and ends everything in order. Dropping the cluster does less: it takes the ground away.
    ///
    /// # Errors
    /// The first failure; the rest is ended all the same.
    pub fn stop(mut self) -> Result<()> {
        let mut pods = std::mem::take(&mut self.pods);
        let mut result = Ok(());
        for pod in &mut pods {
            let deleted = pod.delete(self.node(pod.node));
            result = result.and(deleted);
        }
        drop(pods);
        for agent in &mut self.agents {
            result = result.and(agent.stop());
        }
        result
    }

    /// The pod of that name in the namespace `default`.
    ///
    /// # Errors
    /// There is none.
    pub fn pod(&self, name: &str) -> Result<&Pod> {
        let found = self
            .pods
            .iter()
            .find(|pod| pod.spec.name == name && pod.spec.namespace == "default");
        found.with_context(|| format!("no pod default/{name}"))
    }

    /// Reads the Services of [`Self::folder`] again, and writes the slices anew if they say otherwise now.
    ///
    /// # Errors
    /// The folder cannot be read: what was known stays.
    pub fn follow(&mut self) -> Result<bool> {
        let services = objects::read(&self.folder)?.services;
        if services == self.objects.services {
            return Ok(false);
        }
        self.objects.services = services;
        endpoints::publish(
            &self.folder,
            &endpoints::slices(&self.objects.services, &self.running()),
        )?;
        Ok(true)
    }

    /// What the plugin needs to know of a node.
    pub fn node(&self, place: usize) -> kubelet::Node<'_> {
        kubelet::Node {
            namespace: &self.topology.nodes[place].namespace,
            conf_dir: &self.agents[place].conf_dir,
        }
    }

    /// The pods as the endpoint controller sees them.
    pub fn running(&self) -> Vec<Running> {
        let running = self.pods.iter().map(|pod| Running {
            spec: pod.spec.clone(),
            node: self.topology.nodes[pod.node].name.clone(),
            address: pod.address,
        });
        running.collect()
    }

    fn serve(&mut self, binary: &Path) -> Result<()> {
        for pod in &mut self.pods {
            let spec = &pod.spec;
            if !spec.ports.is_empty() {
                let log = self.home.folder().join(format!("{}-{}.log", spec.namespace, spec.name));
                let ports: Vec<_> = spec
                    .ports
                    .iter()
                    .map(|port| (port.protocol.as_str(), port.port))
                    .collect();
                pod.server = Some(server(binary, &spec.name, pod.address, &ports, &pod.namespace, &log)?);
            }
        }
        let ports = [("TCP", HOST_PORT), ("UDP", HOST_PORT)];
        let nodes = self
            .topology
            .nodes
            .iter()
            .map(|node| (node.name.as_str(), node.address, &node.namespace));
        let client = &self.topology.client;
        let outside = [(CLIENT.into(), "outside.log"), (CLIENT6.into(), "outside6.log")];
        let outside = outside.map(|(address, log)| ("outside", address, client, log.to_owned()));
        let nodes = nodes.map(|(name, address, namespace)| (name, address, namespace, format!("{name}.log")));
        for (name, address, namespace, log) in nodes.chain(outside) {
            let log = self.home.folder().join(log);
            self.servers
                .push(server(binary, name, address, &ports, namespace, &log)?);
        }
        Ok(())
    }
}

/// Starts a server and waits until its sockets are open.
fn server(
    binary: &Path,
    name: &str,
    address: IpAddr,
    ports: &[(&str, u16)],
    namespace: &Namespace,
    log: &Path,
) -> Result<Process> {
    let mut command = Command::new(binary);
    command.args(["pod", "--name", name, "--address", &address.to_string()]);
    for (protocol, port) in ports {
        match *protocol {
            "TCP" => command.args(["--tcp", &port.to_string()]),
            "UDP" => command.args(["--udp", &port.to_string()]),
            other => bail!("{name}: the lab's server does not speak {other} (port {port})"),
        };
    }
    let mut process = Process::start(&format!("server of {name}"), command, namespace, log)?;
    let end = Instant::now() + Duration::from_secs(10);
    while !fs::read_to_string(log)?.contains(READY) {
        interrupt::check()?;
        if let Some(status) = process.ended()? {
            bail!(
                "server of {name}: {}: {}",
                process::describe(status),
                fs::read_to_string(log)?.trim()
            );
        }
        if Instant::now() > end {
            bail!("server of {name}: not ready in 10 s");
        }
        interrupt::wait(Duration::from_millis(2));
    }
    Ok(process)
}

/// Plays the scheduler: each pod's node, by `spec.nodeName` or in turn.
fn place(objects: &Objects) -> Result<Vec<usize>> {
    let mut turn = (0..objects.nodes.len()).cycle();
    let mut places = Vec::new();
    for PodSpec {
        namespace,
        name,
        node,
        ports,
        ..
    } in &objects.pods
    {
        if let Some(PodPort { protocol, port, .. }) = ports
            .iter()
            .find(|port| !["TCP", "UDP"].contains(&port.protocol.as_str()))
        {
            bail!("Pod {namespace}/{name}: the lab's server does not speak {protocol} (port {port})");
        }
        places.push(match node {
            None => turn.next().unwrap_or_default(),
            Some(node) => match objects.nodes.iter().position(|known| known.name == *node) {
                Some(place) => place,
                None => bail!("Pod {namespace}/{name}: spec.nodeName {node} is no Node of this folder"),
            },
        });
    }
    Ok(places)
}
