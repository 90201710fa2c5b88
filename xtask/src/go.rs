//! Programs of others, written in Go, that tests ask for their opinion: built into `target/tools` where Go is there.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{progress, tree};

/// The reference CNI library's own driver of plugins.
pub fn cnitool() -> Result<PathBuf> {
    install("cnitool", "1.3.0", "github.com/containernetworking/cni/cnitool")
}

/// What renders charts.
pub fn helm() -> Result<PathBuf> {
    install("helm", "4.3.1", "helm.sh/helm/v4/cmd/helm")
}

/// The program, built if it is not there.
fn install(name: &str, version: &str, package: &str) -> Result<PathBuf> {
    let folder = tree::tools().join(format!("{name}-{version}"));
    let path = folder.join(name);
    if !path.is_file() {
        let mut go = Command::new("go");
        go.args(["install", &format!("{package}@v{version}")])
            .env("GOBIN", &folder)
            .env("GOFLAGS", "");
        progress::watched(&format!("building {name} {version}"), &mut go)?;
    }
    Ok(path)
}
