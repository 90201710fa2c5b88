//! Plays kubelet and the container runtime: a namespace for each pod, attached by running the CNI plugin as libcni does, with
//! the configuration list that the node's agent wrote.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    home::Home,
    namespace::Namespace,
    objects::PodSpec,
    process::{self, Process},
};

/// The device that a pod gets.
const IFNAME: &str = "eth0";

/// What the plugin needs to know of a node.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// The node's namespace: the plugin runs there.
    pub namespace: &'a Namespace,
    /// Where its agent writes the configuration list.
    pub conf_dir: &'a Path,
}

/// A pod with its namespace and address. Its server, if it has one, is dropped before the namespace.
#[derive(Debug)]
pub struct Pod {
    /// The pod.
    pub spec: PodSpec,
    /// The place of its node in the topology.
    pub node: usize,
    /// Its first address: of IPv4, if its node's pods have one.
    pub address: IpAddr,
    /// Its address of IPv6, if its node's pods have one.
    pub address6: Option<Ipv6Addr>,
    /// What serves in it.
    pub server: Option<Process>,
    /// Its namespace.
    pub namespace: Namespace,
    container: String,
}

impl Pod {
    /// Makes the pod's namespace and attaches it (CNI ADD).
    ///
    /// # Errors
    /// The namespace cannot be made, or the plugin fails: its own words are in the error.
    pub fn add(home: &Home, spec: PodSpec, place: usize, node: Node) -> Result<Self> {
        let full = match spec.namespace.as_str() {
            "default" => spec.name.clone(),
            namespace => format!("{namespace}-{}", spec.name),
        };
        let namespace = Namespace::create(&home.namespace(&format!("pod-{full}")))?;
        let container = format!("{}-{full}", home.name());
        let result = call(node, "ADD", &container, &namespace.path(), &spec);
        let result = result.with_context(|| format!("pod {}/{}", spec.namespace, spec.name))?;
        let result: Added = serde_json::from_value(result).context("the plugin's result")?;
        let (mut address, mut address6) = (None, None);
        for AddedIp { address: text } in &result.ips {
            let given = text.split_once('/').and_then(|(given, _)| given.parse().ok());
            match given {
                Some(given) => address = address.or(Some(given)),
                None => bail!("pod {}: the plugin gave it the address {text:?}", spec.name),
            }
            if let Some(IpAddr::V6(given)) = given {
                address6 = Some(given);
            }
        }
        let address = address.ok_or_else(|| anyhow!("pod {}: the plugin gave it no address", spec.name))?;
        Ok(Self {
            spec,
            node: place,
            address,
            address6,
            server: None,
            namespace,
            container,
        })
    }

    /// Its address, where it must be of IPv4.
    ///
    /// # Errors
    /// It is not.
    pub fn address4(&self) -> Result<Ipv4Addr> {
        match self.address {
            IpAddr::V4(address) => Ok(address),
            IpAddr::V6(address) => bail!("pod {} has the address {address}", self.spec.name),
        }
    }

    /// Detaches the pod (CNI DEL). Its namespace goes with the guard.
    ///
    /// # Errors
    /// The plugin fails.
    pub fn delete(&mut self, node: Node) -> Result<()> {
        self.server = None;
        let deleted = call(node, "DEL", &self.container, &self.namespace.path(), &self.spec);
        deleted
            .map(drop)
            .with_context(|| format!("pod {}/{}", self.spec.namespace, self.spec.name))
    }

    /// Asks the plugin about the attachment (CNI CHECK).
    ///
    /// # Errors
    /// The plugin finds something missing.
    pub fn check(&self, node: Node) -> Result<()> {
        call(node, "CHECK", &self.container, &self.namespace.path(), &self.spec).map(drop)
    }
}

#[derive(Deserialize)]
struct Added {
    #[serde(default)]
    ips: Vec<AddedIp>,
}

#[derive(Deserialize)]
struct AddedIp {
    address: String,
}

/// Calls every plugin of the node's list, each with the result of the one before, in reverse for DEL.
pub(crate) fn call(node: Node, command: &str, container: &str, netns: &Path, spec: &PodSpec) -> Result<Value> {
    let list = List::read(node.conf_dir)?;
    let cache = node.conf_dir.join(format!("{container}.result"));
    // libcni keeps ADD's result and gives it to CHECK and DEL.
    let mut result = if command == "ADD" {
        None
    } else {
        fs::read(&cache)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
    };
    let mut plugins: Vec<_> = list.plugins.iter().collect();
    if command == "DEL" {
        plugins.reverse();
    }
    for plugin in plugins {
        let kind = plugin
            .get("type")
            .and_then(Value::as_str)
            .ok_or_else(|| anyhow!("a plugin without a type"))?;
        let program = process::binary(kind)?;
        let folder = program.parent().map(PathBuf::from).unwrap_or_default();
        let mut config = plugin.clone();
        config.insert("name".to_owned(), list.name.clone().into());
        config.insert("cniVersion".to_owned(), list.cni_version.clone().into());
        if plugin
            .get("capabilities")
            .is_some_and(|can| can["portMappings"] == true)
        {
            config.insert(
                "runtimeConfig".to_owned(),
                json!({ "portMappings": port_mappings(spec) }),
            );
        }
        if let Some(previous) = &result {
            config.insert("prevResult".to_owned(), Value::clone(previous));
        }
        let mut call = Command::new(&program);
        call.env_clear()
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", container)
            .env("CNI_NETNS", netns)
            .env("CNI_IFNAME", IFNAME)
            .env("CNI_PATH", folder)
            .env(
                "CNI_ARGS",
                format!(
                    "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={container}",
                    spec.namespace, spec.name
                ),
            );
        let output = process::output(call, node.namespace, &serde_json::to_vec(&config)?)?;
        if !output.status.success() {
            let said = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).trim().to_owned());
            bail!(
                "CNI {command} by {kind}: {}: {}",
                process::describe(output.status),
                said.join(" ")
            );
        }
        if command == "ADD" {
            let text = String::from_utf8_lossy(&output.stdout);
            result = Some(serde_json::from_str(&text).with_context(|| format!("CNI ADD by {kind} printed {text:?}"))?);
        }
    }
    match command {
        "ADD" => fs::write(&cache, serde_json::to_vec(&result)?)?,
        "DEL" => fs::remove_file(&cache).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?,
        _ => {}
    }
    Ok(result.unwrap_or_default())
}

/// A pod's hostPorts, as container runtimes write them.
fn port_mappings(spec: &PodSpec) -> Vec<Value> {
    let mapped = spec.ports.iter().filter_map(|port| Some((port, port.host_port?)));
    let mappings = mapped.map(|(port, host_port)| {
        json!({
            "hostPort": host_port, "containerPort": port.port, "protocol": port.protocol.to_lowercase(),
            "hostIP": port.host_ip.clone().unwrap_or_default(),
        })
    });
    mappings.collect()
}

/// A network configuration list (CNI specification, section 1).
#[derive(Deserialize)]
struct List {
    #[serde(rename = "cniVersion")]
    cni_version: String,
    name: String,
    plugins: Vec<Map<String, Value>>,
}

impl List {
    /// The first list of a folder by name, as container runtimes choose it.
    fn read(folder: &Path) -> Result<Self> {
        let path =
            conflist(folder)?.ok_or_else(|| anyhow!("no .conflist in {}: has the agent started?", folder.display()))?;
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{}", path.display()))
    }
}

/// The configuration list of a folder, once the agent has written it.
///
/// # Errors
/// The folder cannot be listed.
pub fn conflist(folder: &Path) -> Result<Option<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "conflist") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found.into_iter().next())
}
