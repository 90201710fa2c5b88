//! Logs: structured, on the standard error, for people or for machines.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

use super::settings::{LogFormat, Settings};

/// Sends this process's logs to the standard error. Called once, first of all.
pub fn start(settings: &Settings) {
    let filter = EnvFilter::new(&settings.log_level);
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    match settings.log_format {
        LogFormat::Text => logs.with_ansi(stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
}
