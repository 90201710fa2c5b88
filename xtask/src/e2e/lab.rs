//! The scripts of `tests/cluster`, run so that a cluster is always taken down: also after a failure, and when a signal ends the run.

use std::ffi::OsString;
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

/// How long a script and its children may take to end when they are told to.
const GRACE: Duration = Duration::from_secs(10);

/// Where the lab is, and which cluster its tests are for.
pub struct Lab {
    /// Where it keeps what it builds, and its logs.
    pub folder: PathBuf,
    /// The kubeconfig of a cluster that is not the lab's own.
    pub theirs: Option<PathBuf>,
    interrupted: Arc<AtomicBool>,
}

impl Lab {
    /// The lab, to test the cluster of a kubeconfig or one of its own.
    pub fn new(theirs: Option<PathBuf>) -> Self {
        let folder = std::env::var_os("NETPATH_LAB").unwrap_or_else(|| OsString::from("/var/tmp/netpath-lab"));
        Self {
            folder: folder.into(),
            theirs,
            interrupted: Arc::default(),
        }
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

    /// Builds parts that are missing.
    ///
    /// # Errors
    /// A part cannot be built.
    pub fn build(&self, parts: &[&str]) -> Result<()> {
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
        if let Some(kubeconfig) = &self.theirs {
            command.env("NETPATH_CLUSTER", kubeconfig);
        }
        command
    }
}

fn scripts() -> PathBuf {
    tree::root().join(Path::new("tests/cluster"))
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
                self.lab.folder.join("run/kubeconfig").display(),
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
