//! Services: made in any number, and asked until the network knows them.

use std::{
    io::Read as _,
    net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use serde_json::json;

use super::{
    follow::{ANSWERING, Follow},
    site::{Site, object},
};
use crate::bench::netns::Namespace;

/// Requests under way at once.
const AT_ONCE: usize = 16;
/// How long a network may take to know a service.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long one attempt to connect may take.
const ATTEMPT: Duration = Duration::from_millis(250);
/// Between two attempts.
const BETWEEN: Duration = Duration::from_millis(5);
/// How long none may have failed: longer than kube-proxy waits between two of its changes.
const STEADY: Duration = Duration::from_millis(2_500);

/// Brings the cluster to so many services, all with two backends, and waits until the first node serves the last of them. Tells how
/// long that took after the API server had it.
///
/// # Errors
/// The API server refuses one, or it is not served within five minutes.
pub fn fill(site: &Site, follow: &Follow, services: usize) -> Result<Duration> {
    let (services_api, slices) = (site.api::<Service>(), site.api::<EndpointSlice>());
    let have = site.ask(async {
        let all: Api<Service> = Api::all(services_api.clone().into_client());
        Ok(all.list_metadata(&ListParams::default()).await?.items.len())
    })?;
    ensure!(
        have < services,
        "the cluster has {have} services already, of {services} that it is to have"
    );
    let (last, rest) = (services - 1, have..services - 1);
    let backends = [site.near.address, site.far.address];
    site.ask(
        stream::iter(rest)
            .map(|number| create(&services_api, &slices, format!("many-{number}"), backends))
            .buffer_unordered(AT_ONCE)
            .try_for_each(|_| async { Ok(()) }),
    )?;
    let made = site.ask(create(&services_api, &slices, format!("many-{last}"), backends))?;
    let since = Instant::now();
    let target = SocketAddrV4::new(address_of(&made)?, 80);
    follow.answered(target, PATIENCE)?;
    Ok(since.elapsed())
}

/// Makes a service whose endpoints are given, and not chosen from pods.
///
/// # Errors
/// The API server refuses it.
pub async fn create(
    services: &Api<Service>,
    slices: &Api<EndpointSlice>,
    name: String,
    backends: impl IntoIterator<Item = Ipv4Addr>,
) -> Result<Service> {
    let service = object::<Service>(json!({
        "metadata": { "name": name },
        "spec": { "ports": [{ "port": 80, "targetPort": ANSWERING }] },
    }))?;
    let slice = object::<EndpointSlice>(json!({
        "metadata": {
            "name": name,
            "labels": { "kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": "bench" },
        },
        "addressType": "IPv4",
        "endpoints": backends.into_iter().map(|address| json!({ "addresses": [address] })).collect::<Vec<_>>(),
        "ports": [{ "port": ANSWERING, "protocol": "TCP" }],
    }))?;
    slices
        .create(&PostParams::default(), &slice)
        .await
        .with_context(|| format!("EndpointSlice {name}"))?;
    services
        .create(&PostParams::default(), &service)
        .await
        .with_context(|| format!("Service {name}"))
}

/// The address of a service.
///
/// # Errors
/// It has none.
pub fn address_of(service: &Service) -> Result<Ipv4Addr> {
    let spec = service.spec.as_ref();
    let address = spec.and_then(|spec| spec.cluster_ip.as_ref());
    address
        .and_then(|address| address.parse().ok())
        .context("a service was given no IPv4 address")
}

/// The NodePort of a service's first port.
///
/// # Errors
/// It has none.
pub fn node_port_of(service: &Service) -> Result<u16> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    let port = ports.and_then(|ports| ports.first()?.node_port);
    port.and_then(|port| u16::try_from(port).ok())
        .context("a service was given no NodePort")
}

/// Waits until connections from the client to the target arrive at a port in the server's namespace, and none has failed for a while:
/// kube-proxy may write rules again that led there already.
///
/// # Errors
/// They do not within five minutes.
pub fn responds(client: &Namespace, target: SocketAddrV4, server: &Namespace, port: u16) -> Result<()> {
    let listener = server.run(|| Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?))?;
    client.run(|| {
        let end = Instant::now() + PATIENCE;
        let mut since = None;
        loop {
            match TcpStream::connect_timeout(&SocketAddr::V4(target), ATTEMPT) {
                Ok(near) => {
                    let (far, _) = listener.accept()?;
                    // The server closes first, so that the client keeps no port for it.
                    far.shutdown(Shutdown::Write)?;
                    (&near).read_exact(&mut [0]).err();
                    if since.get_or_insert_with(Instant::now).elapsed() >= STEADY {
                        return Ok(());
                    }
                }
                Err(error) if Instant::now() >= end => {
                    return Err(error).with_context(|| format!("{target} does not answer after {PATIENCE:?}"));
                }
                Err(_) => since = None,
            }
            thread::sleep(BETWEEN);
        }
    })
}
