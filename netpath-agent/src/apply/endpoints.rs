//! The node's own addresses in `np_endpoint4` and `np_endpoint6`. Those of pods are the CNI plugin's, which writes beside us: every entry is
//! looked at just before it is changed.

use std::collections::BTreeMap;

use netpath_common::abi::endpoint::{Endpoint, KIND_HOST};

use super::report::Report;
use crate::{datapath::maps::Table, family::Family};

/// Adds those that are wanted, and changes those that are otherwise.
pub fn add<F: Family>(map: &mut Table<F, Endpoint>, wanted: &BTreeMap<F, Endpoint>, report: &mut Report) {
    for (address, endpoint) in wanted {
        let done = match map.get(address) {
            Ok(Some(found)) if found == *endpoint => continue,
            Ok(Some(found)) if found.kind != KIND_HOST => Ok(None),
            Ok(Some(_)) => map.insert(address, endpoint).map(|()| Some(false)),
            Ok(None) => map.insert_new(address, endpoint).map(|new| new.then_some(true)),
            Err(error) => Err(error),
        };
        let object = || format!("the node's address {}", F::Address::from(*address));
        match done {
            Ok(Some(true)) => report.table(F::NAMES.endpoint).added += 1,
            Ok(Some(false)) => report.table(F::NAMES.endpoint).changed += 1,
            Ok(None) => report.refuse(object(), "a pod of this node has it: delete that pod".to_owned()),
            Err(error) => report.fail(object(), &error),
        }
    }
}

/// Removes those that are not wanted.
pub fn remove<F: Family>(map: &mut Table<F, Endpoint>, wanted: &BTreeMap<F, Endpoint>, report: &mut Report) {
    let entries = match map.entries() {
        Ok(entries) => entries,
        Err(error) => return report.fail("the node's addresses".to_owned(), &error),
    };
    for (address, endpoint) in entries {
        if endpoint.kind != KIND_HOST || wanted.contains_key(&address) {
            continue;
        }
        match map.remove(&address) {
            Ok(_) => report.table(F::NAMES.endpoint).removed += 1,
            Err(error) => report.fail(format!("the node's address {}", F::Address::from(address)), &error),
        }
    }
}
