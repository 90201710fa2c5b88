//! Logs: structured, on the standard error, for people or for machines.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

use super::settings::{LogFormat, Settings};

/// The module of the API server's client that logs requests.
const CLIENT: &str = "kube_client::client::builder";

/// An error with its causes, each said once: many errors repeat theirs.
pub fn text(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            let colon = if text.is_empty() { "" } else { ": " };
            text = format!("{text}{colon}{cause}");
        }
    }
    text
}

/// Sends this process's logs to the standard error. Called once, first of all.
pub fn start(settings: &Settings) {
    // The client logs each failed request as an error, beside the source that says what that means.
    let filter = EnvFilter::new(format!("{CLIENT}=off,{}", settings.log_level));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    match settings.log_format {
        LogFormat::Text => logs.with_ansi(stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow!("no such file")
            .context("cannot read /x: no such file")
            .context("--kubeconfig /x");
        assert_eq!(super::text(&error), "--kubeconfig /x: cannot read /x: no such file");
    }
}
