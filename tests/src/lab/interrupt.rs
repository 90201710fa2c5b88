//! Ctrl-C and SIGTERM. A command that tidies up by itself asks [`stopped`]; anywhere else, in a test for one, a signal removes
//! the labs of this process and ends it.

use std::{
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

static STOP: AtomicBool = AtomicBool::new(false);
static ORDERLY: AtomicBool = AtomicBool::new(false);
static LISTENING: OnceLock<()> = OnceLock::new();
static STARTING: Mutex<()> = Mutex::new(());

/// Exit status of a program that SIGINT ended, as shells count it.
const INTERRUPTED: i32 = 130;

/// Starts to listen; once a process, further calls do nothing.
///
/// # Errors
/// The kernel refused the handlers or the thread.
pub fn listen() -> Result<()> {
    let _one = STARTING.lock();
    if LISTENING.get().is_some() {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot listen for signals")?;
    let (mut interrupt, mut terminate) = {
        let _context = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                STOP.store(true, Ordering::SeqCst);
                if !ORDERLY.load(Ordering::SeqCst) {
                    super::home::abandon();
                    std::process::exit(INTERRUPTED);
                }
            }
        });
    })?;
    let _ = LISTENING.set(());
    Ok(())
}

/// Says that this process looks at [`stopped`] and drops its labs itself.
///
/// # Errors
/// As [`listen`].
pub fn be_orderly() -> Result<()> {
    ORDERLY.store(true, Ordering::SeqCst);
    listen()
}

/// Whether a signal has come.
pub fn stopped() -> bool {
    STOP.load(Ordering::SeqCst)
}

/// Fails once a signal has come: for the steps of a long work.
///
/// # Errors
/// A signal has come.
pub fn check() -> Result<()> {
    if stopped() { bail!("interrupted") } else { Ok(()) }
}

/// Sleeps until a signal comes or `how_long` has passed; tells whether one came.
pub fn wait(how_long: Duration) -> bool {
    let end = Instant::now() + how_long;
    while !stopped() && Instant::now() < end {
        thread::sleep(Duration::from_millis(20).min(how_long));
    }
    stopped()
}
