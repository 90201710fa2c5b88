//! How a cluster is started: from the objects of a folder, each part when those are there that it needs.

use std::{
    fs,
    net::IpAddr,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    agent::Agent,
    cluster::{Cluster, HOST_PORT},
    endpoints,
    home::Home,
    interrupt,
    kubelet::Pod,
    namespace::Namespace,
    objects::{self, Objects, PodPort, PodSpec},
    pod::READY,
    process::{self, Process},
    topology::{CLIENT, CLIENT6, Topology},
};

/// How long a pod's server may take until it listens: some milliseconds, but that others may be at work on the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster to be started, without a word and with agents as they are unless something else is said.
pub struct Start<'a> {
    source: &'a Path,
    arguments: &'a [&'a str],
    tell: &'a dyn Fn(&str),
}

impl<'a> Start<'a> {
    /// A cluster of the objects in a folder.
    pub fn of(source: &'a Path) -> Self {
        Self {
            source,
            arguments: &[],
            tell: &|_| {},
        }
    }

    /// With these arguments for every agent, beside those that it needs.
    pub fn agents_with(self, arguments: &'a [&'a str]) -> Self {
        Self { arguments, ..self }
    }

    /// Tells each step.
    pub fn telling(self, tell: &'a dyn Fn(&str)) -> Self {
        Self { tell, ..self }
    }

    /// Starts the cluster.
    ///
    /// # Errors
    /// Anything on the way; what was there by then is gone again.
    pub fn run(self, home: Home) -> Result<Cluster> {
        let Self {
            source,
            arguments,
            tell,
        } = self;
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
        let mut cluster = Cluster {
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
            agent.start_with(&agent_binary, &node.namespace, arguments)?;
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
        serve(&mut cluster, &lab_binary)?;
        endpoints::publish(
            &cluster.folder,
            &endpoints::slices(&cluster.objects.services, &cluster.running()),
        )?;
        Ok(cluster)
    }
}

/// Starts the servers of all pods and nodes, and the client's.
fn serve(cluster: &mut Cluster, binary: &Path) -> Result<()> {
    for pod in &mut cluster.pods {
        let spec = &pod.spec;
        if !spec.ports.is_empty() {
            let log = cluster
                .home
                .folder()
                .join(format!("{}-{}.log", spec.namespace, spec.name));
            let ports: Vec<_> = spec
                .ports
                .iter()
                .map(|port| (port.protocol.as_str(), port.port))
                .collect();
            pod.server = Some(server(binary, &spec.name, pod.address, &ports, &pod.namespace, &log)?);
        }
    }
    let ports = [("TCP", HOST_PORT), ("UDP", HOST_PORT)];
    let nodes = cluster
        .topology
        .nodes
        .iter()
        .map(|node| (node.name.as_str(), node.address, &node.namespace));
    let client = &cluster.topology.client;
    let outside = [(CLIENT.into(), "outside.log"), (CLIENT6.into(), "outside6.log")];
    let outside = outside.map(|(address, log)| ("outside", address, client, log.to_owned()));
    let nodes = nodes.map(|(name, address, namespace)| (name, address, namespace, format!("{name}.log")));
    for (name, address, namespace, log) in nodes.chain(outside) {
        let log = cluster.home.folder().join(log);
        cluster
            .servers
            .push(server(binary, name, address, &ports, namespace, &log)?);
    }
    Ok(())
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
    let end = Instant::now() + PATIENCE;
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
            bail!("server of {name}: not ready in {PATIENCE:?}");
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
