//! The Kubernetes YAML of a cluster, reduced to what the lab needs of it. Whatever is wrong is told with file and object.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use serde::{Deserialize, de::DeserializeOwned};
use serde_norway::Value;

/// A Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// Its name.
    pub name: String,
    /// Its InternalIPs. There is one.
    pub addresses: Vec<IpAddr>,
    /// Its pods' subnets.
    pub pod_cidrs: Vec<String>,
}

/// A port that a pod's containers name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPort {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// The port.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The port of the node that leads to it, if one does.
    pub host_port: Option<i32>,
    /// The node's address for that; none for all of them.
    pub host_ip: Option<String>,
}

/// A Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSpec {
    /// Its namespace in the API.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The node it is bound to; none leaves the choice to the lab.
    pub node: Option<String>,
    /// What Services select it by.
    pub labels: BTreeMap<String, String>,
    /// What it serves.
    pub ports: Vec<PodPort>,
}

/// All objects of a folder.
#[derive(Debug, Default)]
pub struct Objects {
    /// The files they came from.
    pub files: Vec<PathBuf>,
    /// Nodes, by name.
    pub nodes: Vec<NodeSpec>,
    /// Pods, as they come.
    pub pods: Vec<PodSpec>,
    /// Services, as they come.
    pub services: Vec<Service>,
}

/// Reads every `.yaml`, `.yml` and `.json` file of a folder. Objects of other kinds are left alone.
///
/// # Errors
/// The folder or a file cannot be read; a document is no YAML or no object of its kind; an object lacks what the lab needs,
/// or is there twice.
pub fn read(folder: &Path) -> Result<Objects> {
    let mut objects = Objects::default();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
        {
            objects.files.push(path);
        }
    }
    objects.files.sort();
    let mut seen = BTreeMap::new();
    for path in objects.files.clone() {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        for (number, document) in serde_norway::Deserializer::from_str(&text).enumerate() {
            let place = format!("{}, document {}", path.display(), number + 1);
            let value = Value::deserialize(document).with_context(|| place.clone())?;
            if !value.is_null() {
                add(&mut objects, &mut seen, value, &place)?;
            }
        }
    }
    objects.nodes.sort_by(|one, other| one.name.cmp(&other.name));
    if objects.nodes.is_empty() {
        bail!("{}: no Node in it", folder.display());
    }
    Ok(objects)
}

fn add(objects: &mut Objects, seen: &mut BTreeMap<String, String>, value: Value, place: &str) -> Result<()> {
    let text = |path: &[&str]| {
        let found = path.iter().try_fold(&value, |value, key| value.get(*key));
        found.and_then(Value::as_str).map(str::to_owned)
    };
    let kind = text(&["kind"]).ok_or_else(|| anyhow!("{place}: no kind: is it a Kubernetes object?"))?;
    let name = text(&["metadata", "name"]).ok_or_else(|| anyhow!("{place}: {kind} without metadata.name"))?;
    let namespace = text(&["metadata", "namespace"]).unwrap_or_else(|| "default".to_owned());
    let title = if kind == "Node" {
        format!("{kind} {name}")
    } else {
        format!("{kind} {namespace}/{name}")
    };
    let what = format!("{place}: {title}");
    if let Some(first) = seen.insert(title, place.to_owned()) {
        bail!("{what} is also in {first}: keep one of them");
    }
    match kind.as_str() {
        "Node" => objects.nodes.push(node(name, parse(value, &what)?).context(what)?),
        "Pod" => objects
            .pods
            .push(pod(namespace, name, parse(value, &what)?).context(what)?),
        "Service" => {
            let mut service: Service = parse(value, &what)?;
            service.metadata.namespace.get_or_insert(namespace);
            objects.services.push(service);
        }
        _ => {}
    }
    Ok(())
}

fn parse<T: DeserializeOwned>(value: Value, what: &str) -> Result<T> {
    serde_norway::from_value(value).with_context(|| what.to_owned())
}

