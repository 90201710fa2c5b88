//! netpath off a node, as if it had never been there. First the runtime stops using it, then programs, devices and routes
//! go, and files last: what fails on the way can be tried again.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use netpath_common::{hook::Hook, names};

use crate::{
    agent::state::Lock,
    cni::names::is_pod_device,
    datapath::pins::{self, Pins},
    net::{Netlink, link::Link, sysctl},
    observe::agent::{self, Agent},
};

/// The network that the agent's configuration list names: the plugin keeps its files under it.
const NETWORK: &str = "netpath";
/// The agent's own folder below the state folder.
const AGENT: &str = ".agent";
/// The agent's lock below the run folder.
const LOCK: &str = "agent.lock";

/// Where a node keeps what is netpath's.
#[derive(Clone, Debug)]
pub struct Places {
    /// Maps, programs and links.
    pub pins: Pins,
    /// Where a running agent answers.
    pub agent: SocketAddr,
    /// Addresses and the agent's own records.
    pub state_dir: PathBuf,
    /// The agent's lock.
    pub run_dir: PathBuf,
    /// The CNI configuration list.
    pub conflist: PathBuf,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    dry_run: bool,
    /// What was removed, or would be.
    pub removed: Vec<String>,
    /// What could not be.
    pub problems: Vec<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.dry_run { "would remove" } else { "removed" };
        for what in &self.removed {
            writeln!(f, "{verb} {what}")?;
        }
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        if self.removed.is_empty() && self.problems.is_empty() {
            writeln!(f, "nothing of netpath's is on this node")?;
        }
        Ok(())
    }
}

/// Removes everything, or lists it. Goes on past what fails.
pub fn uninstall(places: &Places, dry_run: bool) -> Outcome {
    let mut outcome = Outcome {
        dry_run,
        ..Outcome::default()
    };
    // Held to the end, so that no agent starts in between.
    let _lock = match stopped(places, dry_run) {
        Ok(lock) => lock,
        Err(problem) => {
            outcome.problems.push(problem);
            return outcome;
        }
    };
    outcome.file(&places.conflist);
    let linked = outcome.links(&places.pins);
    outcome.network(&linked);
    outcome.sysctls(&places.state_dir.join(AGENT));
    outcome.pins(&places.pins);
    outcome.tree(&places.state_dir.join(NETWORK));
    outcome.tree(&places.state_dir.join(AGENT));
    outcome.folder(&places.state_dir);
    outcome.file(&places.run_dir.join(LOCK));
    outcome.folder(&places.run_dir);
    outcome
}

/// The agent's lock, if there is one; an error if an agent runs and would put everything back.
fn stopped(places: &Places, dry_run: bool) -> Result<Option<Lock>, String> {
    if dry_run {
        return Ok(None);
    }
    if matches!(agent::ask(places.agent), Agent::Ready | Agent::NotReady(_)) {
        let address = places.agent;
        return Err(format!(
            "netpath-agent runs and would put everything back: stop it first (it answers at {address})"
        ));
    }
    let lock = places.run_dir.join(LOCK).exists().then(|| Lock::take(&places.run_dir));
    lock.transpose().map_err(|error| error.to_string())
}

impl Outcome {
    fn failed(&mut self, what: &str, error: impl fmt::Display) {
        self.problems.push(format!("cannot remove {what}: {error}"));
    }

    /// Takes the result of a removal down; an object that is not there is no matter.
    fn note(&mut self, what: String, result: io::Result<()>) {
        match result {
            Ok(()) => self.removed.push(what),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.failed(&what, error),
        }
    }

    fn file(&mut self, path: &Path) {
        let result = if self.dry_run {
            fs::symlink_metadata(path).map(drop)
        } else {
            fs::remove_file(path)
        };
        self.note(path.display().to_string(), result);
    }

    /// A folder of ours, with all that is in it.
    fn tree(&mut self, path: &Path) {
        let result = if self.dry_run {
            fs::symlink_metadata(path).map(drop)
        } else {
            fs::remove_dir_all(path)
        };
        self.note(path.display().to_string(), result);
    }

