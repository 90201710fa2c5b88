//! Where it is measured: two nodes of the lab, three pods on them, and the API server that is asked for more.

use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, UdpSocket},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use futures::TryStreamExt as _;
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Namespace as NamespaceObject, Node as NodeObject, Pod},
};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::watcher,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::bench::netns::Namespace;

/// The namespace of all that is made here.
pub const NAMESPACE: &str = "bench";
/// How long a pod may take to start, or a namespace to go.
const PATIENCE: Duration = Duration::from_secs(120);

/// A node of the lab, as the command line names it: `NAME=PID`, the process that holds its namespaces.
#[derive(Clone, Debug)]
pub struct Node {
    /// The Node object's name.
    pub name: String,
    /// The process.
    pub process: u32,
}

impl FromStr for Node {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, process) = text
            .split_once('=')
            .with_context(|| format!("{text:?} is not NAME=PID"))?;
        Ok(Self {
            name: name.to_owned(),
            process: process.parse().with_context(|| format!("{process:?} is no process"))?,
        })
    }
}

/// A pod, from outside.
pub struct Seat {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its network namespace.
    pub namespace: Arc<Namespace>,
}

/// Two nodes and three pods. Dropping it deletes what was made in the API.
pub struct Site {
    runtime: Runtime,
    client: Client,
    nodes: [Node; 2],
    image: String,
    /// The first node's address.
    pub node_address: Ipv4Addr,
    /// A pod of the first node, which asks.
    pub asking: Seat,
    /// Another pod of the first node, which answers.
    pub near: Seat,
    /// A pod of the second node, which answers.
    pub far: Seat,
    /// The host outside the cluster in which this process was started.
    pub outside: Arc<Namespace>,
}

impl Site {
    /// Makes the namespace and the pods, of an image with `agnhost`, and waits until they are Ready.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses an object; a pod does not become Ready, or its namespace is not found on its node.
    pub fn make(kubeconfig: &Path, nodes: [Node; 2], image: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start a runtime")?;
        let client = runtime.block_on(connect(kubeconfig))?;
        let (node_address, addresses) = runtime.block_on(async {
            let namespaces: Api<NamespaceObject> = Api::all(client.clone());
            let ours = object(json!({ "metadata": { "name": NAMESPACE } }))?;
            namespaces
                .create(&PostParams::default(), &ours)
                .await
                .context("cannot create the namespace bench: was an earlier run's left?")?;
            let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
            let mut addresses = Vec::new();
            for (name, node) in [("asking", &nodes[0]), ("near", &nodes[0]), ("far", &nodes[1])] {
                let pod = object(pod(name, &node.name, image))?;
                pods.create(&PostParams::default(), &pod).await?;
                addresses.push(ready(&pods, name).await?);
            }
            Ok::<_, anyhow::Error>((internal_address(&client, &nodes[0].name).await?, addresses))
        })?;
        let [asking, near, far] = addresses[..] else {
            bail!("three pods were made");
        };
        let seat = |node: &Node, address| {
            let namespace = Arc::new(namespace_of(node, address)?);
            Ok::<_, anyhow::Error>(Seat { address, namespace })
        };
        let here = File::open("/proc/thread-self/ns/net").context("cannot open this process's network namespace")?;
        Ok(Self {
            asking: seat(&nodes[0], asking)?,
            near: seat(&nodes[0], near)?,
            far: seat(&nodes[1], far)?,
            outside: Arc::new(Namespace::open(&here)?),
            image: image.to_owned(),
            runtime,
            client,
            nodes,
            node_address,
        })
    }

    /// The first node.
    pub fn first(&self) -> &Node {
        &self.nodes[0]
    }

    /// A pod of this name for the first node, to be created.
    ///
    /// # Errors
    /// None, unless the API's types have changed.
    pub fn pod(&self, name: &str) -> Result<Pod> {
        object(pod(name, &self.nodes[0].name, &self.image))
    }

    /// Objects of a kind in the site's namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Does what speaks to the API server.
    ///
    /// # Errors
    /// Those of the work.
    pub fn ask<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(work)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let namespaces: Api<NamespaceObject> = Api::all(self.client.clone());
        // The cluster is taken down next; that this one is gone before matters to runs by hand alone.
        let deletion = self
            .runtime
            .block_on(namespaces.delete(NAMESPACE, &DeleteParams::default()));
        if let Err(error) = deletion {
            eprintln!("the namespace {NAMESPACE} could not be deleted: {error}");
        }
    }
}

/// An object of the API's types from its JSON.
///
/// # Errors
/// It is none.
pub fn object<K: serde::de::DeserializeOwned>(value: Value) -> Result<K> {
    serde_json::from_value(value).context("an object is not as its type has it")
}

/// Waits until a pod is Ready, and tells its address.
///
/// # Errors
/// It is not within two minutes.
pub async fn ready(pods: &Api<Pod>, name: &str) -> Result<Ipv4Addr> {
    let mut events = std::pin::pin!(watcher::watch_object(pods.clone(), name));
    let wait = async {
        while let Some(pod) = events.try_next().await? {
            if let Some(address) = pod.as_ref().and_then(ready_address) {
                return Ok(address);
            }
        }
        bail!("the watch ended")
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .map_err(|_| anyhow!("it is not Ready after {PATIENCE:?}"))
        .and_then(|outcome| outcome)
        .with_context(|| format!("pod {NAMESPACE}/{name}"))
}

/// The address of a pod that is Ready.
fn ready_address(pod: &Pod) -> Option<Ipv4Addr> {
    let status = pod.status.as_ref()?;
    let conditions = status.conditions.as_ref()?;
    let ready = conditions
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready.then(|| status.pod_ip.as_ref()?.parse().ok()).flatten()
}

async fn connect(kubeconfig: &Path) -> Result<Client> {
    let file = Kubeconfig::read_from(kubeconfig).with_context(|| format!("reading {}", kubeconfig.display()))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

async fn internal_address(client: &Client, name: &str) -> Result<Ipv4Addr> {
    let nodes: Api<NodeObject> = Api::all(client.clone());
    let node = nodes.get(name).await?;
    let addresses = node.status.and_then(|status| status.addresses).unwrap_or_default();
    addresses
        .iter()
        .filter(|address| address.type_ == "InternalIP")
        .find_map(|address| address.address.parse().ok())
        .with_context(|| format!("Node {name} has no IPv4 address"))
}

/// A pod that does nothing, on a node whatever its state. It is not told of the services: with thousands of them, the kubelet's writing
/// of its environment would be most of its start.
fn pod(name: &str, node: &str, image: &str) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "bench": name } },
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "enableServiceLinks": false,
            "tolerations": [{ "operator": "Exists" }],
            "containers": [{ "name": "idle", "image": image, "imagePullPolicy": "Never", "args": ["pause"] }],
        },
    })
}

/// The network namespace on a node in which this is an own address: the one where a socket can have it.
fn namespace_of(node: &Node, address: Ipv4Addr) -> Result<Namespace> {
    let folder = PathBuf::from(format!("/proc/{}/root/run/netns", node.process));
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        // A pod may go meanwhile, and its file with it.
        let Ok(file) = File::open(&path) else { continue };
        let Ok(namespace) = Namespace::open(&file) else {
            continue;
        };
        let has = namespace.run(|| Ok(UdpSocket::bind((IpAddr::V4(address), 0)).is_ok()))?;
        if has {
            return Ok(namespace);
        }
    }
    bail!("no network namespace in {} has {address}", folder.display())
}
