//! What `/proc` says of a process's memory.

use std::fs;

use anyhow::{Context as _, Result};

/// A line of `/proc/<id>/status`, in MiB.
///
/// # Errors
/// There is no such process, or no such line.
pub fn mebibytes(id: u32, key: &str) -> Result<f64> {
    let path = format!("/proc/{id}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let number = line
        .and_then(|line| line.split_whitespace().next())
        .and_then(|kib| kib.parse::<f64>().ok());
    Ok(number.with_context(|| format!("no {key} in {path}"))? / 1024.0)
}
