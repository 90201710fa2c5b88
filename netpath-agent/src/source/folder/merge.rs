//! One cluster out of many files: of two that say the same object, the first by path has it.

use std::{
    collections::{BTreeMap, btree_map},
    path::PathBuf,
};

use super::files::Files;
use crate::{
    model::{Cluster, Problem},
    source::documents::Content,
};

/// Merges all files.
pub(super) fn merge(files: &Files) -> Cluster {
    let mut cluster = Cluster {
        problems: files.problems.clone(),
        unread: files.unread.clone(),
        ..Cluster::default()
    };
    let mut seen = BTreeMap::new();
    for (path, file) in &files.files {
        cluster.problems.extend(file.problem.clone());
        cluster.unread.extend(file.unread().cloned());
        for entry in &file.entries {
            match seen.entry((entry.content.kind(), &entry.name)) {
                btree_map::Entry::Occupied(first) => {
                    let (first_path, first_document): &(&PathBuf, usize) = first.get();
                    cluster.problems.push(Problem::refused(
                        entry.content.kind(),
                        &entry.name,
                        format!(
                            "it is there twice: {} document {first_document} is served, {} document {} is not",
                            first_path.display(),
                            path.display(),
                            entry.document
                        ),
                        "remove one of the two",
                    ));
                    continue;
                }
                btree_map::Entry::Vacant(free) => {
                    free.insert((path, entry.document));
                }
            }
            cluster.problems.extend(entry.problem.as_deref().cloned());
            let name = entry.name.clone();
            match entry.content.clone() {
                Content::Node(Some(node)) => {
                    cluster.nodes.insert(name.name().to_owned(), node);
                }
                Content::Service(Some(service)) => {
                    cluster.services.insert(name, service);
                }
                Content::Slice(Some(slice)) => {
                    cluster.slices.insert(name, slice);
                }
                Content::ServiceCidr(Some(range)) => {
                    cluster.service_cidrs.insert(name.name().to_owned(), range);
                }
                Content::Node(None) | Content::Service(None) | Content::Slice(None) | Content::ServiceCidr(None) => {}
            }
        }
    }
    cluster
}
