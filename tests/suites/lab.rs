//! The lab over real traffic: first its own ground, then the cluster on it.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use netpath_tests::lab::{
    cluster::Cluster,
    endpoints,
    home::Home,
    namespace::Namespace,
    paths::{self, Question},
    probe,
    process::{self, Process},
    services,
    start::Start,
    topology::{CLIENT, CLIENT6, Topology},
    ways,
};

use crate::example;

const NODES: [(&str, [&str; 2]); 3] = [
    ("a", ["192.168.50.1", "fd00:50::1"]),
    ("b", ["192.168.50.2", "fd00:50::2"]),
    ("c", ["192.168.51.3", "fd00:51::3"]),
];

/// The addresses of a node and of the client, those of IPv4 first.
fn addresses(place: usize) -> Result<Vec<IpAddr>> {
    let Some((_, addresses)) = NODES.get(place) else {
        return Ok(vec![CLIENT.into(), CLIENT6.into()]);
    };
    addresses.iter().map(|address| Ok(address.parse()?)).collect()
}

fn ground(home: &Home) -> Result<Topology> {
    let nodes = NODES.iter().enumerate();
    let nodes = nodes.map(|(place, (name, _))| Ok(((*name).to_owned(), addresses(place)?)));
    Topology::build(home, &nodes.collect::<Result<Vec<_>>>()?)
}

