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

/// The next list's lengths in its order, then those that only the held one has; 0 ends a list.
fn union(held: [u8; ROUTE_PREFIXES], next: [u8; ROUTE_PREFIXES]) -> [u8; ROUTE_PREFIXES] {
    let mut all: Vec<u8> = Vec::new();
    for length in next.into_iter().chain(held) {
        if length != 0 && !all.contains(&length) {
            all.push(length);
        }
    }
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
    fn both_plans_lengths_are_named_the_next_ones_first() {
        assert_eq!(union([32, 24, 0, 0], [32, 26, 16, 0]), [32, 26, 16, 24]);
        assert_eq!(union([0; 4], [32, 24, 0, 0]), [32, 24, 0, 0]);
        assert_eq!(union([32, 24, 0, 0], [0; 4]), [32, 24, 0, 0]);
        assert_eq!(union([32, 24, 23, 22], [32, 21, 0, 0]), [32, 21, 0, 0]);
    }
}
