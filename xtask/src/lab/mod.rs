//! The lab: a real Kubernetes on this machine. The scripts of `tests/cluster` make it and work on it; here they are run so that a cluster is
//! always taken down, also after a failure, and when a signal ends the run.

mod needs;

use std::fs::{File, TryLockError};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::{progress, tree};

/// The kubeconfig of the lab's own cluster, below its folder.
const KUBECONFIG: &str = "run/kubeconfig";
/// How long a script and its children may take to end when they are told to.
const GRACE: Duration = Duration::from_secs(10);

/// Where the lab is, and which cluster its tests are for.
pub struct Lab {
    /// Where it keeps what it builds, and its logs.
    pub folder: PathBuf,
    /// The cluster.
    pub cluster: Cluster,
    interrupted: Arc<AtomicBool>,
}

/// What joins the nodes.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Underlay {
    /// One segment.
    L2,
    /// A subnet for each node, and a router.
    L3,
}

impl Underlay {
    /// As the scripts name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::L2 => "l2",
            Self::L3 => "l3",
        }
    }
}

/// Which addresses nodes, pods and services have.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Families {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// Both, and IPv4 where an object does not say.
    Dual,
}

impl Families {
    /// As the scripts name them.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Dual => "dual",
        }
    }
}

/// Which cluster is tested.
pub enum Cluster {
    /// One that is made for it, and taken down.
    Made,
    /// The lab's own, that was left up.
    Kept,
    /// The one of this kubeconfig.
    Theirs(PathBuf),
}

impl Lab {
    /// The lab in `$NETPATH_LAB`, to test the cluster of `$KUBECONFIG`, or one that it makes.
    pub fn new() -> Self {
        let named = |variable| {
            std::env::var_os(variable)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let folder = named("NETPATH_LAB").unwrap_or_else(|| PathBuf::from("/var/tmp/netpath-lab"));
        let cluster = match named("KUBECONFIG") {
            None => Cluster::Made,
            Some(kubeconfig) if kubeconfig == folder.join(KUBECONFIG) => Cluster::Kept,
            Some(kubeconfig) => Cluster::Theirs(kubeconfig),
        };
        Self {
            folder,
            cluster,
            interrupted: Arc::default(),
        }
    }

    /// Makes sure that a cluster of these parts can be made here, and builds those that are missing. There is one cluster at a time:
    /// the claim to it ends with the value.
    ///
    /// # Errors
    /// Another run is at it, or a cluster is up; the machine lacks something, or a part cannot be built.
    pub fn prepare(&self, parts: &[&str]) -> Result<File> {
        let claim = self.claim()?;
        needs::cluster(self, parts)?;
        self.build(parts)?;
        Ok(claim)
    }

    /// Makes sure that the cluster of a kubeconfig can be tested, and builds the tests if they are missing.
    ///
    /// # Errors
    /// The machine lacks something, or the tests cannot be built.
    pub fn prepare_tests(&self, kubeconfig: &Path) -> Result<()> {
        needs::tests(self, kubeconfig)?;
        self.build(&["tests"])
    }

    fn claim(&self) -> Result<File> {
        let folder = &self.folder;
        std::fs::create_dir_all(folder).with_context(|| format!("making the lab's folder {}", folder.display()))?;
        let lock = folder.join("lock");
        let file = File::create(&lock).with_context(|| format!("creating {}", lock.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("another `cargo xtask` is using {}", folder.display()),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", lock.display()));
            }
        }
        if folder.join("run").exists() {
            bail!(
                "a cluster is up, or was not taken down. Remedy: {} ends it, KUBECONFIG={} tests it",
                scripts().join("down").display(),
                folder.join(KUBECONFIG).display()
            );
        }
        Ok(file)
    }

    /// Whether all is there that `build` would make for these parts.
    pub fn is_built(&self, parts: &[&str]) -> bool {
        let last_of = |part: &str| match part {
            "cluster" => "images/lab.tar",
            "ingress" => "images/traefik.tar",
            _ => "bin/e2e.test",
        };
        parts.iter().all(|part| self.folder.join(last_of(part)).exists())
    }

    fn build(&self, parts: &[&str]) -> Result<()> {
        if self.is_built(parts) {
            return Ok(());
        }
        progress::say("building Kubernetes and its tests: about half an hour on two processors, the first time only");
        progress::shown("building the lab", self.command("build").args(parts))
    }

    /// Has the cluster taken down when the value goes, whatever happened; signals end the run in order from now on.
    ///
    /// # Errors
    /// Signals cannot be caught.
    pub fn down_at_the_end(&self, keep: bool) -> Result<Down<'_>> {
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signal_hook::flag::register(signal as i32, Arc::clone(&self.interrupted))
                .with_context(|| format!("catching {signal}"))?;
        }
        Ok(Down { lab: self, keep })
    }

    /// Runs a script to its end, or to a signal.
    ///
    /// # Errors
    /// It failed, or a signal came.
    pub fn script(&self, name: &str, arguments: &[&str]) -> Result<()> {
        self.unless_interrupted()?;
        let started = Instant::now();
        progress::say(&format!("{name} {}", arguments.join(" ")));
        // A group of its own: Ctrl-C reaches only us, and we end all that the script has started.
        let mut child = self
            .command(name)
            .args(arguments)
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting tests/cluster/{name}"))?;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if self.interrupted.load(Ordering::Relaxed) {
                end(&mut child)?;
                self.unless_interrupted()?;
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        let elapsed = started.elapsed().as_secs_f64();
        if !status.success() {
            bail!("{name}: failed after {elapsed:.0} s ({status})");
        }
        progress::say(&format!("{name}: done in {elapsed:.0} s"));
        Ok(())
    }

    /// # Errors
    /// A signal has come.
    pub fn unless_interrupted(&self) -> Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Where Kubernetes' tests write what came of them.
    pub fn conformance_report(&self) -> PathBuf {
        self.folder.join("conformance/report.json")
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new(scripts().join(script));
        command.env("NETPATH_LAB", &self.folder).env_remove("NETPATH_CLUSTER");
        if let Cluster::Theirs(kubeconfig) = &self.cluster {
            command.env("NETPATH_CLUSTER", kubeconfig);
        }
        command
    }
}

fn scripts() -> PathBuf {
    tree::root().join("tests/cluster")
}

/// Ends a script and its children: asks first.
fn end(child: &mut Child) -> Result<ExitStatus> {
    let group = Pid::from_raw(i32::try_from(child.id())?);
    killpg(group, Signal::SIGTERM).ok();
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            // The script may be gone before its children.
            killpg(group, Signal::SIGKILL).ok();
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    killpg(group, Signal::SIGKILL).ok();
    Ok(child.wait()?)
}

/// Takes the cluster down when dropped.
pub struct Down<'a> {
    lab: &'a Lab,
    keep: bool,
}

impl Drop for Down<'_> {
    fn drop(&mut self) {
        let down = scripts().join("down");
        if self.keep && !self.lab.interrupted.load(Ordering::Relaxed) {
            progress::say(&format!(
                "the cluster stays up: KUBECONFIG={}, {} ends it",
                self.lab.folder.join(KUBECONFIG).display(),
                down.display()
            ));
            return;
        }
        // In a group of its own too: a second Ctrl-C must not leave half of a cluster.
        let ended = self.lab.command("down").process_group(0).status();
        if !ended.is_ok_and(|status| status.success()) {
            progress::say(&format!("the cluster could not be taken down: run {}", down.display()));
        }
    }
}
