//! The configuration while routes change: it names every prefix length that a route has, before and after.

use netpath_common::abi::config::{Config, ROUTE_PREFIXES};

/// The configuration to hold while routes move from one plan to the next: the next one's, with the prefix lengths of
/// both. Where they are too many for the entry, the next one's alone: routes of a length that goes are then missed a moment
/// before they are removed.
pub fn between(held: &Config, next: &Config) -> Config {
    Config {
        route_prefixes4: union(held.route_prefixes4, next.route_prefixes4),
        route_prefixes6: union(held.route_prefixes6, next.route_prefixes6),
        ..*next
    }
}

/// Both lists' lengths; 0 ends a list. The order, which decides of speed alone, is the next plan's again when it holds.
fn union(held: [u8; ROUTE_PREFIXES], next: [u8; ROUTE_PREFIXES]) -> [u8; ROUTE_PREFIXES] {
    let mut all: Vec<u8> = held.into_iter().chain(next).filter(|length| *length != 0).collect();
    all.sort_unstable_by(|one, other| other.cmp(one));
    all.dedup();
    if all.len() > ROUTE_PREFIXES {
        return next;
    }
    let mut prefixes = [0; ROUTE_PREFIXES];
    prefixes[..all.len()].copy_from_slice(&all);
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_plans_lengths_are_named_longest_first() {
        assert_eq!(union([32, 24, 0, 0], [32, 26, 16, 0]), [32, 26, 24, 16]);
        assert_eq!(union([0; 4], [32, 24, 0, 0]), [32, 24, 0, 0]);
        assert_eq!(union([32, 24, 0, 0], [0; 4]), [32, 24, 0, 0]);
        assert_eq!(union([32, 24, 23, 22], [32, 21, 0, 0]), [32, 21, 0, 0]);
    }
}
