//! The CNI plugin (CNI SPEC 1.1.0, down to 0.3.1): what a container runtime runs to attach a pod to the node's network and
//! to detach it. It needs no daemon: addresses are files, programs and tables are pinned, and the configuration that the
//! agent wrote says where. ADD and DEL work while the agent is down.
//!
//! A request's way: [`request`] and [`config`] check it, then [`attach`], [`detach`], [`check`], [`collect`] or
//! [`status`] acts, with [`allocate`] for addresses, [`tables`] for the pod's entries and [`hostport`] for its ports
//! on the node; [`result`] or [`error`] is the
//! answer.

pub mod allocate;
pub mod attach;
pub mod check;
pub mod collect;
pub mod config;
pub mod detach;
pub mod error;
pub mod hostport;
pub mod names;
pub mod pool;
pub mod portmap;
pub mod record;
pub mod request;
pub mod result;
pub mod status;
pub mod tables;
pub mod version;

use std::{
    cell::OnceCell,
    io::{IsTerminal, Read, Write, stderr, stdin, stdout},
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

use serde_json::Value;

use error::{Code, Error};
use request::{Command, Environment, Request};
use version::Version;

/// A network configuration longer than this is a mistake: a list of 100,000 valid attachments is shorter.
const MAX_STDIN: u64 = 16 << 20;

/// The whole plugin: reads environment and standard input, writes the answer to standard output, and nothing else there.
pub fn main() -> ExitCode {
    let input = || {
        let mut json = Vec::new();
        // By hand, VERSION needs no configuration: do not wait for somebody to type one.
        if !stdin().is_terminal() {
            let read = stdin().lock().take(MAX_STDIN + 1).read_to_end(&mut json);
            read.map_err(|error| Error::new(Code::Io, "cannot read standard input").details(error.to_string()))?;
        }
        if json.len() as u64 > MAX_STDIN {
            return Err(Error::new(
                Code::Decode,
                format!("the network configuration is longer than {MAX_STDIN} bytes"),
            ));
        }
        Ok(json)
    };
    let (answer, code) = match answer(&|name| std::env::var_os(name), input) {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(result)) => (result.to_string(), ExitCode::SUCCESS),
        Err((error, version)) => (error.to_json(version.as_str()), ExitCode::FAILURE),
    };
    match stdout().write_all(answer.as_bytes()).and_then(|()| stdout().flush()) {
        Ok(()) => code,
        Err(error) => {
            log(format_args!("cannot write the answer: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Says something to whoever keeps the runtime's logs. Nobody need be listening.
pub(crate) fn log(message: std::fmt::Arguments<'_>) {
    let _ = writeln!(stderr(), "netpath-cni: {message}");
}

/// The answer to a request: what to print, if anything, or the error and the version to say it in.
///
/// # Errors
/// Whatever is wrong with the request, or went wrong on the way.
pub fn answer(
    env: Environment<'_>,
    stdin: impl FnOnce() -> Result<Vec<u8>, Error>,
) -> Result<Option<Value>, (Error, Version)> {
    let spoken = OnceCell::new();
    let answered = catch_unwind(AssertUnwindSafe(|| {
        let stdin = || {
            let json = stdin()?;
            let _ = spoken.set(spoken_version(&json));
            Ok(json)
        };
        perform(Request::parse(env, stdin)?)
    }));
    let answered = answered.unwrap_or_else(|_| {
        Err(
            Error::new(Code::Internal, "the plugin failed in a way that it should not")
                .details("see its standard error"),
        )
    });
    answered.map_err(|error| (error, spoken.get().copied().unwrap_or(Version::NEWEST)))
}

/// The version of a configuration that may be wrong in other ways.
fn spoken_version(json: &[u8]) -> Version {
    let object: Option<Value> = serde_json::from_slice(json).ok();
    let text = object.as_ref().and_then(|object| object.get("cniVersion")?.as_str());
    Version::parse(text).unwrap_or(Version::NEWEST)
}

fn perform(request: Request) -> Result<Option<Value>, Error> {
    let (network, command) = match request {
        Request::Version { asked } => return Ok(Some(version::answer(asked.as_deref()))),
        Request::On(network, Command::Status) => return status::status(&network).map(|()| None),
        Request::On(network, command) => (network, command),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.map_err(|error| Error::new(Code::Internal, format!("cannot start: {error}")))?;
    runtime.block_on(async {
        match command {
            Command::Add { attachment, netns, pod } => attach::add(&network, &attachment, &netns, pod).await.map(Some),
            Command::Del { attachment } => detach::del(&network, &attachment).await.map(|()| None),
            Command::Check { attachment, netns } => check::check(&network, &attachment, &netns).await.map(|()| None),
            Command::Gc => collect::gc(&network).await.map(|()| None),
            Command::Status => status::status(&network).map(|()| None),
        }
    })
}

#[cfg(test)]
mod tests;
