//! A way that a packet can take through a cluster: who should answer, having seen which client; and how it went.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Result, bail};
use ipnet::IpNet;
use netpath_agent::family::gateway;

use super::{
    cluster::Cluster,
    namespace::Namespace,
    probe,
    topology::{client_beside, segment_of},
};

/// Bytes that [`Question::Bulk`] moves each way.
const BULK: usize = 1 << 20;

/// Where a question comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A pod, by its place.
    Pod(usize),
    /// A node's own stack, by its place.
    Node(usize),
    /// The client outside.
    Client,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// An HTTP request.
    Tcp,
    /// A datagram.
    Udp,
    /// An echo.
    Icmp,
    /// A megabyte by TCP there, then one back.
    Bulk,
}

impl fmt::Display for Question {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Icmp => "ICMP",
            Self::Bulk => "TCP 1 MiB",
        })
    }
}

/// Which client a server should see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// One of these.
    AnyOf(Vec<IpAddr>),
    /// The client itself if the answering pod is on this node, else an address of this node.
    KeptOn(usize),
    /// Anyone: the way through several translations is not laid down.
    Anyone,
}

/// A way to try.
#[derive(Clone, Debug)]
pub struct Way {
    /// Its kind, for a person: `pod to pod, tunnel`.
    pub kind: String,
    /// From where.
    pub asker: Asker,
    /// To where, for a person.
    pub to: String,
    /// What is asked.
    pub question: Question,
    /// Whom.
    pub address: SocketAddr,
    /// Who may answer.
    pub answers: Vec<String>,
    /// Whom they should see.
    pub seen: Seen,
}

/// How it went.
#[derive(Debug)]
pub struct Outcome {
    /// The way.
    pub way: Way,
    /// Who asked, for a person.
    pub from: String,
    /// The latency and what was answered, or what went wrong.
    pub result: Result<(Duration, String)>,
}

/// Tries a way.
pub fn walk(cluster: &Cluster, way: Way) -> Outcome {
    let result = ask(cluster, &way);
    Outcome {
        from: name_of(cluster, way.asker),
        way,
        result,
    }
}

fn ask(cluster: &Cluster, way: &Way) -> Result<(Duration, String)> {
    let from = namespace_of(cluster, way.asker);
    let to = way.address;
    let heard = match way.question {
        Question::Tcp => probe::http(from, to)?,
        Question::Udp => probe::udp(from, to)?,
        Question::Icmp => return Ok((probe::icmp(from, to.ip(), 56)?, "echo".to_owned())),
        Question::Bulk => {
            let took = probe::upload(from, to, BULK)? + probe::download(from, to, BULK)?;
            return Ok((took, "all of it".to_owned()));
        }
    };
    let (who, client) = (&heard.answer.pod, heard.answer.client.ip());
    if !way.answers.contains(who) {
        bail!("{who} answered, not {}", way.answers.join(" or "));
    }
    let right = match &way.seen {
        Seen::Anyone => true,
        Seen::AnyOf(addresses) => addresses.contains(&client),
        Seen::KeptOn(place) => {
            let local = cluster
                .pods
                .iter()
                .any(|pod| pod.spec.name == *who && pod.node == *place);
            let own = address_of(cluster, way.asker, way.address.ip());
            if local {
                client == own
            } else {
                addresses_of_node(cluster, *place).contains(&client)
            }
        }
    };
    if !right {
        bail!("{who} saw {client}, which is not right: {:?}", way.seen);
    }
    Ok((heard.latency, format!("{who} saw {client}")))
}

/// `same node`, `direct` or `tunnel`.
pub(super) fn relation(cluster: &Cluster, one: usize, other: usize) -> &'static str {
    let [from, to] = [one, other].map(|place| segment_of(cluster.topology.nodes[place].address));
    match (one == other, from == to) {
        (true, _) => "same node",
        (false, true) => "direct",
        (false, false) => "tunnel",
    }
}

fn namespace_of(cluster: &Cluster, asker: Asker) -> &Namespace {
    match asker {
        Asker::Pod(place) => &cluster.pods[place].namespace,
        Asker::Node(place) => &cluster.topology.nodes[place].namespace,
        Asker::Client => &cluster.topology.client,
    }
}

fn name_of(cluster: &Cluster, asker: Asker) -> String {
    match asker {
        Asker::Pod(place) => cluster.pods[place].spec.name.clone(),
        Asker::Node(place) => cluster.topology.nodes[place].name.clone(),
        Asker::Client => "client".to_owned(),
    }
}

/// Its address of the family of `beside`.
fn address_of(cluster: &Cluster, asker: Asker, beside: IpAddr) -> IpAddr {
    match asker {
        Asker::Pod(place) => cluster.pods[place].address,
        Asker::Node(place) => cluster.topology.nodes[place].address,
        Asker::Client => client_beside(beside),
    }
}

/// A node's InternalIP and its gateway addresses, the first of each pod subnet.
pub(super) fn addresses_of_node(cluster: &Cluster, place: usize) -> Vec<IpAddr> {
    let subnets = cluster.objects.nodes[place]
        .pod_cidrs
        .iter()
        .filter_map(|cidr| cidr.parse::<IpNet>().ok());
    let gateways = subnets.filter_map(gateway);
    std::iter::once(cluster.topology.nodes[place].address)
        .chain(gateways)
        .collect()
}
