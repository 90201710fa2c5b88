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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use netpath_common::{names::MAPS, reason::Reason};

    /// The names in the first column of a table that begins with this heading.
    fn column<'a>(page: &'a str, heading: &str) -> BTreeSet<&'a str> {
        let rows = page.lines().skip_while(|line| !line.starts_with(heading)).skip(2);
        let cells = rows.map_while(|row| row.strip_prefix("| `")?.split("` |").next());
        cells.flat_map(|cell| cell.split("`, `")).collect()
    }

    #[test]
    fn the_page_explains_every_map_and_every_reason_and_no_other() {
        let page = include_str!("../../../docs/maps.md");
        assert_eq!(column(page, "| map |"), MAPS.iter().copied().collect());
        let named = |dropped: bool| -> BTreeSet<_> {
            let reasons = Reason::ALL.iter().filter(|reason| reason.is_drop() == dropped);
            reasons.map(|reason| reason.name()).collect()
        };
        assert_eq!(column(page, "| reason | what happened | what to do |"), named(true));
        assert_eq!(column(page, "| reason | what happened |"), named(false));
        for reason in Reason::ALL {
            let row = format!("| `{}` | {} |", reason.name(), reason.text());
            assert!(page.contains(&row), "docs/maps.md has no {row}");
        }
    }
}
