//! What a cluster is given: the image and the manifest. `deploy/` holds what they are made from.

pub mod image;
pub mod manifest;

use std::path::PathBuf;

use crate::tree;

/// The image's name. No registry has it, and none can: a node finds the image only where somebody has put it.
pub const IMAGE: &str = concat!("localhost/netpath:", env!("CARGO_PKG_VERSION"));

/// The folder that `deploy/` is in the tree.
fn folder() -> PathBuf {
    tree::root().join("deploy")
}
