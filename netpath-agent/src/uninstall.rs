//! netpath off a node, as if it had never been there. First the runtime stops using it, then programs, devices and routes
//! go, and files last: what fails on the way can be tried again.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use netpath_common::{hook::Hook, names};

use crate::{
    agent::{
        conflist::NETWORK,
        objects::MARK,
        state::{self, LOCK, Lock},
    },
    cni::names::is_pod_device,
    datapath::pins::{self, Pins},
    install::{BINARIES, server::NOTED},
    net::{self, Netlink, before, link::Link, sysctl},
    observe::agent::{self, Agent},
};

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
    /// Where the plugin was installed.
    pub cni_bin_dir: PathBuf,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    dry_run: bool,
    /// What was removed, or would be.
    pub removed: Vec<String>,
    /// Sysctls that have their earlier values again, or would have.
    pub restored: Vec<String>,
    /// What others have in netpath's folders.
    pub stays: Vec<String>,
    /// What could not be removed.
    pub problems: Vec<String>,
    /// Files and folders that were removed, or would be.
    gone: BTreeSet<PathBuf>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (remove, restore) = if self.dry_run {
            ("would remove", "would restore")
        } else {
            ("removed", "restored")
        };
        for what in &self.removed {
            writeln!(f, "{remove} {what}")?;
        }
        for what in &self.restored {
            writeln!(f, "{restore} {what}")?;
        }
        for what in &self.stays {
            writeln!(f, "{what}")?;
        }
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        if [&self.removed, &self.restored, &self.stays, &self.problems]
            .iter()
            .all(|said| said.is_empty())
        {
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
    let records = state::folder(&places.state_dir);
    let sysctls = outcome.sysctls(&records);
    outcome.pins(&places.pins);
    outcome.tree(&places.state_dir.join(NETWORK));
    match sysctls {
        Ok(()) => {
            outcome.tree(&records);
            outcome.folder(&places.state_dir);
        }
        // The records of what they were stay, for another try.
        Err(error) => outcome.problems.push(error.to_string()),
    }
    outcome.file(&places.run_dir.join(MARK));
    outcome.file(&places.run_dir.join(NOTED));
    outcome.file(&places.run_dir.join(LOCK));
    outcome.folder(&places.run_dir);
    // Last, and this program itself among them: nothing is left that they could be needed for.
    for name in BINARIES {
        outcome.file(&places.cni_bin_dir.join(name));
    }
    outcome
}

/// The agent's lock, if there is one; an error if an agent runs and would put everything back.
fn stopped(places: &Places, dry_run: bool) -> Result<Option<Lock>, String> {
    if dry_run {
        return Ok(None);
    }
    if matches!(agent::ask(places.agent), Agent::Ready(_) | Agent::NotReady { .. }) {
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
        self.take(path, |path| fs::remove_file(path));
    }

    /// A folder of ours, with all that is in it.
    fn tree(&mut self, path: &Path) {
        self.take(path, |path| fs::remove_dir_all(path));
    }

    fn take(&mut self, path: &Path, remove: fn(&Path) -> io::Result<()>) {
        let result = if self.dry_run {
            fs::symlink_metadata(path).map(drop)
        } else {
            remove(path)
        };
        if result.is_ok() {
            self.gone.insert(path.to_owned());
        }
        self.note(path.display().to_string(), result);
    }

    /// A folder that others may have put something into: it goes only if nothing is left in it. One that somebody has mounted
    /// something on stays, empty: it was there before.
    fn folder(&mut self, path: &Path) {
        let left = fs::read_dir(path).map(|entries| entries.flatten().any(|entry| !self.gone.contains(&entry.path())));
        match left {
            Ok(true) => {
                let text = format!("{} stays: it holds files that are not netpath's", path.display());
                self.stays.push(text);
            }
            Ok(false) if is_mount(path) => {}
            Ok(false) => self.take(path, |path| fs::remove_dir(path)),
            Err(error) => self.note(path.display().to_string(), Err(error)),
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
            if hook == Hook::FromPod && is_pod_device(&device) {
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
        if let Err(error) = self.routes(&netlink).await {
            self.failed("routes", error);
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

    /// The kernel's routes.
    async fn routes(&mut self, netlink: &Netlink) -> net::Result<()> {
        let mut names = netlink.own_route_names().await?;
        if !self.dry_run {
            let report = netlink.remove_routes().await?;
            self.problems.extend(report.errors.iter().map(ToString::to_string));
            let left = netlink.own_route_names().await?;
            names.retain(|name| !left.contains(name));
        }
        self.removed
            .extend(names.into_iter().map(|name| format!("route {name}")));
        Ok(())
    }

    /// Sysctls, back to what the agent found.
    fn sysctls(&mut self, state: &Path) -> net::Result<()> {
        let ports = sysctl::recorded(state)?;
        if !ports.is_empty() {
            if !self.dry_run {
                sysctl::release_ports(state)?;
            }
            self.restored
                .push(format!("net.ipv4.ip_local_reserved_ports, without {ports}"));
        }
        for change in before::changed(state)? {
            if !self.dry_run {
                before::restore(&change)?;
            }
            if !change.same {
                self.restored.push(format!("{} = {}", change.name(), change.before));
            }
        }
        Ok(())
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
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let result = if self.dry_run { Ok(()) } else { fs::remove_file(&path) };
                if result.is_ok() {
                    self.gone.insert(path);
                }
                // Of links those are left that no hook of this release explains.
                if !(self.dry_run && kind == "link") {
                    self.note(format!("{kind} {name}"), result);
                }
            }
            self.folder(&folder);
        }
        self.folder(pins.root());
    }
}

/// Whether something is mounted on a folder (proc_pid_mountinfo(5): the fifth field is the mount's place).
fn is_mount(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    mounts
        .lines()
        .any(|mount| mount.split(' ').nth(4).is_some_and(|place| Path::new(place) == path))
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
