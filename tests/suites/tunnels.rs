//! Tunnels over IPv6, in real traffic: the example's pods and services in a cluster of IPv6, on nodes that have IPv6 alone, and on
//! nodes of which some have IPv4 besides.

use std::{
    fs,
    net::{Ipv6Addr, SocketAddr},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use netpath_agent::datapath::{pins::Pins, tables};
use netpath_common::abi::route;
use netpath_tests::lab::{
    cluster::Cluster, home::Home, namespace::Namespace, probe, services, start::Start, topology::UPLINK,
};

use crate::{
    example,
    lab::{arrive_whole, eventually, every_path_passes},
};

/// The addresses of the three nodes.
type Nodes<'a> = [&'a [&'a str]; 3];

/// What the example is in IPv6, with other addresses of its nodes.
fn in_ipv6(text: &str, nodes: Nodes<'_>) -> String {
    let mut text = text.replace("IPv4", "IPv6");
    for (number, (old, new)) in ["192.168.50.11", "192.168.50.12", "192.168.51.13"]
        .into_iter()
        .zip(nodes)
        .enumerate()
    {
        let subnet = number + 1;
        let new = new
            .iter()
            .map(|address| format!("{{type: InternalIP, address: '{address}'}}"));
        let new = new.collect::<Vec<_>>().join("\n    - ");
        text = text
            .replace(&format!("10.244.{subnet}.0/24"), &format!("'fd00:244:{subnet}::/64'"))
            .replace(&format!("{{type: InternalIP, address: {old}}}"), &new);
    }
    for service in [10, 20, 30] {
        text = text.replace(&format!("10.96.0.{service}"), &format!("'fd00:96::{service}'"));
    }
    text
}

const RANGE: &str = "
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: ['fd00:96::/108']}
";

/// The example's cluster on nodes with these addresses.
fn cluster(nodes: Nodes<'_>) -> Result<Cluster> {
    let folder = tempfile::tempdir()?;
    for entry in fs::read_dir(example::folder())? {
        let path = entry?.path();
        let name = path.file_name().context("a file has a name")?;
        fs::write(folder.path().join(name), in_ipv6(&fs::read_to_string(&path)?, nodes))?;
    }
    fs::write(folder.path().join("range.yaml"), RANGE)?;
    let cluster = Start::of(folder.path()).run(Home::unique()?)?;
    services::settle(&cluster)?;
    Ok(cluster)
}

/// Nodes that have IPv6 alone: the third is behind the router.
const ALONE: Nodes<'_> = [&["fd00:50::11"], &["fd00:50::12"], &["fd00:51::13"]];

/// The second and the third are behind the router, and the second has IPv6 alone: the first reaches it through a tunnel of IPv6,
/// and the third through one of IPv4.
const MIXED: Nodes<'_> = [
    &["fd00:50::11", "192.168.50.11"],
    &["fd00:51::12"],
    &["fd00:51::13", "192.168.51.13"],
];

/// The kinds of paths that lead through tunnels.
const KINDS: &[&str] = &[
    "pod to pod, tunnel",
    "ClusterIP, tunnel",
    "node to ClusterIP, tunnel",
    "node to NodePort, tunnel",
    "node to NodePort on ::1, tunnel",
    "NodePort from outside, pod behind the tunnel",
    "node to pod, tunnel",
    "pod to node, tunnel",
    "pod to NodePort, tunnel",
];

#[test]
fn every_path_through_a_cluster_of_ipv6_alone_passes() -> Result<()> {
    every_path_passes(cluster(ALONE)?, KINDS)
}

#[test]
fn every_path_passes_where_some_nodes_have_ipv4_too() -> Result<()> {
    every_path_passes(cluster(MIXED)?, KINDS)
}

#[test]
fn fragments_and_segmented_datagrams_arrive_whole() -> Result<()> {
    arrive_whole(cluster(ALONE)?)?;
    arrive_whole(cluster(MIXED)?)
}

/// What `ip` prints in a namespace.
fn ip(namespace: &Namespace, arguments: &str) -> Result<String> {
    namespace.run(|| {
        let output = Command::new("ip").args(arguments.split_whitespace()).output()?;
        ensure!(output.status.success(), "ip {arguments}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    })
}

/// Pods know 1430 bytes; the uplink shrinks, and the node tells what its tunnel takes now.
#[test]
fn a_pod_is_told_what_fits_into_the_tunnel() -> Result<()> {
    let cluster = cluster(ALONE)?;
    let (from, to) = (cluster.pod("test")?, cluster.pod("wear-2")?);
    let node = &cluster.topology.nodes[from.node].namespace;
    ensure!(ip(&from.namespace, "link show eth0")?.contains("mtu 1430"));
    ip(node, &format!("link set {UPLINK} mtu 1400"))?;
    let pins = Pins::new(&cluster.agents[from.node].bpf_root);
    eventually("the node knows its uplink's MTU", || {
        let config = tables::config(&pins).and_then(|config| config.get());
        config.is_ok_and(|config| (config.uplink_mtu, config.pod_mtu) == (1400, 1330))
    })?;
    let server = SocketAddr::new(to.address, 8080);
    probe::upload(&from.namespace, server, 1 << 20)?;
    let route = ip(&from.namespace, &format!("-6 route get {}", to.address))?;
    ensure!(route.contains("mtu 1330"), "{route}");
    cluster.stop()
}

/// As routers make themselves known: by an address that is of the link alone.
#[test]
fn the_router_may_have_an_address_of_the_link_alone() -> Result<()> {
    let cluster = cluster(ALONE)?;
    let (from, to) = (cluster.pod("test")?, cluster.pod("wear-2")?);
    let shown = ip(&cluster.topology.router, "-6 -o address show dev segment1 scope link")?;
    let router = shown.split_whitespace().find_map(|word| word.split_once("/64"));
    let (router, _) = router.with_context(|| format!("no address: {shown}"))?;
    let node = &cluster.topology.nodes[from.node].namespace;
    ip(node, &format!("-6 route replace default via {router} dev {UPLINK}"))?;
    let router: Ipv6Addr = router.parse()?;
    let far: Ipv6Addr = "fd00:51::13".parse()?;
    let key = route::v6::RouteKey {
        address: far.octets(),
        prefix_len: 128,
    };
    let pins = Pins::new(&cluster.agents[from.node].bpf_root);
    eventually("the route names the router so", || {
        let found = tables::routes::<[u8; 16]>(&pins).and_then(|routes| routes.get(&key));
        found.is_ok_and(|found| found.is_some_and(|route| route.next_hop == router.octets()))
    })?;
    let server = SocketAddr::new(to.address, 8080);
    probe::http(&from.namespace, server)?;
    probe::upload(&from.namespace, server, 1 << 20)?;
    cluster.stop()
}
