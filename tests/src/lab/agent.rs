//! A node's agent: the real program, with the folders of its node.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    home::Home,
    interrupt, kubelet,
    namespace::Namespace,
    process::{self, Process},
    topology::NodeNet,
};

/// Where an agent tells its health, on the node's loopback address.
pub const HEALTH_PORT: u16 = 9878;
/// How long an agent may take until it is ready: a second or two, but that others may be at work on the machine.
const START: Duration = Duration::from_secs(120);

/// A node's agent and its folders.
#[derive(Debug)]
pub struct Agent {
    /// The Node object's name.
    pub node: String,
    /// Where it pins.
    pub bpf_root: PathBuf,
    /// Where it writes the configuration list.
    pub conf_dir: PathBuf,
    /// What it says.
    pub log: PathBuf,
    folder: PathBuf,
    objects: PathBuf,
    process: Option<Process>,
}

impl Agent {
    /// The folders for a node's agent, which is not started yet.
    ///
    /// # Errors
    /// A folder cannot be made.
    pub fn new(home: &Home, node: &NodeNet, objects: &Path) -> Result<Self> {
        let folder = home.folder().join(&node.short);
        let agent = Self {
            node: node.name.clone(),
            bpf_root: home.bpf_root().join(&node.short),
            conf_dir: folder.join("cni"),
            log: folder.join("agent.log"),
            folder,
            objects: objects.to_owned(),
            process: None,
        };
        for folder in [&agent.conf_dir, &agent.folder.join("state"), &agent.folder.join("run")] {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        Ok(agent)
    }

    /// Starts the agent from this binary. It is ready when [`Self::wait`] returns.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&mut self, binary: &Path, namespace: &Namespace) -> Result<()> {
        self.start_with(binary, namespace, &[])
    }

    /// [`Self::start`] with further arguments.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_with(&mut self, binary: &Path, namespace: &Namespace, further: &[&str]) -> Result<()> {
        let mut command = Command::new(binary);
        command
            .args(["--node-name", &self.node])
            .arg("--folder")
            .arg(&self.objects)
            .arg("--bpf-root")
            .arg(&self.bpf_root)
            .arg("--state-dir")
            .arg(self.folder.join("state"))
            .arg("--run-dir")
            .arg(self.folder.join("run"))
            .arg("--cni-conf-dir")
            .arg(&self.conf_dir)
            .args(["--health-address", &format!("127.0.0.1:{HEALTH_PORT}")])
            .args(further);
        self.process = Some(Process::start(
            &format!("agent of {}", self.node),
            command,
            namespace,
            &self.log,
        )?);
        Ok(())
    }

    /// Waits until the agent is ready: it answers so, and its configuration list is there.
    ///
    /// # Errors
    /// It ended, or is not ready in time; the end of its log is in the error.
    pub fn wait(&mut self, namespace: &Namespace) -> Result<()> {
        let end = Instant::now() + START;
        loop {
            interrupt::check()?;
            let Some(process) = &mut self.process else {
                bail!("agent of {}: not started", self.node)
            };
            if let Some(status) = process.ended()? {
                bail!(
                    "agent of {}: ended with {}\n{}",
                    self.node,
                    process::describe(status),
                    self.log_end()
                );
            }
            if kubelet::conflist(&self.conf_dir)?.is_some() && namespace.run(|| Ok(health("/readyz").is_ok()))? {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("agent of {}: not ready in {START:?}\n{}", self.node, self.log_end());
            }
            interrupt::wait(Duration::from_millis(20));
        }
    }

    /// Kills the agent without a word.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill(),
            None => Ok(()),
        }
    }

    /// Asks the agent to end.
    ///
    /// # Errors
    /// It does not.
    pub fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.stop(),
            None => Ok(()),
        }
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// What its log warns of, a line each: objects that it refuses are named there.
    pub fn complaints(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let complaints = text
            .lines()
            .filter_map(|line| line.split_once(" WARN ").or_else(|| line.split_once(" ERROR ")));
        let complaints: Vec<_> = complaints.map(|(_, complaint)| complaint).collect();
        if complaints.is_empty() {
            return "nothing".to_owned();
        }
        complaints.join("\n")
    }

    fn log_end(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// Asks the agent of the calling thread's namespace.
fn health(path: &str) -> Result<()> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, HEALTH_PORT))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.lines().next().unwrap_or_default();
    if status.contains(" 200") {
        Ok(())
    } else {
        bail!("{path}: {status}")
    }
}
