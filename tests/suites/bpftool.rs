//! What a person sees who dumps a map: every field under its name, addresses as their bytes, numbers as numbers. LLVM leaves
//! types out of the BTF where it thinks nobody needs them, and a dump is bare bytes then: each map is asked for its own.

mod filled;
mod shown;

use std::{
    fs,
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use netpath_agent::datapath::{load::load, pins::Pins, sizes::Sizes};
use netpath_common::names;
use serde_json::Value;

/// A root of pins that goes with the test.
struct Root(Pins);

impl Root {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(Pins::new(format!(
            "/sys/fs/bpf/netpath-bpftool-{}-{count}",
            std::process::id()
        )))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.root());
    }
}

/// What `bpftool map dump` prints of a pinned map, with further options.
fn dump(path: &Path, options: &[&str]) -> Result<String> {
    let mut command = Command::new("bpftool");
    command.args(options).args(["map", "dump", "pinned"]).arg(path);
    let output = command
        .output()
        .context("bpftool does not start: install Debian's package bpftool")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "bpftool, of {}: {errors}", path.display());
    Ok(String::from_utf8(output.stdout)?)
}

/// The entries of a dump.
fn entries(dump: &str) -> Result<Vec<Value>> {
    let Value::Array(entries) = serde_json::from_str(dump).context("not JSON")? else {
        anyhow::bail!("not a list of entries");
    };
    Ok(entries)
}

/// Whether an entry of the counters, as it is shown, counted something: the array has a place for every hook and reason.
fn has_counted(entry: &Value) -> bool {
    let values = entry["values"].as_array().into_iter().flatten();
    values
        .map(|value| &value["value"]["packets"])
        .any(|packets| *packets != 0)
}

#[test]
fn every_map_shows_its_fields_by_name() -> Result<()> {
    let root = Root::new();
    let pins = &root.0;
    load(pins, &Sizes::default())?;
    filled::fill(pins)?;
    for map in names::MAPS {
        let about = |form: &str| format!("{form} of {map}");
        let expected = shown::expected(map)?;
        let shown = |mut entries: Vec<Value>| {
            match *map {
                names::COUNTER => entries.retain(has_counted),
                // The other one stands in while this one is written.
                names::CONFIG => entries.retain(|entry| entry["value"]["abi_version"] != 0),
                _ => {}
            }
            entries
        };
        let text = dump(&pins.map(map), &[])?;
        let plain = shown(entries(&text).with_context(|| about("the dump"))?);
        ensure!(plain == [expected.clone()], "{} is:\n{text}", about("the dump"));
        let text = dump(&pins.map(map), &["-j"])?;
        let json = entries(&text).with_context(|| about("the JSON dump"))?;
        let json = shown(json.into_iter().map(|mut entry| entry["formatted"].take()).collect());
        ensure!(json == [expected], "{} is:\n{text}", about("the JSON dump"));
    }
    Ok(())
}
