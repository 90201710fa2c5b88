//! The services of the site's pods, those that nobody asks for, and how the API has both.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::Seat;
use crate::bench::workload::PORT;

/// A service that the pod on the client's own node answers.
pub const NEAR_SERVICE: Served = Served {
    number: 250,
    backend: Seat::Near,
    port: PORT,
};
/// The port of every service.
pub const SERVICE_PORT: u16 = 80;
/// The frontends of IPv4 of a service: TCP and UDP, at its own address and at the node's.
pub const FRONTENDS: usize = 4;
/// How many services nobody asks for are on [`super::ground::Ground::Crowded`].
const CROWD: u16 = 45_000;

/// A service that a pod of the site's answers.
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

    /// The service in both families, with a port on every node, and its slices with the pod's addresses.
    pub fn object(self, backend: (Ipv4Addr, Ipv6Addr)) -> String {
        let (name, port) = (format!("served-{}", self.number), self.port);
        let own = (self.address(), self.address6());
        let node_port = self.node_port();
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
        text
    }
}

/// Services of one port and two endpoints, none of which is there.
pub fn crowd() -> String {
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
