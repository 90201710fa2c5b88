//! `netpath-lab run`: a cluster for a person. Starts it, shows it, tries every kind of way through it, then stays up.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::{
    cluster::Cluster,
    home::Home,
    interrupt,
    paths::{self, Outcome},
    process, services,
    show::Table,
    start::Start,
    topology::{CLIENT, CLIENT6, range_of, router_on},
    ways,
};

/// The cluster that `run` starts if it is given none.
const EXAMPLE: &str = "examples/online-store";

/// Start a cluster on this machine and try every way through it
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Give the verdict and leave; the exit status is 0 if every way passed
    #[arg(long)]
    pub once: bool,
    /// Try every pair of pods, nodes and services, not one of each kind
    #[arg(long)]
    pub all: bool,
    /// The lab's name: its namespaces are <NAME>-n1, …
    #[arg(long, default_value = "netpath")]
    pub name: String,
    /// A folder of Kubernetes YAML: Nodes, Pods, Services
    #[arg(default_value = EXAMPLE)]
    pub folder: PathBuf,
}

/// Runs the command; tells whether every way passed.
///
/// # Errors
/// The cluster does not start or does not end in order.
pub fn run(arguments: &Arguments) -> Result<bool> {
    interrupt::be_orderly()?;
    let start = Instant::now();
    let tell = |step: &str| println!("[{:>5.1} s] {step}", start.elapsed().as_secs_f64());
    let home = Home::claim(&arguments.name)?;
    let mut cluster = Start::of(&folder(&arguments.folder)).telling(&tell).run(home)?;
    tell("waiting until every node knows every service");
    let settled = services::settle(&cluster);
    let verdict = settled.and_then(|()| {
        tell("trying the ways");
        report(&cluster, arguments)
    });
    let verdict = match verdict {
        Err(error) if interrupt::stopped() => {
            println!("{error:#}");
            false
        }
        verdict => verdict?,
    };
    if !arguments.once && !interrupt::stopped() {
        invite(&cluster)?;
        follow(&mut cluster, &tell);
    }
    tell("taking everything down");
    cluster.stop()?;
    tell("nothing is left");
    Ok(verdict)
}

/// Plays the endpoint controller for whoever edits the objects, until a signal comes.
fn follow(cluster: &mut Cluster, tell: &dyn Fn(&str)) {
    let mut said = String::new();
    while !interrupt::wait(Duration::from_secs(1)) {
        let problem = match cluster.follow() {
            Ok(false) => String::new(),
            Ok(true) => {
                tell("the Services have changed: their EndpointSlices are written");
                String::new()
            }
            Err(error) => format!("{error:#}"),
        };
        if problem != said {
            if !problem.is_empty() {
                tell(&problem);
            }
            said = problem;
        }
    }
}

/// The example is found from the tree's root, and from anywhere else if the tree is still where it was built.
fn folder(given: &Path) -> PathBuf {
    if !given.exists() && given == Path::new(EXAMPLE) {
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(EXAMPLE);
        if built.exists() {
            return built;
        }
    }
    given.to_owned()
}

fn report(cluster: &Cluster, arguments: &Arguments) -> Result<bool> {
    show_objects(cluster);
    let mut ways = ways::all(cluster);
    if !arguments.all {
        ways = ways::one_of_each_kind(ways);
    }
    let mut outcomes = Vec::new();
    for way in ways {
        interrupt::check()?;
        outcomes.push(paths::walk(cluster, way));
    }
    show_outcomes(&outcomes);
    let failed = outcomes.iter().filter(|outcome| outcome.result.is_err()).count();
    println!(
        "{} paths, {} passed, {failed} failed",
        outcomes.len(),
        outcomes.len() - failed
    );
    if outcomes.is_empty() {
        bail!(
            "{}: no Pod serves anything, so there is no path to try",
            arguments.folder.display()
        );
    }
    Ok(failed == 0)
}

