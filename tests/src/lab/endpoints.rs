//! Plays the endpoint controller: Services' selectors over pods' labels give EndpointSlices.

use std::{collections::BTreeMap, fs, net::IpAddr, path::Path};

use anyhow::{Context, Result};
use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, Service},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use super::objects::PodSpec;

/// The file that holds the slices, beside the objects that the agents read.
pub const FILE: &str = "endpointslices.yaml";

/// A pod that runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// The pod.
    pub spec: PodSpec,
    /// The node it runs on.
    pub node: String,
    /// Its address.
    pub address: IpAddr,
}

/// The slices of all Services with a selector. Pods that resolve a Service's named ports to other numbers go to slices of their
/// own, because a slice's ports hold for all its endpoints.
pub fn slices(services: &[Service], pods: &[Running]) -> Vec<EndpointSlice> {
    let mut slices = Vec::new();
    for service in services {
        let Some(selector) = service
            .spec
            .as_ref()
            .and_then(|spec| spec.selector.as_ref())
            .filter(|s| !s.is_empty())
        else {
            continue;
        };
        let namespace = service.metadata.namespace.as_deref().unwrap_or("default");
        let mut groups: BTreeMap<Vec<PortKey>, Vec<&Running>> = BTreeMap::new();
        for pod in pods
            .iter()
            .filter(|pod| pod.spec.namespace == namespace && selects(selector, &pod.spec.labels))
        {
            groups.entry(ports(service, &pod.spec)).or_default().push(pod);
        }
        // A Service that nobody serves has an empty slice, as from the real controller.
        if groups.is_empty() {
            groups.insert(Vec::new(), Vec::new());
        }
        slices.extend(
            groups
                .into_iter()
                .enumerate()
                .map(|(number, (ports, pods))| slice(service, number, ports, &pods)),
        );
    }
    slices
}

/// Writes the slices where the agents read them, whole: beside, then renamed.
///
/// # Errors
/// The folder refuses the file.
pub fn publish(folder: &Path, slices: &[EndpointSlice]) -> Result<()> {
    let mut text = String::from("# Written by the lab, which plays the endpoint controller.\n");
    for slice in slices {
        text.push_str("---\n");
        text.push_str(&serde_norway::to_string(slice)?);
    }
    let (beside, file) = (folder.join(".endpointslices.new"), folder.join(FILE));
    fs::write(&beside, text).with_context(|| format!("cannot write {}", beside.display()))?;
    fs::rename(&beside, &file).with_context(|| format!("cannot write {}", file.display()))
}

/// Name, protocol, number of a slice's port.
type PortKey = (Option<String>, String, u16);

fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn ports(service: &Service, pod: &PodSpec) -> Vec<PortKey> {
    let ports = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default();
    let resolved = ports.iter().filter_map(|port| {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        let number = match &port.target_port {
            None => u16::try_from(port.port).ok(),
            Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
            Some(IntOrString::String(name)) => {
                let named =
                    |port: &&super::objects::PodPort| port.name.as_ref() == Some(name) && port.protocol == protocol;
                pod.ports.iter().find(named).map(|port| port.port)
            }
        };
        Some((port.name.clone(), protocol, number?))
    });
    resolved.collect()
}

/// What a slice calls the family of its addresses.
fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

