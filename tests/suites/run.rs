//! `netpath-lab run` as a person meets it: its words, its exit status, and that it leaves nothing.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};
use netpath_tests::lab::{home::Home, process};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::example;

/// A lab's name that no other test has.
fn name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("run{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn lab(name: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(process::binary("netpath-lab")?);
    command.args(["run", "--name", name]).args(arguments);
    Ok(command)
}

fn told(output: &Output) -> (Option<i32>, String) {
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    )
}

/// A lab that stays up, killed with the test.
struct Running {
    child: Child,
    said: String,
}

impl Running {
    /// Starts one and waits until it says that it stays up.
    fn start(name: &str) -> Result<Self> {
        let child = lab(name, &[])?.arg(example::folder()).stdout(Stdio::piped()).spawn()?;
        let mut running = Self {
            child,
            said: String::new(),
        };
        let out = running.child.stdout.take().context("no output")?;
        let mut out = BufReader::new(out);
        while !running.said.contains("Ctrl-C takes everything down") {
            anyhow::ensure!(
                out.read_line(&mut running.said)? > 0,
                "the lab ended early:\n{}",
                running.said
            );
        }
        running.child.stdout = Some(out.into_inner());
        Ok(running)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.child.id().cast_signed()), signal)?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_stays_up_refuses_a_second_and_leaves_nothing_on_ctrl_c() -> Result<()> {
    let name = name();
    let mut first = Running::start(&name)?;
    assert!(first.said.contains(", 0 failed"), "{}", first.said);

    let second = lab(&name, &["--once"])?.arg(example::folder()).output()?;
    let expected = format!(
        "netpath-lab: a lab named {name} runs already (process {}), with the namespaces {name}-n1, …: stop that one first, \
         or give this one a name of its own with --name",
        first.child.id()
    );
    assert_eq!(told(&second), (Some(1), expected));
    assert_eq!(first.child.try_wait()?, None, "the first ended");

    // What it says to try works as it stands. bpftool reads maps by BTF, curl is not on every machine.
    let tries = first
        .said
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("nsenter") || line.starts_with("bpftool"));
    for line in tries.filter(|line| !line.contains("curl")) {
        let output = Command::new("sh").args(["-c", line]).output()?;
        assert!(output.status.success(), "{line}: {}", told(&output).1);
        assert!(!output.stdout.is_empty(), "{line} says nothing");
    }

    first.signal(Signal::SIGINT)?;
    let mut rest = String::new();
    first
        .child
        .stdout
        .take()
        .context("no output")?
        .read_to_string(&mut rest)?;
    assert_eq!(first.child.wait()?.code(), Some(0), "{rest}");
    assert_eq!(super::lab::remains(&name)?, Vec::<PathBuf>::new());
    Ok(())
}

#[test]
fn the_next_lab_takes_away_what_a_killed_one_left() -> Result<()> {
    let name = name();
    let killed = Running::start(&name)?;
    drop(killed);
    assert!(
        !super::lab::remains(&name)?.is_empty(),
        "SIGKILL left nothing: then this test shows nothing"
    );
    let next = Home::unique()?;
    assert_eq!(super::lab::remains(&name)?, Vec::<PathBuf>::new());
    drop(next);
    Ok(())
}

#[test]
fn what_is_wrong_is_named() -> Result<()> {
    let home = Home::unique()?;
    let cases = [
        ("kind: [", "all.yaml, document 1"),
        (
            "{kind: Node, apiVersion: v1, metadata: {name: n}}",
            "all.yaml, document 1: Node n: no IP address of type InternalIP",
        ),
        ("", ": no Node in it"),
        (
            "{kind: Node, apiVersion: v1, metadata: {name: n}, status: {addresses: [{type: InternalIP, address: 9.9.9.9}]}}",
            "Node n: its InternalIP 9.9.9.9 is on no segment of the lab",
        ),
    ];
    for (text, expected) in cases {
        let folder = home.folder().join("broken");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("all.yaml"), text)?;
        let name = name();
        let (code, said) = told(&lab(&name, &["--once"])?.arg(&folder).output()?);
        assert_eq!(code, Some(1), "{text}");
        assert!(said.contains(expected), "{said}\nlacks\n{expected}");
        assert_eq!(super::lab::remains(&name)?, Vec::<PathBuf>::new(), "{text}");
    }

    // A copy, where any user may run it.
    let copy = home.folder().join("netpath-lab");
    fs::copy(process::binary("netpath-lab")?, &copy)?;
    let output = Command::new(&copy)
        .args(["run", "--once"])
        .arg(example::folder())
        .current_dir("/")
        .uid(65534)
        .output()?;
    let expected = "netpath-lab: the lab makes network namespaces and loads BPF programs: run it as root";
    assert_eq!(told(&output), (Some(1), expected.to_owned()));
    Ok(())
}

#[test]
fn a_service_that_the_agents_refuse_is_named_with_the_remedy() -> Result<()> {
    let home = Home::unique()?;
    let folder = home.folder().join("refused");
    fs::create_dir_all(&folder)?;
    for file in ["nodes.yaml", "pods.yaml", "services.yaml"] {
        let text = fs::read_to_string(example::folder().join(file))?;
        fs::write(folder.join(file), text.replace("30080", "80"))?;
    }
    let name = name();
    let (code, said) = told(&lab(&name, &["--once"])?.arg(&folder).output()?);
    assert_eq!(code, Some(1), "{said}");
    let expected = "its agent says: Service default/wear: spec.ports: TCP nodePort 80 is outside of the range 30000-32767; use a \
                    port of the range, or leave the field out and let the API server choose";
    assert!(said.ends_with(expected), "{said}");
    assert_eq!(super::lab::remains(&name)?, Vec::<PathBuf>::new());
    Ok(())
}