    /// A folder that others may have put something into: it goes only if nothing is left in it.
    fn folder(&mut self, path: &Path) {
        let result = if self.dry_run {
            fs::symlink_metadata(path).map(drop)
        } else {
            fs::remove_dir(path)
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                let text = format!("{} stays: it holds files that are not netpath's", path.display());
                self.problems.push(text);
            }
            result => self.note(path.display().to_string(), result),
        }
    }

    /// The programs off their devices. Returns the pods' devices among these.
    fn links(&mut self, pins: &Pins) -> BTreeSet<String> {
        let links = pins.links().unwrap_or_else(|error| {
            self.problems.push(error.to_string());
            Vec::new()
        });
        let mut pods = BTreeSet::new();
        for (device, hook) in links {
            let what = format!("program {} from {device}", hook.name());
            let path = pins.link(&device, hook);
            match if self.dry_run { Ok(true) } else { pins::remove(&path) } {
                Ok(_) => self.removed.push(what),
                Err(error) => self.failed(&what, error),
            }
            if matches!(hook, Hook::FromPod | Hook::ToPod) && is_pod_device(&device) {
                pods.insert(device);
            }
        }
        pods
    }

    /// Routes and devices of this network namespace.
    fn network(&mut self, linked: &BTreeSet<String>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.netlink(linked)),
            Err(error) => self.failed("devices and routes", error),
        }
    }

    async fn netlink(&mut self, linked: &BTreeSet<String>) {
        let netlink = match Netlink::connect() {
            Ok(netlink) => netlink,
            Err(error) => return self.failed("devices and routes", error),
        };
        if self.dry_run {
            let text = "the routes of protocol 78, if there are any: `ip route show proto 78` lists them";
            self.removed.push(text.to_owned());
        } else {
            match netlink.remove_routes().await {
                Ok(report) => {
                    if report.deleted > 0 {
                        self.removed.push(format!("{} routes of protocol 78", report.deleted));
                    }
                    let errors = report.errors.iter().map(ToString::to_string);
                    self.problems.extend(errors);
                }
                Err(error) => self.failed("routes", error),
            }
        }
        let links = match netlink.links().await {
            Ok(links) => links,
            Err(error) => return self.failed("devices", error),
        };
        for link in ours(&links, linked) {
            let what = format!("device {}", link.name);
            if self.dry_run {
                self.removed.push(what);
                continue;
            }
            match netlink.delete_link(&link.name).await {
                Ok(true) => self.removed.push(what),
                Ok(false) => {}
                Err(error) => self.failed(&what, error),
            }
        }
    }

    fn sysctls(&mut self, state: &Path) {
        if !state.exists() {
            return;
        }
        let what = "the reservation of source NAT's ports (net.ipv4.ip_local_reserved_ports)";
        let result = if self.dry_run {
            Ok(())
        } else {
            sysctl::release_ports(state)
        };
        match result {
            Ok(()) => self.removed.push(what.to_owned()),
            Err(error) => self.failed(what, error),
        }
    }

    /// Maps and programs, and the folders of the pins.
    fn pins(&mut self, pins: &Pins) {
        for (kind, folder) in [
            ("map", pins.maps_dir()),
            ("program", pins.programs_dir()),
            ("link", pins.links_dir()),
        ] {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    self.failed(&folder.display().to_string(), error);
                    continue;
                }
            };
            for path in entries.flatten().map(|entry| entry.path()) {
                // Of links those are left that no hook of this release explains.
                if self.dry_run && kind == "link" {
                    continue;
                }
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let result = if self.dry_run { Ok(()) } else { fs::remove_file(&path) };
                self.note(format!("{kind} {name}"), result);
            }
            self.folder(&folder);
        }
        self.folder(pins.root());
    }
}