fn node(name: String, node: Node) -> Result<NodeSpec> {
    let addresses = node.status.and_then(|status| status.addresses).unwrap_or_default();
    let internal = addresses.iter().filter(|address| address.type_ == "InternalIP");
    let addresses: Vec<_> = internal
        .map(|address| address.address.parse())
        .filter_map(Result::ok)
        .collect();
    if addresses.is_empty() {
        bail!("no IP address of type InternalIP in status.addresses");
    }
    let spec = node.spec.unwrap_or_default();
    Ok(NodeSpec {
        name,
        addresses,
        pod_cidrs: spec
            .pod_cidrs
            .or_else(|| Some(vec![spec.pod_cidr?]))
            .unwrap_or_default(),
    })
}

fn pod(namespace: String, name: String, pod: Pod) -> Result<PodSpec> {
    let spec = pod.spec.ok_or_else(|| anyhow!("no spec"))?;
    let mut ports = Vec::new();
    for port in spec
        .containers
        .into_iter()
        .flat_map(|container| container.ports.unwrap_or_default())
    {
        let number = u16::try_from(port.container_port).ok().filter(|number| *number > 0);
        ports.push(PodPort {
            name: port.name,
            port: number.ok_or_else(|| anyhow!("containerPort {} is not in 1..=65535", port.container_port))?,
            protocol: port.protocol.unwrap_or_else(|| "TCP".to_owned()),
            host_port: port.host_port,
            host_ip: port.host_ip,
        });
    }
    let labels = pod.metadata.labels.unwrap_or_default();
    Ok(PodSpec {
        namespace,
        name,
        node: spec.node_name,
        labels,
        ports,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Objects> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("all.yaml"), text)?;
        read(folder.path())
    }

    const NODE: &str = "{apiVersion: v1, kind: Node, metadata: {name: a}, spec: {podCIDR: 10.0.0.0/24}, \
                        status: {addresses: [{type: InternalIP, address: 192.168.50.1}]}}\n---\n";

    #[test]
    fn the_example_is_read_whole() -> Result<()> {
        let objects = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/online-store"))?;
        let nodes: Vec<_> = objects
            .nodes
            .iter()
            .map(|node| (node.name.as_str(), node.addresses[0].to_string()))
            .collect();
        let expected = [
            ("node-1", "192.168.50.11"),
            ("node-2", "192.168.50.12"),
            ("node-3", "192.168.51.13"),
        ];
        assert_eq!(nodes, expected.map(|(name, address)| (name, address.to_owned())));
        let pods: Vec<_> = objects.pods.iter().map(|pod| pod.name.as_str()).collect();
        assert_eq!(pods, ["wear-1", "wear-2", "watch", "database", "test"]);
        assert_eq!(objects.services.len(), 3);
        Ok(())
    }

    #[test]
    fn errors_name_file_and_object() {
        let cases = [
            (format!("{NODE}kind: [\n"), "all.yaml, document 2"),
            (format!("{NODE}{{}}"), "all.yaml, document 2: no kind"),
            (format!("{NODE}{NODE}"), "all.yaml, document 2: Node a is also in"),
            (
                format!("{NODE}{{kind: Pod, apiVersion: v1, metadata: {{name: p}}}}"),
                "Pod default/p: no spec",
            ),
            (
                format!("{NODE}{{kind: Service, apiVersion: v1, metadata: {{name: s}}, spec: {{ports: 7}}}}"),
                "document 2: Service default/s: ",
            ),
            (
                "{kind: Node, apiVersion: v1, metadata: {name: a}}".to_owned(),
                "Node a: no IP address of type InternalIP",
            ),
            (String::new(), "no Node in it"),
        ];
        for (text, expected) in cases {
            match of(&text) {
                Ok(objects) => panic!("{text} was taken: {objects:?}"),
                Err(error) => assert!(format!("{error:#}").contains(expected), "{error:#}\nlacks\n{expected}"),
            }
        }
    }
}