fn show_objects(cluster: &Cluster) {
    let mut nodes = Table::new(&["NODE", "ADDRESS", "ROUTER", "POD SUBNETS", "NAMESPACE", "AGENT"]);
    for ((node, spec), agent) in cluster
        .topology
        .nodes
        .iter()
        .zip(&cluster.objects.nodes)
        .zip(&cluster.agents)
    {
        nodes.row([
            node.name.clone(),
            node.address.to_string(),
            range_of(node.address)
                .map(|range| router_on(range).to_string())
                .unwrap_or_default(),
            spec.pod_cidrs.join(", "),
            node.namespace.name().to_owned(),
            agent.id().map(|id| format!("process {id}")).unwrap_or_default(),
        ]);
    }
    let client = cluster.topology.client.name().to_owned();
    nodes.row([
        "(client outside)".to_owned(),
        format!("{CLIENT}, {CLIENT6}"),
        String::new(),
        String::new(),
        client,
    ]);
    let mut pods = Table::new(&["POD", "ADDRESS", "NODE", "NAMESPACE", "SERVES"]);
    for pod in &cluster.pods {
        let ports: Vec<_> = pod
            .spec
            .ports
            .iter()
            .map(|port| format!("{}/{}", port.port, port.protocol))
            .collect();
        pods.row([
            format!("{}/{}", pod.spec.namespace, pod.spec.name),
            pod.address.to_string(),
            cluster.topology.nodes[pod.node].name.clone(),
            pod.namespace.name().to_owned(),
            ports.join(", "),
        ]);
    }
    let mut frontends = Table::new(&["SERVICE", "ADDRESS", "NODEPORT", "PODS"]);
    for port in services::ports(cluster) {
        let backends: Vec<_> = port
            .backends
            .iter()
            .map(|place| cluster.pods[*place].spec.name.as_str())
            .collect();
        frontends.row([
            port.service.clone(),
            format!("{}/{}", SocketAddr::new(port.address, port.port), port.protocol),
            port.node_port.map(|port| port.to_string()).unwrap_or_default(),
            backends.join(", "),
        ]);
    }
    println!("\n{}\n{}\n{}", nodes.render(), pods.render(), frontends.render());
}

fn show_outcomes(outcomes: &[Outcome]) {
    let mut table = Table::new(&["PATH", "FROM", "TO", "BY", "LATENCY", "RESULT"]);
    for Outcome { way, from, result } in outcomes {
        let (latency, told) = match result {
            Ok((latency, told)) => (format!("{:.2} ms", latency.as_secs_f64() * 1e3), format!("ok: {told}")),
            Err(error) => (String::new(), format!("FAILED: {error:#}")),
        };
        table.row([
            way.kind.clone(),
            from.clone(),
            way.to.clone(),
            way.question.to_string(),
            latency,
            told,
        ]);
    }
    println!("{}", table.render());
}

/// Says what to try, in commands that work as they stand.
fn invite(cluster: &Cluster) -> Result<()> {
    let netpath = process::binary("netpath")?;
    let shown = std::env::current_dir()
        .ok()
        .and_then(|here| Some(netpath.strip_prefix(here).ok()?.to_owned()));
    let netpath = shown.unwrap_or(netpath);
    println!("\nThe cluster stays up. Try, from another terminal:");
    if let (Some(node), Some(agent)) = (cluster.topology.nodes.first(), cluster.agents.first()) {
        let (room, root) = (node.namespace.path(), agent.bpf_root.display().to_string());
        println!(
            "  nsenter --net={} {} status --bpf-root {root}",
            room.display(),
            netpath.display()
        );
        println!("  bpftool map dump pinned {root}/maps/np_service4");
        println!("  nsenter --net={} ip route", room.display());
        println!("  tail -f {}", agent.log.display());
    }
    let ports = services::ports(cluster);
    let web = |port: &&services::Port| port.protocol == "TCP" && !port.backends.is_empty();
    if let (Some(pod), Some(port)) = (cluster.pods.last(), ports.iter().find(web)) {
        println!(
            "  nsenter --net={} curl http://{}/",
            pod.namespace.path().display(),
            SocketAddr::new(port.address, port.port)
        );
    }
    let open = ports.iter().filter(web).find_map(|port| port.node_port);
    if let (Some(node), Some(number)) = (cluster.topology.nodes.first(), open) {
        println!(
            "  nsenter --net={} curl http://{}/",
            cluster.topology.client.path().display(),
            SocketAddr::new(node.address, number)
        );
    }
    println!(
        "Edit the Services in {}: the agents follow. Ctrl-C takes everything down.",
        cluster.folder.display()
    );
    Ok(())
}
