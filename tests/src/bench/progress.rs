//! What a person sees while a measurement runs: one line on stderr that a terminal rewrites and a log gets once.

use std::{
    io::{IsTerminal as _, Write as _, stderr},
    time::{Duration, Instant},
};

/// A line about a piece of work of known length.
pub struct Progress {
    what: String,
    total: usize,
    done: usize,
    start: Instant,
    shown: Instant,
    terminal: bool,
}

impl Progress {
    /// Begins the line.
    pub fn new(what: impl Into<String>, total: usize) -> Self {
        let now = Instant::now();
        let progress = Self {
            what: what.into(),
            total,
            done: 0,
            start: now,
            shown: now,
            terminal: stderr().is_terminal(),
        };
        progress.show();
        progress
    }

    /// One more is done.
    pub fn step(&mut self) {
        self.done += 1;
        let wait = if self.terminal {
            Duration::from_millis(200)
        } else {
            Duration::from_secs(10)
        };
        if self.shown.elapsed() >= wait {
            self.shown = Instant::now();
            self.show();
        }
    }

    fn show(&self) {
        let line = format!(
            "  {}: {} of {}, {:.0?}",
            self.what,
            self.done,
            self.total,
            self.start.elapsed()
        );
        if self.terminal {
            eprint!("\r{line}\x1b[K");
            // Progress that cannot be shown is no reason to stop.
            stderr().flush().ok();
        } else {
            eprintln!("{line}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}