fn slice(service: &Service, number: usize, ports: Vec<PortKey>, pods: &[&Running]) -> EndpointSlice {
    let name = service.metadata.name.clone().unwrap_or_default();
    let endpoints = pods.iter().map(|pod| Endpoint {
        addresses: vec![pod.address.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(true),
            serving: Some(true),
            terminating: Some(false),
        }),
        node_name: Some(pod.node.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            name: Some(pod.spec.name.clone()),
            namespace: Some(pod.spec.namespace.clone()),
            ..Default::default()
        }),
        ..Default::default()
    });
    let ports = ports.into_iter().map(|(name, protocol, port)| EndpointPort {
        // The API writes an unnamed port as the empty string.
        name: Some(name.unwrap_or_default()),
        port: Some(i32::from(port)),
        protocol: Some(protocol),
        ..Default::default()
    });
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{number}")),
            namespace: service.metadata.namespace.clone(),
            labels: Some(BTreeMap::from([
                ("kubernetes.io/service-name".to_owned(), name),
                (
                    "endpointslice.kubernetes.io/managed-by".to_owned(),
                    "netpath-lab".to_owned(),
                ),
            ])),
            ..Default::default()
        },
        address_type: pods.first().map_or("IPv4", |pod| family(pod.address)).to_owned(),
        endpoints: Some(endpoints.collect()),
        ports: Some(ports.collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::objects::PodPort, *};

    fn pod(name: &str, app: &str, host: u8, port: u16) -> Running {
        Running {
            spec: PodSpec {
                namespace: "shop".to_owned(),
                name: name.to_owned(),
                node: None,
                labels: BTreeMap::from([
                    ("app".to_owned(), app.to_owned()),
                    ("tier".to_owned(), "web".to_owned()),
                ]),
                ports: vec![PodPort {
                    name: Some("http".to_owned()),
                    port,
                    protocol: "TCP".to_owned(),
                    host_port: None,
                    host_ip: None,
                }],
            },
            node: "node-1".to_owned(),
            address: [10, 0, 0, host].into(),
        }
    }

    fn service(spec: &str) -> Result<Service> {
        let text = format!("{{apiVersion: v1, kind: Service, metadata: {{name: s, namespace: shop}}, spec: {spec}}}");
        Ok(serde_norway::from_str(&text)?)
    }

    type Told = (String, Vec<String>, Vec<(String, String, i32)>);

    /// Of each slice: its name, its endpoints' addresses, its ports.
    fn told(slices: &[EndpointSlice]) -> Vec<Told> {
        let told = slices.iter().map(|slice| {
            let addresses = slice
                .endpoints
                .iter()
                .flatten()
                .flat_map(|endpoint| endpoint.addresses.clone())
                .collect();
            let ports = slice.ports.iter().flatten().map(|port| {
                (
                    port.name.clone().unwrap_or_default(),
                    port.protocol.clone().unwrap_or_default(),
                    port.port.unwrap_or(-1),
                )
            });
            (
                slice.metadata.name.clone().unwrap_or_default(),
                addresses,
                ports.collect(),
            )
        });
        told.collect()
    }

    #[test]
    fn selectors_choose_and_named_ports_resolve_per_pod() -> Result<()> {
        let service =
            service("{selector: {app: wear}, ports: [{name: web, port: 80, targetPort: http}, {name: raw, port: 7}]}")?;
        let mut elsewhere = pod("d", "wear", 4, 8080);
        elsewhere.spec.namespace = "other".to_owned();
        let pods = [
            pod("a", "wear", 1, 8080),
            pod("b", "watch", 2, 8080),
            pod("c", "wear", 3, 9090),
            elsewhere,
        ];
        let ports = |http| {
            vec![
                ("web".to_owned(), "TCP".to_owned(), http),
                ("raw".to_owned(), "TCP".to_owned(), 7),
            ]
        };
        let expected = vec![
            ("s-0".to_owned(), vec!["10.0.0.1".to_owned()], ports(8080)),
            ("s-1".to_owned(), vec!["10.0.0.3".to_owned()], ports(9090)),
        ];
        assert_eq!(told(&slices(&[service], &pods)), expected);
        Ok(())
    }

    #[test]
    fn no_selector_gives_no_slice_and_no_pod_an_empty_one() -> Result<()> {
        let bare = service("{ports: [{port: 80}]}")?;
        assert_eq!(told(&slices(&[bare], &[pod("a", "wear", 1, 80)])), vec![]);
        let lonely = service("{selector: {app: nobody}, ports: [{port: 80}]}")?;
        assert_eq!(
            told(&slices(&[lonely], &[pod("a", "wear", 1, 80)])),
            vec![("s-0".to_owned(), vec![], vec![])]
        );
        Ok(())
    }

    #[test]
    fn what_is_published_reads_back() -> Result<()> {
        let service = service("{selector: {app: wear}, ports: [{port: 80, targetPort: http}]}")?;
        let slices = slices(&[service], &[pod("a", "wear", 1, 8080)]);
        let folder = tempfile::tempdir()?;
        publish(folder.path(), &slices)?;
        let back: EndpointSlice = serde_norway::from_str(&fs::read_to_string(folder.path().join(FILE))?)?;
        assert_eq!(vec![back], slices);
        Ok(())
    }
}
