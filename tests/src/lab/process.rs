//! Programs inside namespaces. Each is killed when its guard is dropped, and by the kernel when the lab itself dies.

use std::{
    fs::File,
    io::Write,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{LazyLock, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
    sys::{
        prctl::set_pdeathsig,
        signal::{Signal, kill},
    },
    unistd::Pid,
};

use super::namespace::Namespace;

/// How long a program may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(3);

/// Where a binary of this build is: in the folder that `NETPATH_BIN_DIR` names, else beside the running one.
///
/// # Errors
/// The binary has not been built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    let mut beside = own.parent().unwrap_or(Path::new("."));
    // A test's binary is one folder further down.
    if beside.ends_with("deps") {
        beside = beside.parent().unwrap_or(beside);
    }
    let path = std::env::var_os("NETPATH_BIN_DIR")
        .map_or_else(|| beside.to_owned(), PathBuf::from)
        .join(name);
    if !path.exists() {
        bail!(
            "{} has not been built: cargo build -p netpath-agent -p netpath-tests --bins",
            path.display()
        );
    }
    Ok(path)
}

/// A running program.
#[derive(Debug)]
pub struct Process {
    what: String,
    child: Child,
}

impl Process {
    /// Starts a program inside a namespace; what it prints goes to `log`.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(what: &str, mut command: Command, namespace: &Namespace, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.with_context(|| format!("cannot open {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        Ok(Self {
            what: what.to_owned(),
            child: spawn(command, namespace)?,
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Kills it without a word (SIGKILL) and waits for its end.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end (SIGTERM), and kills it if it does not.
    ///
    /// # Errors
    /// It had to be killed.
    pub fn stop(&mut self) -> Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
        let end = Instant::now() + GRACE;
        while Instant::now() < end {
            if self.ended()?.is_some() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.kill()?;
        bail!("{} did not end within {GRACE:?} of SIGTERM", self.what)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("{}: {error:#}", self.what);
        }
    }
}

/// Runs a program inside a namespace to its end, with `input` on its standard input.
///
/// # Errors
/// The program cannot be started or does not take the input.
pub fn output(mut command: Command, namespace: &Namespace, input: &[u8]) -> Result<Output> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = spawn(command, namespace)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading says why on its other streams.
        let _ = stdin.write_all(input);
    }
    Ok(child.wait_with_output()?)
}

/// An exit status for a person.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown end".to_owned(),
    }
}

type Job = (Command, mpsc::Sender<std::io::Result<Child>>);

/// The kernel counts as a child's parent the thread that started it: one that lives as long as this process starts them all.
static STARTER: LazyLock<Mutex<mpsc::Sender<Job>>> = LazyLock::new(|| {
    let (jobs, queue) = mpsc::channel::<Job>();
    thread::spawn(move || {
        for (mut command, answer) in queue {
            // Who asked has gone: the child is of no use to anyone.
            if let Err(mpsc::SendError(Ok(mut orphan))) = answer.send(command.spawn()) {
                let _ = orphan.kill();
                let _ = orphan.wait();
            }
        }
    });
    Mutex::new(jobs)
});

fn spawn(mut command: Command, namespace: &Namespace) -> Result<Child> {
    let program = command.get_program().to_string_lossy().into_owned();
    let file = namespace.file().try_clone()?;
    // A group of its own: Ctrl-C in the terminal is for the lab, which ends its programs in order.
    command.process_group(0);
    let enter = move || {
        setns(&file, CloneFlags::CLONE_NEWNET)?;
        set_pdeathsig(Signal::SIGKILL)?;
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe functions may run. `enter` makes two system calls, setns and prctl,
    // allocates nothing and takes no lock; its error is a number.
    unsafe { command.pre_exec(enter) };
    let (answer, child) = mpsc::channel();
    let starter = STARTER.lock().unwrap_or_else(PoisonError::into_inner).clone();
    starter
        .send((command, answer))
        .map_err(|_| anyhow!("the thread that starts programs is gone"))?;
    child
        .recv()?
        .with_context(|| format!("cannot start {program} in {}", namespace.name()))
}
