//! The list of all ways through a cluster: between pods, to services, to and from nodes, to the outside.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{
    cluster::{Cluster, HOST_PORT},
    paths::{Asker, Question, Seen, Way, addresses_of_node, relation},
    services,
    topology::client_beside,
};

/// All ways between all pods, nodes and the client.
pub fn all(cluster: &Cluster) -> Vec<Way> {
    let mut ways = Vec::new();
    pods_to_pods(cluster, &mut ways);
    to_services(cluster, &mut ways);
    hosts(cluster, &mut ways);
    outside(cluster, &mut ways);
    ways
}

/// The first way of each kind and question.
pub fn one_of_each_kind(ways: Vec<Way>) -> Vec<Way> {
    let mut seen = BTreeSet::new();
    ways.into_iter()
        .filter(|way| seen.insert((way.kind.clone(), way.question)))
        .collect()
}

/// The servers' ports of a pod: the questions that fit, with the port.
fn questions(cluster: &Cluster, place: usize) -> Vec<(Question, u16)> {
    let ports = &cluster.pods[place].spec.ports;
    let first = |protocol: &str| {
        ports
            .iter()
            .find(|port| port.protocol == protocol)
            .map(|port| port.port)
    };
    let tcp = first("TCP")
        .into_iter()
        .flat_map(|port| [(Question::Tcp, port), (Question::Bulk, port)]);
    let udp = first("UDP").map(|port| (Question::Udp, port));
    tcp.chain(udp).chain([(Question::Icmp, 0)]).collect()
}

fn pods_to_pods(cluster: &Cluster, ways: &mut Vec<Way>) {
    let pods = 0..cluster.pods.len();
    for (from, to) in pods
        .clone()
        .flat_map(|from| pods.clone().map(move |to| (from, to)))
        .filter(|(from, to)| from != to)
    {
        let target = &cluster.pods[to];
        ways.extend(questions(cluster, to).into_iter().map(|(question, port)| Way {
            kind: format!(
                "pod to pod, {}",
                relation(cluster, cluster.pods[from].node, target.node)
            ),
            asker: Asker::Pod(from),
            to: target.spec.name.clone(),
            question,
            address: SocketAddr::new(target.address, port),
            answers: vec![target.spec.name.clone()],
            seen: Seen::AnyOf(vec![cluster.pods[from].address]),
        }));
    }
}

fn to_services(cluster: &Cluster, ways: &mut Vec<Way>) {
    let nodes = 0..cluster.topology.nodes.len();
    for port in services::ports(cluster)
        .into_iter()
        .filter(|port| !port.backends.is_empty())
    {
        let answers: Vec<_> = port
            .backends
            .iter()
            .map(|place| cluster.pods[*place].spec.name.clone())
            .collect();
        let homes: BTreeSet<_> = port.backends.iter().map(|place| cluster.pods[*place].node).collect();
        let where_from = |node: usize| match homes.len() {
            1 => homes.iter().map(|home| relation(cluster, node, *home)).collect(),
            many => format!("pods on {many} nodes"),
        };
        let questions: &[Question] = if port.protocol == "UDP" {
            &[Question::Udp]
        } else {
            &[Question::Tcp, Question::Bulk]
        };
        for question in questions.iter().copied() {
            let mut add = |kind: String, asker, address: IpAddr, number, seen| {
                let address = SocketAddr::new(address, number);
                let to = format!("{} ({address})", port.service);
                ways.push(Way {
                    kind,
                    asker,
                    to,
                    question,
                    address,
                    answers: answers.clone(),
                    seen,
                });
            };
            for (place, pod) in cluster.pods.iter().enumerate() {
                let itself = port.backends == [place];
                let maybe = port.backends.contains(&place);
                let kind = if itself {
                    "hairpin: pod to itself by its ClusterIP".to_owned()
                } else {
                    format!("ClusterIP, {}", where_from(pod.node))
                };
                let seen = if maybe {
                    Seen::Anyone
                } else {
                    Seen::AnyOf(vec![pod.address])
                };
                add(kind, Asker::Pod(place), port.address, port.port, seen);
            }
            for node in nodes.clone() {
                let seen = Seen::AnyOf(addresses_of_node(cluster, node));
                add(
                    format!("node to ClusterIP, {}", where_from(node)),
                    Asker::Node(node),
                    port.address,
                    port.port,
                    seen,
                );
            }
            let Some(number) = port.node_port else { continue };
            for node in nodes.clone() {
                let address = cluster.topology.nodes[node].address;
                let kind = match where_from(node).as_str() {
                    "same node" => "NodePort from outside, pod on that node".to_owned(),
                    "direct" => "NodePort from outside, pod on a direct node".to_owned(),
                    "tunnel" => "NodePort from outside, pod behind the tunnel".to_owned(),
                    several => format!("NodePort from outside, {several}"),
                };
                add(kind, Asker::Client, address, number, Seen::KeptOn(node));
                for from in nodes.clone() {
                    let kind = format!("node to NodePort, {}", relation(cluster, from, node));
                    // Its own it reaches at the socket, as it would the backend; another's by packets to that node.
                    let seen = match from == node {
                        true => Seen::AnyOf(addresses_of_node(cluster, node)),
                        false => Seen::KeptOn(node),
                    };
                    add(kind, Asker::Node(from), address, number, seen);
                }
                let loopback = match address {
                    IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                    IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
                };
                let kind = format!("node to NodePort on {loopback}, {}", where_from(node));
                let seen = Seen::AnyOf(addresses_of_node(cluster, node));
                add(kind, Asker::Node(node), loopback, number, seen);
                for (place, pod) in cluster.pods.iter().enumerate() {
                    let kind = format!("pod to NodePort, {}", relation(cluster, pod.node, node));
                    add(kind, Asker::Pod(place), address, number, Seen::Anyone);
                }
            }
        }
    }
}

