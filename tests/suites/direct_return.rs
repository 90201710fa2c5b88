//! Every node chooses alike, and nodes of one segment relay to each other: over real devices, by the real agents.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use netpath_tests::lab::{
    cluster::Cluster, home::Home, kept::Kept, pod::Answer, probe, services, start::Start, topology::CLIENT, wire,
};

use crate::example;

/// An address of a load balancer, which the router leads to one node.
const BALANCER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
const NODE_PORT: u16 = 30_080;
const PATIENCE: Duration = Duration::from_secs(5);

/// A service of three pods, one on each node.
fn objects() -> String {
    let pods: String = (1..=3)
        .map(|number| {
            format!(
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: web-{number}, namespace: default, labels: {{app: web}}}}\n\
                 spec: {{nodeName: node-{number}, containers: [{{name: web, image: web, ports: [\
                 {{name: http, containerPort: 8080, protocol: TCP}}, {{name: dns, containerPort: 9000, protocol: UDP}}]}}]}}\n"
            )
        })
        .collect();
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: default}}\n\
         spec: {{type: LoadBalancer, clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10], ipFamilies: [IPv4], selector: {{app: web}}, \
         ports: [{{name: http, protocol: TCP, port: 80, targetPort: http, nodePort: {NODE_PORT}}}, \
         {{name: dns, protocol: UDP, port: 53, targetPort: dns, nodePort: 30053}}]}}\n\
         status: {{loadBalancer: {{ingress: [{{ip: {BALANCER}, ipMode: VIP}}]}}}}\n\
         {pods}"
    )
}

/// The cluster, with every agent told to choose alike and to relay.
fn start() -> Result<Cluster> {
    let folder = example::nodes_with(&objects())?;
    let cluster = Start::of(folder.path())
        .agents_with(&["--maglev", "lab", "--direct-return", "on"])
        .run(Home::unique()?)?;
    services::settle(&cluster)?;
    lead(&cluster, 0)?;
    Ok(cluster)
}

/// Has the router lead the balancer's address to a node.
fn lead(cluster: &Cluster, node: usize) -> Result<()> {
    let via = cluster.topology.nodes[node].address;
    wire::route(&cluster.topology.router, (BALANCER.into(), 32), via)
}

/// Whom the pods of this many connections saw, each as pod and client.
fn seen(cluster: &Cluster, to: SocketAddr, times: usize) -> Result<BTreeSet<(String, IpAddr)>> {
    (0..times)
        .map(|_| {
            let answer = probe::http(&cluster.topology.client, to)?.answer;
            Ok((answer.pod, answer.client.ip()))
        })
        .collect()
}

/// Whom a request over a kept connection came to.
fn pod(kept: &mut Kept) -> Result<String> {
    Ok(serde_json::from_slice::<Answer>(&kept.get("/")?)?.pod)
}

#[test]
fn pods_of_the_segment_see_their_clients_whichever_node_was_asked() -> Result<()> {
    let cluster = start()?;
    let [one, two, _] = &cluster.topology.nodes[..] else {
        anyhow::bail!("three nodes");
    };
    let client = IpAddr::V4(CLIENT);
    for (asked, to) in [
        (one, SocketAddr::from((BALANCER, 80))),
        (one, SocketAddr::new(one.address, NODE_PORT)),
        (two, SocketAddr::new(two.address, NODE_PORT)),
    ] {
        // Through a tunnel the answer must come back through the node that was asked: its address stands for the client's.
        let expected = [("web-1", client), ("web-2", client), ("web-3", asked.address)];
        let expected = expected.map(|(pod, client)| (pod.to_owned(), client));
        assert_eq!(seen(&cluster, to, 40)?, BTreeSet::from(expected), "at {to}");
        // Whole segments both ways: nothing is put around them.
        for _ in 0..6 {
            probe::upload(&cluster.topology.client, to, 300_000)?;
            probe::download(&cluster.topology.client, to, 300_000)?;
        }
    }
    let heard = probe::udp(&cluster.topology.client, SocketAddr::from((BALANCER, 53)))?;
    ensure!(heard.answer.bytes > 0, "an empty datagram");
    cluster.stop()
}

/// The router's choice of a node may change at any time: that is what choosing alike is for.
#[test]
fn connections_outlive_their_router_s_choice_of_a_node() -> Result<()> {
    let cluster = start()?;
    cluster.topology.client.run(|| {
        let to = SocketAddr::from((BALANCER, 80));
        let mut kept = Vec::new();
        for _ in 0..40 {
            let mut connection = Kept::open(to, PATIENCE)?;
            let pod = pod(&mut connection)?;
            kept.push((connection, pod));
        }
        let mut pods = BTreeSet::new();
        for node in [1, 0, 1] {
            lead(&cluster, node)?;
            // What goes through a tunnel has the address of the node that was asked first, and is lost with it.
            for (connection, first) in kept.iter_mut().filter(|(_, pod)| pod != "web-3") {
                let answers = pod(connection).with_context(|| format!("{first}, through node {node}"))?;
                assert_eq!(answers, *first);
                pods.insert(answers);
            }
        }
        assert_eq!(pods, BTreeSet::from(["web-1".to_owned(), "web-2".to_owned()]));
        Ok(())
    })?;
    cluster.stop()
}
