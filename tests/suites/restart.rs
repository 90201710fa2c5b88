//! Agents killed, restarted and exchanged under steady traffic: no datagram is lost, no connection reset.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result};
use netpath_agent::{datapath::pins::Pins, observe::status::look};
use netpath_tests::lab::{
    agent::HEALTH_PORT,
    cluster::Cluster,
    endpoints,
    home::Home,
    kubelet::Pod,
    namespace::Namespace,
    process, services,
    start::Start,
    traffic::{self, Flow, Manner, Tally},
};

use crate::{example, lab::eventually};

fn start() -> Result<Cluster> {
    let cluster = Start::of(&example::folder()).run(Home::unique()?)?;
    services::settle(&cluster)?;
    Ok(cluster)
}

/// The addresses that flows go to, by name.
fn targets(cluster: &Cluster) -> Result<BTreeMap<&'static str, SocketAddr>> {
    let pod = |name, port| -> Result<SocketAddr> { Ok(SocketAddr::new(cluster.pod(name)?.address, port)) };
    let ports = services::ports(cluster);
    let of = |service: &str, protocol: &str| {
        let found = ports
            .iter()
            .find(|port| port.service == service && port.protocol == protocol);
        found.with_context(|| format!("no Service {service} by {protocol}"))
    };
    let (web, events) = (of("watch", "TCP")?, of("watch", "UDP")?);
    let node = &cluster.topology.nodes[0];
    let node_port = |port: &services::Port| -> Result<SocketAddr> {
        Ok(SocketAddr::new(node.address, port.node_port.context("no NodePort")?))
    };
    Ok(BTreeMap::from([
        ("same node", pod("wear-1", 8080)?),
        ("direct", pod("watch", 8080)?),
        ("tunnel", pod("database", 5432)?),
        ("direct, UDP", pod("watch", 9000)?),
        ("ClusterIP", SocketAddr::new(web.address, web.port)),
        ("ClusterIP, UDP", SocketAddr::new(events.address, events.port)),
        ("NodePort", node_port(web)?),
        ("NodePort, UDP", node_port(events)?),
    ]))
}

/// Flows of every manner over every path. One pod asks services and their backends by their own addresses, so that ports
/// that the two kinds share would be seen.
fn flows<'a>(
    targets: &BTreeMap<&'static str, SocketAddr>,
    pods: &'a [Pod],
    client: &'a Namespace,
) -> Result<Vec<Flow<'a>>> {
    let of = |name: &str| -> Result<&'a Namespace> {
        let found = pods.iter().find(|pod| pod.spec.name == name);
        Ok(&found.with_context(|| format!("no pod {name}"))?.namespace)
    };
    let mut flows = Vec::new();
    for (name, to) in targets {
        let manners: &[Manner] = if name.ends_with("UDP") {
            &[Manner::Datagrams]
        } else {
            &[Manner::Kept, Manner::Fresh]
        };
        let from = match name {
            name if name.starts_with("NodePort") => client,
            _ => of("test")?,
        };
        flows.extend(manners.iter().map(|manner| Flow {
            name: format!("{name}, {manner:?}"),
            from,
            to: *to,
            manner: *manner,
        }));
    }
    Ok(flows)
}

fn nothing_lost(tallies: &[Tally], least: u64) {
    let failures: Vec<_> = tallies
        .iter()
        .filter_map(|tally| Some((&tally.name, tally.failure.as_ref()?)))
        .collect();
    assert!(failures.is_empty(), "{failures:#?}");
    for tally in tallies {
        assert!(
            tally.answered >= least,
            "{}: {} answers are too few to tell",
            tally.name,
            tally.answered
        );
    }
}

/// The kernel's number of each node's pinned program.
fn programs(cluster: &Cluster) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    for agent in &cluster.agents {
        let pins = Pins::new(&agent.bpf_root);
        ids.push(aya::programs::ProgramInfo::from_pin(pins.program(netpath_common::hook::Hook::FromPod))?.id());
    }
    Ok(ids)
}

#[test]
fn agents_killed_and_started_again_lose_no_packet() -> Result<()> {
    let mut cluster = start()?;
    let binary = process::binary("netpath-agent")?;
    let before = programs(&cluster)?;
    let targets = targets(&cluster)?;
    let Cluster {
        pods, agents, topology, ..
    } = &mut cluster;
    let ((), tallies) = traffic::during(&flows(&targets, pods, &topology.client)?, || {
        for _ in 0..3 {
            for (agent, node) in agents.iter_mut().zip(&topology.nodes) {
                agent.kill()?;
                // Traffic goes on with no agent there.
                std::thread::sleep(Duration::from_millis(200));
                agent.start(&binary, &node.namespace)?;
                agent.wait(&node.namespace)?;
            }
        }
        Ok(())
    })?;
    nothing_lost(&tallies, 100);
    services::settle(&cluster)?;
    let after = programs(&cluster)?;
    assert!(
        before.iter().zip(&after).all(|(old, new)| old != new),
        "programs {before:?} were not replaced: {after:?}"
    );
    cluster.stop()
}