/// The devices that are netpath's: by name and kind, so that a stranger of that name stays; pods' first.
fn ours<'a>(links: &'a [Link], linked: &BTreeSet<String>) -> Vec<&'a Link> {
    let of = |name: &str, kind: &str| links.iter().find(|link| link.name == name && link.kind == kind);
    let bridge = of(names::BRIDGE_DEVICE, "bridge");
    let pods = links.iter().filter(|link| {
        let port = bridge.is_some_and(|bridge| link.controller == Some(bridge.index));
        link.kind == "veth" && is_pod_device(&link.name) && (port || linked.contains(&link.name))
    });
    pods.chain(bridge).chain(of(names::OVERLAY_DEVICE, "vxlan")).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use nix::sched::{CloneFlags, unshare};
    use rtnetlink::{LinkMessageBuilder, LinkVeth};

    use super::*;
    use crate::{
        datapath::{attach::attach, load::load, scratch::Scratch, sizes::Sizes},
        net::{bridge::Bridge, overlay::Overlay},
        plan::{KernelRoute, Way},
    };

    const POD: &str = "np0123456789a";
    const STRANGERS: [&str; 2] = ["np0123456789b", "npkeep"];

    /// Devices, a route and a port of the bridge, as an agent and its plugin make them, and two of a stranger's.
    async fn equip() {
        let netlink = Netlink::connect().expect("a netlink socket");
        let node = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let gateway = "10.244.1.1/24".parse().expect("a network");
        let bridge = Bridge {
            gateways: vec![gateway],
            mtu: 1450,
            node,
        };
        let bridge = netlink.ensure_bridge(&bridge).await.expect("a bridge");
        let overlay = Overlay {
            port: 4789,
            mtu: 1450,
            node,
        };
        netlink.ensure_overlay(&overlay).await.expect("a vxlan device");
        for (name, peer, port) in [(POD, "eth0", true), (STRANGERS[0], STRANGERS[1], false)] {
            let pair = LinkMessageBuilder::<LinkVeth>::new(name, peer);
            let pair = if port { pair.controller(bridge.index) } else { pair };
            let added = netlink.handle().link().add(pair.build()).execute().await;
            added.expect("a veth pair");
        }
        let route = KernelRoute {
            destination: "10.96.0.0/12".parse().expect("a network"),
            way: Way::Link { device: bridge.index },
            source: IpAddr::V4(Ipv4Addr::new(10, 244, 1, 1)),
        };
        let report = netlink.apply_routes([&route]).await.expect("routes");
        assert!(report.errors.is_empty(), "{:?}", report.errors);
    }

    async fn devices() -> Vec<String> {
        let netlink = Netlink::connect().expect("a netlink socket");
        let links = netlink.links().await.expect("devices");
        let mut names: Vec<String> = links.into_iter().map(|link| link.name).collect();
        names.sort();
        names
    }

    /// A node in this thread's own network namespace, with an agent's files below `folder`.
    fn node(pins: &Pins, folder: &Path) -> Places {
        unshare(CloneFlags::CLONE_NEWNET).expect("root");
        let sizes = Sizes {
            max_services: 16,
            max_backends: 16,
            max_connections: 256,
            ..Sizes::default()
        };
        load(pins, &sizes).expect("programs that load");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(equip());
        for (hook, device) in [
            (Hook::FromPod, POD),
            (Hook::ToPod, POD),
            (Hook::FromOverlay, names::OVERLAY_DEVICE),
        ] {
            attach(pins, hook, device).expect("attached");
        }
        let places = Places {
            pins: pins.clone(),
            // Port 1 of a namespace whose loopback device is down.
            agent: SocketAddr::from(([127, 0, 0, 1], 1)),
            state_dir: folder.join("state"),
            run_dir: folder.join("run"),
            conflist: folder.join("05-netpath.conflist"),
        };
        for file in [
            places.state_dir.join("netpath/10.244.1.2"),
            places.state_dir.join(".agent/hash-seed"),
            places.run_dir.join(LOCK),
            places.conflist.clone(),
        ] {
            fs::create_dir_all(file.parent().expect("a folder")).expect("created");
            fs::write(file, "x").expect("written");
        }
        sysctl::reserve_ports(&(50_000..=50_999), &places.state_dir.join(".agent")).expect("reserved");
        places
    }

    fn block_on_devices() -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(devices())
    }

    fn reserved() -> String {
        let path = "/proc/sys/net/ipv4/ip_local_reserved_ports";
        fs::read_to_string(path).expect("a sysctl").trim().to_owned()
    }

    #[test]
    fn every_trace_goes_and_strangers_stay() {
        let scratch = Scratch::fresh();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let places = node(&scratch.0, folder.path());
        let before = block_on_devices();
        assert_eq!(reserved(), "50000-50999");

        let listed = uninstall(&places, true);
        assert_eq!(listed.problems, [""; 0]);
        assert_eq!(block_on_devices(), before);
        assert_eq!(reserved(), "50000-50999");
        assert!(places.conflist.exists() && places.pins.map(names::CONFIG).exists());

        let done = uninstall(&places, false);
        assert_eq!(done.problems, [""; 0]);
        let plain = |outcome: &Outcome| -> Vec<String> {
            let removed = outcome.removed.iter().filter(|what| !what.contains("of protocol 78"));
            removed.cloned().collect()
        };
        assert_eq!(plain(&done), plain(&listed));
        assert!(done.removed.contains(&"1 routes of protocol 78".to_owned()), "{done}");
        assert_eq!(block_on_devices(), ["lo", STRANGERS[0], STRANGERS[1]]);
        assert_eq!(reserved(), "");
        assert!(!places.pins.root().exists());
        let left: Vec<_> = fs::read_dir(folder.path()).expect("a folder").collect();
        assert!(left.is_empty(), "{left:?}");

        let again = uninstall(&places, false);
        assert_eq!(again.to_string(), "nothing of netpath's is on this node\n");
    }

    #[test]
    fn a_running_agent_is_not_undone() {
        let scratch = Scratch::fresh();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let places = node(&scratch.0, folder.path());
        let lock = Lock::take(&places.run_dir).expect("free");
        let done = uninstall(&places, false);
        assert_eq!(done.removed, [""; 0]);
        assert_eq!(done.problems.len(), 1, "{done}");
        assert!(
            done.problems[0].contains("another netpath-agent runs on this node"),
            "{done}"
        );
        assert!(places.conflist.exists() && places.pins.map(names::CONFIG).exists());
        drop(lock);
        assert_eq!(uninstall(&places, false).problems, [""; 0]);
    }

    #[test]
    fn files_of_others_stay_and_are_named() {
        let scratch = Scratch::fresh();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let places = node(&scratch.0, folder.path());
        fs::write(places.state_dir.join("precious"), "x").expect("written");
        let done = uninstall(&places, false);
        let stays = format!(
            "{} stays: it holds files that are not netpath's",
            places.state_dir.display()
        );
        assert_eq!(done.problems, [stays]);
        assert!(places.state_dir.join("precious").exists());
    }
}