fn server(home: &Home, namespace: &Namespace, address: IpAddr) -> Result<Process> {
    let mut command = Command::new(process::binary("netpath-lab")?);
    command.args([
        "pod",
        "--name",
        "served",
        "--tcp",
        "80",
        "--udp",
        "53",
        "--address",
        &address.to_string(),
    ]);
    let log = home.folder().join("served.log");
    let server = Process::start("server", command, namespace, &log)?;
    for _ in 0..1000 {
        if fs::read_to_string(&log)?.contains("ready") {
            return Ok(server);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    anyhow::bail!("the server is not ready: {}", fs::read_to_string(&log)?)
}

/// What a lab of that name has left on the machine.
pub fn remains(name: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for (folder, prefix) in [
        ("/run/netns", format!("{name}-")),
        ("/sys/fs/bpf", format!("lab-{name}")),
        ("/run/netpath-lab", name.to_owned()),
    ] {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry?.path();
            if path
                .file_name()
                .is_some_and(|file| file.to_string_lossy().starts_with(&prefix))
            {
                found.push(path);
            }
        }
    }
    Ok(found)
}

#[test]
fn every_namespace_of_the_ground_reaches_every_other_by_tcp_udp_and_icmp() -> Result<()> {
    let home = Home::unique()?;
    let topology = ground(&home)?;
    let nodes = topology.nodes.iter().map(|node| &node.namespace);
    let all: Vec<_> = nodes.chain([&topology.client]).enumerate().collect();
    for (to, family) in all.iter().flat_map(|to| [(to, 0), (to, 1)]) {
        let (place, to) = to;
        let address = &addresses(*place)?[family];
        let mut server = server(&home, to, *address)?;
        for (place, from) in &all {
            let own = &addresses(*place)?[family];
            let tcp =
                probe::http(from, SocketAddr::new(*address, 80)).with_context(|| format!("{own} asks {address}"))?;
            let udp = probe::udp(from, SocketAddr::new(*address, 53))?;
            for heard in [&tcp, &udp] {
                assert_eq!((heard.answer.pod.as_str(), heard.answer.client.ip()), ("served", *own));
            }
            probe::icmp(from, *address, 1000)?;
            probe::upload(from, SocketAddr::new(*address, 80), 1 << 20)?;
            probe::download(from, SocketAddr::new(*address, 80), 1 << 20)?;
        }
        server.kill()?;
        fs::remove_file(home.folder().join("served.log"))?;
    }
    Ok(())
}

#[test]
fn nobody_answers_where_nobody_serves() -> Result<()> {
    let home = Home::unique()?;
    let topology = ground(&home)?;
    let [a, b, _] = topology.nodes.as_slice() else {
        anyhow::bail!("three nodes were asked for")
    };
    let nobody = SocketAddr::new(b.address, 80);
    assert!(probe::http(&a.namespace, nobody).is_err());
    assert!(probe::udp(&a.namespace, nobody).is_err());
    // The router knows nothing of pods: an address of a pod subnet leads nowhere.
    assert!(probe::icmp(&topology.client, Ipv4Addr::new(10, 244, 1, 2), 8).is_err());
    Ok(())
}

#[test]
fn a_lab_leaves_nothing_also_on_panic_and_when_half_built() -> Result<()> {
    let home = Home::unique()?;
    let first = home.name().to_owned();
    let topology = ground(&home)?;
    assert!(!remains(&first)?.is_empty());
    drop((topology, home));
    assert_eq!(remains(&first)?, Vec::<PathBuf>::new());

    let home = Home::unique()?;
    let second = home.name().to_owned();
    let panicked = std::thread::spawn(move || {
        let _topology = ground(&home);
        let _home = home;
        std::panic::panic_any("on purpose");
    });
    assert!(panicked.join().is_err());
    assert_eq!(remains(&second)?, Vec::<PathBuf>::new());

    let home = Home::unique()?;
    let third = home.name().to_owned();
    let stranger = ("far".to_owned(), vec![Ipv4Addr::new(10, 1, 1, 1).into()]);
    let refused = Topology::build(&home, &[stranger])
        .err()
        .context("an address on no segment was taken")?;
    assert_eq!(
        refused.to_string(),
        "Node far: its InternalIP 10.1.1.1 is on no segment of the lab (192.168.50.0/24, fd00:50::/64; 192.168.51.0/24, \
         fd00:51::/64)"
    );
    drop(home);
    assert_eq!(remains(&third)?, Vec::<PathBuf>::new());
    Ok(())
}

#[test]
fn a_name_is_one_labs_at_a_time() -> Result<()> {
    let home = Home::unique()?;
    let refused = Home::claim(home.name()).err().context("a name was given away twice")?;
    let expected = format!(
        "a lab named {} runs already (process {})",
        home.name(),
        std::process::id()
    );
    assert!(refused.to_string().starts_with(&expected), "{refused}");
    assert!(
        Path::new("/run/netpath-lab").join(home.name()).is_dir(),
        "the refused claim took the first one's folder"
    );
    assert!(Home::claim("../etc").is_err());
    Ok(())
}

fn cluster() -> Result<Cluster> {
    let cluster = Start::of(&example::folder()).run(Home::unique()?)?;
    services::settle(&cluster)?;
    Ok(cluster)
}

/// The kinds of paths that the example must have, whatever else it has.
const KINDS: &[&str] = &[
    "pod to pod, same node",
    "pod to pod, direct",
    "pod to pod, tunnel",
    "ClusterIP, direct",
    "ClusterIP, tunnel",
    "ClusterIP, pods on 2 nodes",
    "hairpin: pod to itself by its ClusterIP",
    "node to ClusterIP, same node",
    "node to ClusterIP, direct",
    "node to ClusterIP, tunnel",
    "node to NodePort, same node",
    "node to NodePort, tunnel",
    "node to NodePort on 127.0.0.1, same node",
    "node to NodePort on 127.0.0.1, direct",
    "node to NodePort on 127.0.0.1, tunnel",
    "NodePort from outside, pod on that node",
    "NodePort from outside, pod on a direct node",
    "NodePort from outside, pod behind the tunnel",
    "NodePort from outside, pods on 2 nodes",
    "node to pod, same node",
    "node to pod, direct",
    "node to pod, tunnel",
    "pod to node, same node",
    "pod to node, direct",
    "pod to node, tunnel",
    "pod to the outside",
];

#[test]
fn every_path_through_the_example_passes() -> Result<()> {
    every_path_passes(cluster()?, KINDS)
}

/// Walks all ways through a cluster, which has these kinds at least, and ends it.
pub fn every_path_passes(cluster: Cluster, kinds: &[&str]) -> Result<()> {
    let name = cluster.home.name().to_owned();
    let ways = ways::all(&cluster);
    let missing: Vec<_> = kinds
        .iter()
        .filter(|kind| !ways.iter().any(|way| way.kind == **kind))
        .collect();
    assert_eq!(missing, Vec::<&&str>::new(), "the cluster lacks these kinds of paths");
    for question in [Question::Tcp, Question::Udp, Question::Icmp, Question::Bulk] {
        assert!(
            ways.iter().any(|way| way.question == question),
            "nothing is asked by {question}"
        );
    }
    let failed: Vec<_> = ways
        .into_iter()
        .map(|way| paths::walk(&cluster, way))
        .filter_map(|outcome| {
            let error = outcome.result.err()?;
            Some(format!(
                "{}, {} to {} by {}: {error:#}",
                outcome.way.kind, outcome.from, outcome.way.to, outcome.way.question
            ))
        })
        .collect();
    assert!(
        failed.is_empty(),
        "{} paths failed\n{}",
        failed.len(),
        failed.join("\n")
    );
    for pod in &cluster.pods {
        pod.check(cluster.node(pod.node))?;
    }
    cluster.stop()?;
    assert_eq!(remains(&name)?, Vec::<PathBuf>::new());
    Ok(())
}

#[test]
fn fragments_and_segmented_datagrams_arrive_whole() -> Result<()> {
    arrive_whole(cluster()?)
}

/// Sends echoes that are cut up and datagrams that the kernel cuts up between the example's pods, and ends the cluster.
pub fn arrive_whole(cluster: Cluster) -> Result<()> {
    let test = &cluster.pod("test")?.namespace;
    for name in ["wear-1", "watch", "database"] {
        probe::icmp(test, cluster.pod(name)?.address, 4000)
            .with_context(|| format!("an echo of 4000 bytes to {name}"))?;
    }
    let watch = cluster.pod("watch")?;
    for from in ["test", "wear-2", "wear-1"] {
        let (segments, segment) = (20, 1200);
        let to = SocketAddr::new(watch.address, 9000);
        let got = probe::segmented(&cluster.pod(from)?.namespace, to, segments, segment)?;
        assert_eq!(got, vec![segment as u64; segments], "datagrams of {from} to watch");
    }
    cluster.stop()
}

#[test]
fn services_follow_their_pods_and_their_objects() -> Result<()> {
    let cluster = cluster()?;
    let ports = services::ports(&cluster);
    let wear = ports
        .iter()
        .find(|port| port.service == "wear")
        .context("no Service wear")?;
    let (test, to) = (
        &cluster.pod("test")?.namespace,
        SocketAddr::new(wear.address, wear.port),
    );
    let ask = || -> Result<String> { Ok(probe::http(test, to)?.answer.pod) };

    let answered = (0..40)
        .map(|_| ask())
        .collect::<Result<std::collections::BTreeSet<_>>>()?;
    assert_eq!(answered.into_iter().collect::<Vec<_>>(), ["wear-1", "wear-2"]);

    // A replica goes: the other takes all.
    let mut running = cluster.running();
    running.retain(|pod| pod.spec.name != "wear-1");
    endpoints::publish(&cluster.folder, &endpoints::slices(&cluster.objects.services, &running))?;
    let all_from = |name: &str| {
        (0..10)
            .map(|_| ask())
            .collect::<Result<Vec<_>>>()
            .is_ok_and(|all| all.iter().all(|pod| pod == name))
    };
    eventually("wear-2 answers alone", || all_from("wear-2"))?;

    // None is left: refused at once, not left waiting.
    running.retain(|pod| pod.spec.labels.get("app").is_none_or(|app| app != "wear"));
    endpoints::publish(&cluster.folder, &endpoints::slices(&cluster.objects.services, &running))?;
    eventually("connections are refused", || {
        probe::http(test, to).is_err_and(|error| format!("{error:#}").contains("refused"))
    })?;

    // They are back.
    endpoints::publish(
        &cluster.folder,
        &endpoints::slices(&cluster.objects.services, &cluster.running()),
    )?;
    eventually("wear answers again", || ask().is_ok())?;

    // A broken file keeps what was there before.
    fs::write(cluster.folder.join("broken.yaml"), "kind: [")?;
    std::thread::sleep(Duration::from_millis(500));
    ask()?;
    cluster.stop()
}

pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    for _ in 0..500 {
        if condition() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    anyhow::bail!("not within 10 s: {what}")
}