fn hosts(cluster: &Cluster, ways: &mut Vec<Way>) {
    for (node, net) in cluster.topology.nodes.iter().enumerate() {
        for (place, pod) in cluster.pods.iter().enumerate() {
            let relation = relation(cluster, node, pod.node);
            ways.extend(questions(cluster, place).into_iter().map(|(question, port)| Way {
                kind: format!("node to pod, {relation}"),
                asker: Asker::Node(node),
                to: pod.spec.name.clone(),
                question,
                address: SocketAddr::new(pod.address, port),
                answers: vec![pod.spec.name.clone()],
                seen: Seen::AnyOf(addresses_of_node(cluster, node)),
            }));
            let seen = Seen::AnyOf(vec![pod.address]);
            to_host(
                ways,
                format!("pod to node, {relation}"),
                Asker::Pod(place),
                &net.name,
                net.address,
                seen,
            );
        }
        for (other, target) in cluster
            .topology
            .nodes
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != node)
        {
            let kind = format!("node to node, {}", relation(cluster, node, other));
            to_host(
                ways,
                kind,
                Asker::Node(node),
                &target.name,
                target.address,
                Seen::AnyOf(vec![net.address]),
            );
        }
    }
}

fn outside(cluster: &Cluster, ways: &mut Vec<Way>) {
    for (place, pod) in cluster.pods.iter().enumerate() {
        let seen = Seen::AnyOf(vec![cluster.topology.nodes[pod.node].address]);
        to_host(
            ways,
            "pod to the outside".to_owned(),
            Asker::Pod(place),
            "outside",
            client_beside(pod.address),
            seen,
        );
    }
    for (node, net) in cluster.topology.nodes.iter().enumerate() {
        let seen = Seen::AnyOf(vec![net.address]);
        to_host(
            ways,
            "node to the outside".to_owned(),
            Asker::Node(node),
            "outside",
            client_beside(net.address),
            seen,
        );
        let seen = Seen::AnyOf(vec![client_beside(net.address)]);
        to_host(
            ways,
            "outside to node".to_owned(),
            Asker::Client,
            &net.name,
            net.address,
            seen,
        );
    }
}

fn to_host(ways: &mut Vec<Way>, kind: String, asker: Asker, name: &str, address: IpAddr, seen: Seen) {
    ways.extend(
        [Question::Tcp, Question::Udp, Question::Icmp, Question::Bulk].map(|question| Way {
            kind: kind.clone(),
            asker,
            to: name.to_owned(),
            question,
            address: SocketAddr::new(address, HOST_PORT),
            answers: vec![name.to_owned()],
            seen: seen.clone(),
        }),
    );
}
