//! Other networks' configurations in the container runtime's folder, of which it takes the first by name.

use std::fs;
use std::io;

use serde_json::Value;

use super::{Finding, Scene};
use crate::agent::conflist::PLUGIN;

/// What a runtime reads, by the file name's end.
const READ: [&str; 3] = ["conf", "conflist", "json"];

/// Every configuration that does not name netpath's plugin: one that does is netpath's own, or an operator's list of it and
/// plugins that work behind it.
///
/// # Errors
/// The folder cannot be read; one that is not there has none.
pub(super) fn find(scene: &Scene<'_>) -> io::Result<Vec<Finding>> {
    let entries = match fs::read_dir(scene.cni_conf_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut findings = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if name == scene.conflist_name || !extension.is_some_and(|extension| READ.contains(&extension)) {
            continue;
        }
        let content = fs::read(&path).ok();
        let content = content.and_then(|content| serde_json::from_slice::<Value>(&content).ok());
        if content.as_ref().is_some_and(is_ours) {
            continue;
        }
        let network = content.as_ref().and_then(|content| content.get("name"));
        findings.push(Finding::Network {
            file: path.display().to_string(),
            network: network.and_then(Value::as_str).map(str::to_owned),
            ours: scene.conflist_name.to_owned(),
            wins: name < scene.conflist_name,
        });
    }
    Ok(findings)
}

fn is_ours(content: &Value) -> bool {
    let plugins = content.get("plugins").and_then(Value::as_array);
    plugins.is_some_and(|plugins| plugins.iter().any(|plugin| plugin["type"] == PLUGIN))
}
