//! The API servers' own addresses, as the cluster itself says them: the endpoints of the service `default/kubernetes`. They
//! are written down, so that a node that starts while one server is away finds another.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::model::{Cluster, ObjectName, Protocol};
use crate::source::kept;

/// The version of the record's shape: a list of addresses with ports.
const VERSION: u32 = 1;
/// The name that every API server's certificate has: clients in pods ask for it.
pub(super) const TLS_SERVER_NAME: &str = "kubernetes.default.svc";

/// The record below the agent's own folder.
pub(super) fn path(state: &Path) -> PathBuf {
    state.join("api-servers.json")
}

/// The addresses that were written down.
///
/// # Errors
/// The record is of no use.
pub(super) fn recorded(state: &Path) -> Result<Vec<SocketAddr>, String> {
    Ok(kept::read(&path(state), VERSION)?.unwrap_or_default())
}

/// Writes the addresses down, if they are others than before; returns whether they are. None are no news: a cluster without
/// any would not be here to say so.
///
/// # Errors
/// The record cannot be written.
pub(super) fn record(state: &Path, servers: &[SocketAddr]) -> std::io::Result<bool> {
    if servers.is_empty() || recorded(state).is_ok_and(|known| known == servers) {
        return Ok(false);
    }
    kept::write(&path(state), VERSION, &servers)?;
    Ok(true)
}

/// The endpoints of `default/kubernetes` that take requests, in order.
pub fn endpoints(cluster: &Cluster) -> Vec<SocketAddr> {
    let service = ObjectName::new("default", "kubernetes");
    let slices = cluster.slices.values().filter(|slice| slice.service == service);
    let mut servers: Vec<SocketAddr> = slices
        .flat_map(|slice| {
            let ports = || slice.ports.iter().filter(|port| port.protocol == Protocol::Tcp);
            let port = ports().find(|port| &*port.name == "https").or_else(|| ports().next());
            let ready = slice.endpoints.iter().filter(|endpoint| endpoint.ready);
            ready.filter_map(move |endpoint| Some(SocketAddr::new(endpoint.address, port?.port)))
        })
        .collect();
    servers.sort_unstable();
    servers.dedup();
    servers
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Endpoint, Slice, SlicePort};

    fn slice(service: ObjectName, ends: &[(&str, bool)], ports: &[(&str, u16)]) -> Arc<Slice> {
        let endpoint = |(address, ready): &(&str, bool)| Endpoint {
            address: address.parse().unwrap(),
            ready: *ready,
            serving: *ready,
            terminating: !ready,
            node: None,
            hints: None,
        };
        let port = |(name, port): &(&str, u16)| SlicePort {
            name: (*name).into(),
            protocol: Protocol::Tcp,
            port: *port,
        };
        Arc::new(Slice {
            service,
            endpoints: ends.iter().map(endpoint).collect(),
            ports: ports.iter().map(port).collect(),
            problems: Vec::new(),
        })
    }

    #[test]
    fn the_endpoints_of_the_service_kubernetes_are_the_servers() {
        let mut cluster = Cluster::default();
        let kubernetes = ObjectName::new("default", "kubernetes");
        let ends = [("192.0.2.12", true), ("192.0.2.11", true), ("192.0.2.13", false)];
        cluster.slices.insert(
            kubernetes.clone(),
            slice(kubernetes.clone(), &ends, &[("metrics", 9100), ("https", 6443)]),
        );
        cluster.slices.insert(
            ObjectName::new("default", "kubernetes-6"),
            slice(kubernetes, &[("2001:db8::1", true)], &[("", 443)]),
        );
        let other = ObjectName::new("shop", "kubernetes");
        cluster
            .slices
            .insert(other.clone(), slice(other, &[("192.0.2.99", true)], &[("https", 6443)]));
        let expected = ["192.0.2.11:6443", "192.0.2.12:6443", "[2001:db8::1]:443"];
        let expected: Vec<SocketAddr> = expected.iter().map(|server| server.parse().unwrap()).collect();
        assert_eq!(endpoints(&cluster), expected);

        let state = tempfile::tempdir().unwrap();
        assert_eq!(recorded(state.path()), Ok(Vec::new()));
        assert!(record(state.path(), &expected).unwrap());
        assert_eq!(recorded(state.path()), Ok(expected.clone()));
        assert!(!record(state.path(), &expected).unwrap(), "no news");
        assert!(!record(state.path(), &[]).unwrap(), "none are no news");
        assert_eq!(recorded(state.path()), Ok(expected));
    }
}
