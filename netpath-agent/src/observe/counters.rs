//! The verdicts that the programs counted, with their names and meanings.

use netpath_common::{hook::Hook, reason::Reason};
use serde::Serialize;

use crate::datapath::{error::Result, maps::Counters, pins::Pins};

/// How often a hook reached a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The hook's name.
    pub hook: &'static str,
    /// The reason's name.
    pub reason: &'static str,
    /// What happened, for a person.
    pub text: &'static str,
    /// Whether the packets were thrown away.
    pub dropped: bool,
    /// Whether nothing is amiss: they went on, or are of a kind that healthy nodes throw away as well.
    pub expected: bool,
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Every verdict that was reached at least once, by hook and reason.
///
/// # Errors
/// [`crate::datapath::error::Error::MapMissing`], [`crate::datapath::error::Error::Map`].
pub fn verdicts(pins: &Pins) -> Result<Vec<Verdict>> {
    let counters = Counters::open(pins)?;
    let mut verdicts = Vec::new();
    for hook in Hook::ALL {
        for reason in Reason::ALL {
            let counted = counters.get(*hook, *reason)?;
            if counted.packets == 0 {
                continue;
            }
            verdicts.push(Verdict {
                hook: hook.name(),
                reason: reason.name(),
                text: reason.text(),
                dropped: reason.is_drop(),
                expected: reason.is_expected(),
                packets: counted.packets,
                bytes: counted.bytes,
            });
        }
    }
    Ok(verdicts)
}
