//! Running other commands so that a person sees what goes on: every command here says what it is for, and anything that
//! takes longer than two seconds shows how long it has been at it.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a command may be silent before its name is shown.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time between two lines where there is no terminal to redraw: a log wants signs of life, not a clock.
const LOG_INTERVAL: Duration = Duration::from_secs(20);
/// How many of a failed command's last lines are shown.
const TAIL: usize = 40;

/// Says something to the person at the terminal. Standard error, so that a command's own output stays clean.
pub fn say(text: &str) {
    eprintln!("xtask: {text}");
}

/// Runs a command that writes to the terminal itself, such as cargo.
///
/// # Errors
/// The command could not be started, or it failed.
pub fn shown(what: &str, command: &mut Command) -> Result<()> {
    say(what);
    let started = Instant::now();
    let status = command.status().with_context(|| cannot_start(command))?;
    finish(what, status, started)
}

/// Runs a command whose output matters only when it fails, and returns that output.
///
/// # Errors
/// The command could not be started, or it failed; then the last lines of its output are part of the error.
pub fn watched(what: &str, command: &mut Command) -> Result<String> {
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| cannot_start(command))?;
    let (lines, incoming) = channel();
    let readers = [
        child.stdout.take().map(|pipe| read_lines(pipe, lines.clone())),
        child.stderr.take().map(|pipe| read_lines(pipe, lines.clone())),
    ];
    // The readers hold the only senders now: the channel closes when both pipes do.
    drop(lines);

    let mut display = Display::new(what, started);
    let mut output = Vec::new();
    loop {
        match incoming.recv_timeout(Duration::from_millis(500)) {
            Ok(line) => {
                display.tick(Some(&line));
                output.push(line);
            }
            Err(RecvTimeoutError::Timeout) => display.tick(None),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    for reader in readers.into_iter().flatten() {
        reader.join().ok();
    }
    let status = child
        .wait()
        .with_context(|| format!("waiting for {}", command.get_program().display()))?;
    display.clear();
    let tail = output[output.len().saturating_sub(TAIL)..].join("\n");
    if let Err(error) = finish(what, status, started) {
        bail!("{error}\n{tail}");
    }
    Ok(output.join("\n"))
}

fn read_lines(pipe: impl Read + Send + 'static, lines: Sender<String>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut raw = Vec::new();
        while pipe.read_until(b'\n', &mut raw).is_ok_and(|read| read > 0) {
            let line = String::from_utf8_lossy(&raw).trim_end().to_owned();
            raw.clear();
            if lines.send(line).is_err() {
                break;
            }
        }
    })
}

fn cannot_start(command: &Command) -> String {
    format!(
        "cannot start `{}`: is it installed and on the PATH?",
        command.get_program().display()
    )
}

fn finish(what: &str, status: ExitStatus, started: Instant) -> Result<()> {
    let elapsed = started.elapsed();
    if !status.success() {
        bail!("{what}: failed after {:.0} s ({status})", elapsed.as_secs_f64());
    }
    if elapsed > PATIENCE {
        say(&format!("{what}: done in {:.0} s", elapsed.as_secs_f64()));
    }
    Ok(())
}

/// One line that shows a command at work: redrawn on a terminal, repeated now and then elsewhere.
struct Display<'a> {
    what: &'a str,
    started: Instant,
    terminal: bool,
    drawn: Option<Instant>,
    last_line: String,
}

impl<'a> Display<'a> {
    fn new(what: &'a str, started: Instant) -> Self {
        Self {
            what,
            started,
            terminal: std::io::stderr().is_terminal(),
            drawn: None,
            last_line: String::new(),
        }
    }

    fn tick(&mut self, line: Option<&str>) {
        if let Some(line) = line.filter(|line| !line.trim().is_empty()) {
            self.last_line = line.trim().chars().take(60).collect();
        }
        let elapsed = self.started.elapsed();
        let interval = if self.terminal {
            Duration::from_millis(500)
        } else {
            LOG_INTERVAL
        };
        if elapsed < PATIENCE || self.drawn.is_some_and(|drawn| drawn.elapsed() < interval) {
            return;
        }
        self.drawn = Some(Instant::now());
        let text = format!("xtask: {} … {} s  {}", self.what, elapsed.as_secs(), self.last_line);
        if self.terminal {
            eprint!("\r\x1b[K{text}");
            std::io::stderr().flush().ok();
        } else {
            eprintln!("{text}");
        }
    }

    fn clear(&self) {
        if self.terminal && self.drawn.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        shell
    }

    #[test]
    fn a_watched_command_gives_its_output() {
        let output = watched("asking", &mut shell("echo one; echo; echo three")).unwrap();
        assert_eq!(output, "one\n\nthree");
    }

    #[test]
    fn a_failure_says_what_failed_and_shows_its_last_lines() {
        let script = "i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo line $i; done; exit 3";
        let error = watched("counting", &mut shell(script)).unwrap_err().to_string();
        let mut lines = error.lines();
        assert_eq!(lines.next(), Some("counting: failed after 0 s (exit status: 3)"));
        let shown: Vec<String> = lines.map(str::to_owned).collect();
        let expected: Vec<String> = (11..=50).map(|number| format!("line {number}")).collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = watched("trying", &mut Command::new("/nowhere/netpath-no-such-program"))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "cannot start `/nowhere/netpath-no-such-program`: is it installed and on the PATH?"
        );
    }
}
