//! Rules of others in the packet filter, by the names of their chains.

use std::collections::BTreeMap;
use std::io;

use super::{Finding, NAMED, owners};
use crate::net::chains::{Chain, chains};

/// The chains that are known to be another's, a finding for each owner.
///
/// # Errors
/// The kernel does not tell.
pub(super) fn find() -> io::Result<Vec<Finding>> {
    Ok(by_owner(chains()?))
}

fn by_owner(chains: Vec<Chain>) -> Vec<Finding> {
    let mut owned: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for Chain { table, name } in chains {
        if let Some(owner) = owners::of_chain(&table, &name) {
            owned.entry(owner).or_default().push(format!("{table} {name}"));
        }
    }
    let finding = |(owner, mut chains): (_, Vec<String>)| {
        let count = chains.len();
        chains.sort();
        chains.truncate(NAMED);
        Finding::Rules { owner, chains, count }
    };
    owned.into_iter().map(finding).collect()
}
