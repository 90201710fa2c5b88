//! Single packets in the agent's log: a line for each verdict, where the programs were built for it (`cargo xtask build-ebpf
//! --debug-log`). Those of a release log nothing.

use std::{fmt, time::Duration};

use aya::Ebpf;
use aya_log::{EbpfLogger, Error as LogError};
use log::{Log, Metadata, Record};
use netpath_common::{hook::Hook, reason::Reason};
use tokio::time::sleep;
use tracing::info;

use super::error::{Error, Result, chain};

/// How often it is looked for. The programs have room for some thousand lines meanwhile, and leave out the rest.
const PAUSE: Duration = Duration::from_millis(20);

/// What the programs log.
pub struct PacketLog(EbpfLogger<Verdicts>);

impl PacketLog {
    /// The log of programs that have one.
    ///
    /// # Errors
    /// [`Error::Load`] if it is none that can be read.
    pub fn of(ebpf: &mut Ebpf) -> Result<Option<Self>> {
        match EbpfLogger::init_with_logger(ebpf, Verdicts) {
            Ok(logger) => Ok(Some(Self(logger))),
            Err(LogError::MapNotFound) => Ok(None),
            Err(error) => Err(Error::Load {
                what: "the programs' log of packets".to_owned(),
                reason: chain(&error),
            }),
        }
    }

    /// Writes what comes, for ever.
    pub async fn follow(mut self) {
        loop {
            self.0.flush();
            sleep(PAUSE).await;
        }
    }
}

impl fmt::Debug for PacketLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PacketLog")
    }
}

/// Writes verdicts by their names: programs know numbers alone.
struct Verdicts;

impl Log for Verdicts {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        match named(&text) {
            Some((hook, reason, bytes)) => info!(hook, reason, bytes, "packet"),
            None => info!("{text}"),
        }
    }

    fn flush(&self) {}
}

/// Hook, reason and bytes of a verdict, as a program writes it: their numbers, with spaces between.
fn named(text: &str) -> Option<(&'static str, &'static str, u64)> {
    let mut numbers = text.split(' ').map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok();
    let (hook, reason, bytes) = (next()?, next()?, next()?);
    let hook = Hook::ALL.iter().find(|known| **known as u64 == hook)?;
    let reason = Reason::ALL.iter().find(|known| **known as u64 == reason)?;
    Some((hook.name(), reason.name(), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_has_names() {
        assert_eq!(named("0 34 98"), Some(("from_pod", "spoofed_address", 98)));
        for other in ["", "0 34", "0 255 98", "99 34 98", "from_pod no_route 98"] {
            assert_eq!(named(other), None, "{other:?}");
        }
    }
}
