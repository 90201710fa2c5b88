//! Endpoint slices, from `discovery.k8s.io/v1.EndpointSlice`: who answers for a service.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1 as discovery;
use serde::{Deserialize, Serialize};

use super::{ObjectName, Problem, Protocol, Reduce, Word};

/// The label by which a slice names its service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// A slice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// Its service, which is of the slice's own namespace.
    pub service: ObjectName,
    /// Who answers. An endpoint's further addresses are left out: the API says that consumers use the first.
    pub endpoints: Vec<Endpoint>,
    /// On which ports; they hold for this slice's endpoints alone.
    pub ports: Vec<SlicePort>,
    /// What of it is refused, or not served yet. The rest is served.
    #[serde(skip)]
    pub problems: Vec<Problem>,
}

/// Someone who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// Takes new connections. The API's default is yes.
    pub ready: bool,
    /// Answers, though perhaps on its way out. The API's default is yes.
    pub serving: bool,
    /// Is on its way out.
    pub terminating: bool,
    /// The node it runs on, where known.
    pub node: Option<Word>,
    /// For whom it is meant; `None` where nothing is said.
    pub hints: Option<Box<Hints>>,
}

/// For whom an endpoint is meant, as the controller of slices spreads them for `trafficDistribution`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hints {
    /// `forZones`: the names of zones. May be empty.
    pub zones: Vec<Word>,
    /// `forNodes`: the names of nodes. May be empty.
    pub nodes: Vec<Word>,
}

/// A port of a slice's endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlicePort {
    /// The name, by which it belongs to the port of that name of the service. May be empty.
    pub name: Word,
    /// TCP unless told otherwise.
    pub protocol: Protocol,
    /// The port on the endpoints.
    pub port: u16,
}

impl Reduce for Slice {
    type Object = discovery::EndpointSlice;
    type Key = ObjectName;
    const KIND: &'static str = "EndpointSlice";

    fn key(name: &ObjectName) -> ObjectName {
        name.clone()
    }

    /// `None` for a slice that belongs to no service or to another proxy, or whose endpoints are domain names. An endpoint
    /// or a port that cannot be read or served is left out alone, see [`Slice::problems`].
    fn convert(name: &ObjectName, object: &discovery::EndpointSlice) -> Result<Option<Self>, Problem> {
        let labels = object.metadata.labels.as_ref();
        if super::is_not_ours(labels) {
            return Ok(None);
        }
        let service = labels.and_then(|labels| labels.get(SERVICE_NAME_LABEL));
        let Some(service) = service.filter(|service| !service.is_empty()) else {
            return Ok(None);
        };
        let is_ipv4 = match object.address_type.as_str() {
            "IPv4" => true,
            "IPv6" => false,
            "FQDN" => return Ok(None),
            other => {
                return Err(Problem::refused(
                    "EndpointSlice",
                    name,
                    format!("addressType: {other:?} is not known"),
                    "use IPv4 or IPv6",
                ));
            }
        };
        let mut slice = Self {
            service: ObjectName::new(name.namespace(), service),
            ..Self::default()
        };
        for endpoint in object.endpoints.as_deref().unwrap_or_default() {
            match read_endpoint(name, endpoint, is_ipv4) {
                Ok(endpoint) => slice.endpoints.push(endpoint),
                Err(problem) => slice.problems.push(problem),
            }
        }
        for port in object.ports.as_deref().unwrap_or_default() {
            let read = read_port(name, port).and_then(|port| unlike(name, port, &slice.ports));
            match read {
                Ok(port) => slice.ports.push(port),
                Err(problem) => slice.problems.push(problem),
            }
        }
        // There are many slices, and none of them changes.
        slice.endpoints.shrink_to_fit();
        slice.ports.shrink_to_fit();
        slice.problems.shrink_to_fit();
        Ok(Some(slice))
    }
}

fn read_endpoint(name: &ObjectName, endpoint: &discovery::Endpoint, is_ipv4: bool) -> Result<Endpoint, Problem> {
    let refused = |what: String| {
        Problem::refused(
            "EndpointSlice",
            name,
            format!("endpoints: {what}"),
            "give the address of a pod or of a host",
        )
    };
    let Some(written) = endpoint.addresses.first() else {
        return Err(refused("an endpoint has no address".into()));
    };
    let address: IpAddr = written
        .parse()
        .map_err(|_| refused(format!("{written:?} is not an IP address")))?;
    if address.is_ipv4() != is_ipv4 {
        return Err(refused(format!("{written:?} is not of the slice's addressType")));
    }
    if let Some(why) = super::unusable(address) {
        return Err(refused(format!("{written:?} {why}")));
    }
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    Ok(Endpoint {
        address,
        ready: conditions.ready.unwrap_or(true),
        serving: conditions.serving.unwrap_or(true),
        terminating: conditions.terminating.unwrap_or(false),
        node: endpoint.node_name.as_deref().map(Word::from),
        hints: read_hints(endpoint.hints.as_ref()),
    })
}

/// What an endpoint's hints say; `None` if they name nobody, which is to say nothing.
fn read_hints(written: Option<&discovery::EndpointHints>) -> Option<Box<Hints>> {
    let written = written?;
    let zones = written.for_zones.iter().flatten().map(|zone| zone.name.as_str().into());
    let nodes = written.for_nodes.iter().flatten().map(|node| node.name.as_str().into());
    let hints = Hints {
        zones: zones.collect(),
        nodes: nodes.collect(),
    };
    (hints != Hints::default()).then(|| Box::new(hints))
}

/// A port of a name of its own, as the API asks.
fn unlike(name: &ObjectName, port: SlicePort, others: &[SlicePort]) -> Result<SlicePort, Problem> {
    if others.iter().any(|other| other.name == port.name) {
        return Err(Problem::refused(
            "EndpointSlice",
            name,
            format!("ports: {} has the name {:?} of another port", port.port, port.name),
            "give each port of a slice a name of its own",
        ));
    }
    Ok(port)
}

fn read_port(name: &ObjectName, port: &discovery::EndpointPort) -> Result<SlicePort, Problem> {
    let label = port.name.as_deref().unwrap_or_default();
    let refused =
        |what: String, remedy: &str| Problem::refused("EndpointSlice", name, format!("ports: {what}"), remedy);
    let Some(protocol) = Protocol::read(port.protocol.as_deref()) else {
        let written = port.protocol.as_deref().unwrap_or_default();
        let what = format!("port {label:?} asks for protocol {written}, which is not served");
        return Err(refused(what, "use TCP, UDP or SCTP"));
    };
    let Some(written) = port.port else {
        return Err(refused(
            format!("port {label:?} has no number"),
            "give one: services cannot use all ports at once",
        ));
    };
    let Some(number) = super::port_number(written) else {
        return Err(refused(
            format!("{written} of port {label:?} is not a port number"),
            "use a number from 1 to 65535",
        ));
    };
    Ok(SlicePort {
        name: label.into(),
        protocol,
        port: number,
    })
}
