//! The example, as suites start clusters of it: whole, or its nodes with other objects.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// Where it is.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/online-store")
}

/// A folder of its nodes and of other objects than its own, as YAML.
pub fn nodes_with(objects: &str) -> Result<TempDir> {
    let made = tempfile::tempdir()?;
    let nodes = folder().join("nodes.yaml");
    fs::copy(&nodes, made.path().join("nodes.yaml")).with_context(|| format!("cannot copy {}", nodes.display()))?;
    fs::write(made.path().join("objects.yaml"), objects)?;
    Ok(made)
}