/// A socket of the node that is connected to a service, which loses its endpoint while no agent is there, and gets it back.
#[test]
fn a_socket_of_the_node_is_told_what_went_while_no_agent_was_there() -> Result<()> {
    let mut cluster = start()?;
    let binary = process::binary("netpath-agent")?;
    let targets = targets(&cluster)?;
    let running = cluster.running();
    let Cluster {
        agents,
        topology,
        folder,
        objects,
        ..
    } = &mut cluster;
    let (agent, node) = (&mut agents[0], &topology.nodes[0]);
    let publish = |pods: &[endpoints::Running]| {
        let slices = endpoints::slices(&objects.services, pods);
        endpoints::publish(folder, &slices)
    };
    let connected = || -> Result<UdpSocket> {
        let socket = node.namespace.run(|| Ok(UdpSocket::bind("0.0.0.0:0")?))?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.connect(targets["ClusterIP, UDP"])?;
        Ok(socket)
    };
    let ask = |socket: &UdpSocket| {
        socket.send(b"who")?;
        socket.recv(&mut [0; 2048])
    };
    let socket = connected()?;
    let itself = node.namespace.run(|| Ok(UdpSocket::bind("0.0.0.0:0")?))?;
    itself.set_read_timeout(Some(Duration::from_secs(2)))?;
    itself.connect(targets["direct, UDP"])?;
    ask(&socket).context("before")?;
    ask(&itself).context("the pod itself, before")?;
    agent.kill()?;
    let without: Vec<_> = running.iter().filter(|pod| pod.spec.name != "watch").cloned().collect();
    publish(&without)?;
    ask(&socket).context("without an agent")?;
    agent.start(&binary, &node.namespace)?;
    agent.wait(&node.namespace)?;
    let told = socket.recv(&mut [0; 16]).err().map(|error| error.kind());
    assert_eq!(told, Some(ErrorKind::ConnectionAborted));
    ask(&itself).context("the pod itself, after")?;

    // It connects anew, where nobody is; and once there is somebody, it reaches that.
    socket.connect(targets["ClusterIP, UDP"])?;
    assert_eq!(socket.peer_addr()?, targets["ClusterIP, UDP"]);
    let refused = ask(&socket).err().map(|error| error.kind());
    assert_eq!(refused, Some(ErrorKind::ConnectionRefused));
    publish(&running)?;
    eventually("the socket reaches the service again", || ask(&socket).is_ok())?;
    cluster.stop()
}

/// The second build is a copy of the first that is asked for other map sizes: all programs are loaded anew, and every map
/// that the agent or the CNI plugin writes is exchanged with what it holds. Those that programs write serve on; each
/// node's status says so.
#[test]
fn an_agent_of_another_build_takes_over_and_hands_back() -> Result<()> {
    let mut cluster = start()?;
    let first = process::binary("netpath-agent")?;
    let second = cluster.home.folder().join("netpath-agent-second");
    fs::copy(&first, &second)?;
    let targets = targets(&cluster)?;
    let Cluster {
        pods, agents, topology, ..
    } = &mut cluster;
    let health = SocketAddr::from((Ipv4Addr::LOCALHOST, HEALTH_PORT));
    let ((), tallies) = traffic::during(&flows(&targets, pods, &topology.client)?, || {
        for (binary, sizes) in [(&second, OTHER_SIZES), (&first, &[] as &[&str])] {
            for (agent, node) in agents.iter_mut().zip(&topology.nodes) {
                agent.stop()?;
                agent.start_with(binary, &node.namespace, sizes)?;
                agent.wait(&node.namespace)?;
                let said = if sizes.is_empty() { &[] as &[&str] } else { KEPT };
                let status = node.namespace.run(|| Ok(look(&Pins::new(&agent.bpf_root), health)))?;
                let problems = status
                    .problems
                    .iter()
                    .map(|problem| problem.split(':').next().unwrap_or_default());
                assert_eq!(problems.collect::<Vec<_>>(), said);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    })?;
    nothing_lost(&tallies, 50);
    services::settle(&cluster)?;
    cluster.stop()
}

/// Another size for every map that has one.
const OTHER_SIZES: &[&str] = &[
    "--max-services=1024",
    "--max-backends=2048",
    "--max-endpoints=512",
    "--max-routes=256",
    "--max-connections=65536",
    "--max-fragments=1024",
];

/// What is said of those sizes that maps in use do not take.
const KEPT: &[&str] = &[
    "map np_conntrack4 keeps its room for 262144 entries, since programs write to it",
    "map np_conntrack6 keeps its room for 262144 entries, since programs write to it",
    "map np_fragment4 keeps its room for 8192 entries, since programs write to it",
    "map np_fragment6 keeps its room for 8192 entries, since programs write to it",
];

/// What the other tests must not be blamed for: the same traffic, with nobody touching the agents.
#[test]
fn steady_traffic_alone_loses_nothing() -> Result<()> {
    let cluster = start()?;
    let targets = targets(&cluster)?;
    let ((), tallies) = traffic::during(&flows(&targets, &cluster.pods, &cluster.topology.client)?, || {
        std::thread::sleep(Duration::from_secs(10));
        Ok(())
    })?;
    nothing_lost(&tallies, 100);
    cluster.stop()
}
