//! The plugin driven by the reference library (`cnitool`), which checks names, versions and results in its own way.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use netpath_tests::lab::{namespace::Namespace, process};
use serde_json::{Value, json};

use super::node::{Node, Remains};

/// Runs cnitool on the node, and gives back what it printed.
fn cnitool(node: &Node, tool: &Path, configurations: &Path, command: &str, pod: &Namespace) -> Result<Value> {
    let plugin = process::binary("netpath-cni")?;
    let mut run = Command::new(tool);
    run.args([command, "netpath"])
        .arg(pod.path())
        .env("NETCONFPATH", configurations)
        .env("CNI_PATH", plugin.parent().context("a folder")?);
    let output = process::output(run, &node.namespace, b"")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(
        output.status.success(),
        "cnitool {command}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    match output.stdout.is_empty() {
        true => Ok(Value::Null),
        false => Ok(serde_json::from_slice(&output.stdout)?),
    }
}

#[test]
fn cnitool_attaches_checks_collects_and_detaches_in_every_version() -> Result<()> {
    let Some(tool) = std::env::var_os("NETPATH_CNITOOL") else {
        println!("skipped, 1: the plugin through cnitool: NETPATH_CNITOOL names no such program");
        return Ok(());
    };
    let node = Node::new()?;
    for (version, number) in [("0.3.1", 2), ("0.4.0", 3), ("1.0.0", 4), ("1.1.0", 5)] {
        let folder = node.home.folder().join(version);
        fs::create_dir_all(&folder)?;
        let mut plugin = node.config(json!({}));
        let keys = plugin.as_object_mut().context("an object")?;
        keys.remove("cniVersion");
        keys.remove("name");
        let list = json!({"cniVersion": version, "name": "netpath", "plugins": [plugin]});
        fs::write(folder.join("10-netpath.conflist"), list.to_string())?;
        let pod = node.pod(&format!("p{number}"))?;
        let run = |command: &str| cnitool(&node, Path::new(&tool), &folder, command, &pod);

        if version == "1.1.0" {
            assert_eq!(run("status")?, Value::Null);
        }
        let result = run("add")?;
        assert_eq!(result["cniVersion"], version);
        assert_eq!(result["ips"][0]["address"], format!("10.244.1.{number}/24"));
        assert_eq!(result["ips"][0]["interface"], 2);
        assert_eq!(result["interfaces"][2]["sandbox"], json!(pod.path()));
        if version != "0.3.1" {
            assert_eq!(run("check")?, Value::Null);
        }
        if version == "1.1.0" {
            // cnitool lists no attachment as valid.
            assert_eq!(run("gc")?, Value::Null);
            assert_eq!(node.remains()?, Remains::default());
        }
        assert_eq!(run("del")?, Value::Null);
        assert_eq!(run("del")?, Value::Null);
        assert_eq!(node.remains()?, Remains::default());
    }
    Ok(())
}
