//! What a cluster is given: that the image holds what both of its recipes say and nothing else, and that the manifest is the
//! chart.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

const IMAGE: &str = concat!("localhost/netpath:", env!("CARGO_PKG_VERSION"));
/// What the image may take, in bytes.
const LARGEST: u64 = 32 << 20;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn read(name: &str) -> Result<String> {
    let path = folder().join(name);
    fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

/// The documents of a YAML text, anchors resolved; documents of comments alone are none.
fn documents(text: &str) -> Result<Vec<Value>> {
    let mut documents = Vec::new();
    for document in serde_norway::Deserializer::from_str(text) {
        let mut value: serde_norway::Value = serde::Deserialize::deserialize(document)?;
        value.apply_merge()?;
        if !value.is_null() {
            documents.push(serde_json::to_value(value)?);
        }
    }
    Ok(documents)
}

/// A tar's files by name: mode and content. Folders are left out.
fn entries(bytes: &[u8]) -> Result<BTreeMap<String, (u32, Vec<u8>)>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(bytes).entries()? {
        let mut entry = entry?;
        let (name, mode) = (entry.path()?.display().to_string(), entry.header().mode()?);
        if entry.header().entry_type().is_file() {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            files.insert(name, (mode, content));
        }
    }
    Ok(files)
}

/// All containers of a DaemonSet, init containers first.
fn containers(daemon_set: &Value) -> Vec<&Value> {
    let pod = &daemon_set["spec"]["template"]["spec"];
    let lists = [&pod["initContainers"], &pod["containers"]];
    lists.into_iter().filter_map(Value::as_array).flatten().collect()
}

fn of_kind(documents: Vec<Value>, kind: &str) -> Result<Value> {
    let mut found = documents.into_iter().filter(|document| document["kind"] == kind);
    let one = found.next().with_context(|| format!("no {kind}"))?;
    ensure!(found.next().is_none(), "more than one {kind}");
    Ok(one)
}

#[test]
fn the_image_is_three_static_programs_and_no_shell() -> Result<()> {
    let Some(archive) = std::env::var_os("NETPATH_IMAGE") else {
        println!("skipped, 1: the image: NETPATH_IMAGE names no archive of it, `cargo xtask test deploy` builds one");
        return Ok(());
    };
    let archive = fs::read(&archive).with_context(|| format!("reading {}", archive.display()))?;
    assert!(archive.len() as u64 <= LARGEST, "{} bytes", archive.len());
    let parts = entries(&archive)?;
    let part = |name: &Value| -> Result<&[u8]> {
        let name = name.as_str().context("a name")?;
        Ok(&parts.get(name).with_context(|| format!("no {name}"))?.1)
    };
    let manifest: Value = serde_json::from_slice(part(&"manifest.json".into())?)?;
    assert_eq!(manifest[0]["RepoTags"], serde_json::json!([IMAGE]));
    assert_eq!(manifest.as_array().map(Vec::len), Some(1));

    let layers = manifest[0]["Layers"].as_array().context("layers")?;
    let root = tempfile::tempdir()?;
    let mut programs = Vec::new();
    for layer in layers {
        for (name, (mode, content)) in entries(part(layer)?)? {
            assert_eq!(mode, 0o755, "{name}");
            let path = root.path().join(&name);
            fs::write(&path, content)?;
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
            programs.push(name);
        }
    }
    programs.sort();
    assert_eq!(programs, ["netpath", "netpath-agent", "netpath-cni"]);
    // In a root that holds nothing else: no library, no loader of libraries.
    for (name, arguments) in [
        ("netpath", &["--version"][..]),
        ("netpath-agent", &["--version"]),
        ("netpath-cni", &[]),
    ] {
        let mut run = Command::new("unshare");
        run.arg("--root").arg(root.path()).arg(format!("/{name}"));
        let output = run.args(arguments).env("CNI_COMMAND", "VERSION").output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{name}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let expected = if name == "netpath-cni" {
            "1.1.0"
        } else {
            env!("CARGO_PKG_VERSION")
        };
        assert!(said.contains(expected), "{name}: {said}");
    }

    // The other recipe: the same files, since it takes all that the same command lays, and the same program to run.
    let recipe = read("Containerfile")?;
    let (_, image) = recipe.split_once("\nFROM scratch\n").context("an image from scratch")?;
    let config: Value = serde_json::from_slice(part(&manifest[0]["Config"])?)?;
    let entrypoint = format!("ENTRYPOINT {}", config["config"]["Entrypoint"]);
    assert_eq!(image, format!("COPY --from=build /image/ /\n{entrypoint}\n"));
    assert!(recipe.contains("\nRUN cargo xtask image --files /image\n"));
    Ok(())
}

/// The chart as helm renders it; `None` where there is no helm.
fn rendered(values: &[&str]) -> Result<Option<Vec<Value>>> {
    let Some(helm) = std::env::var_os("NETPATH_HELM") else {
        println!("skipped, 1: the chart: NETPATH_HELM names no helm, `cargo xtask test deploy` builds one where Go is");
        return Ok(None);
    };
    let mut run = Command::new(helm);
    run.args(["template", "netpath", "--namespace", "kube-system"])
        .arg(folder().join("chart/netpath"));
    for value in values {
        run.args(["--set", value]);
    }
    let output = run.output()?;
    ensure!(
        output.status.success(),
        "helm: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    documents(&String::from_utf8(output.stdout)?).map(Some)
}

#[test]
fn the_manifest_is_the_chart_with_its_default_values() -> Result<()> {
    let Some(chart) = rendered(&[])? else { return Ok(()) };
    let manifest = documents(&read("netpath.yaml")?)?;
    assert_eq!(manifest, chart, "make it anew with `cargo xtask manifest`");
    Ok(())
}

#[test]
fn the_charts_values_do_what_they_say() -> Result<()> {
    let values = [
        "settings.NETPATH_VNI=79",
        "startupTaint=example/wait",
        "image.tag=x",
        "cniBinDir=/b",
        "cniConfDir=/c",
    ];
    let Some(chart) = rendered(&values)? else { return Ok(()) };
    let role = of_kind(chart.clone(), "ClusterRole")?;
    let rules = role["rules"].as_array().context("rules")?;
    let patch_nodes = serde_json::json!({"apiGroups": [""], "resources": ["nodes"], "verbs": ["patch"]});
    assert!(rules.contains(&patch_nodes), "{rules:?}");
    let set = of_kind(chart, "DaemonSet")?;
    let agent = *containers(&set).last().context("the agent")?;
    let env = agent["env"].as_array().context("env")?;
    for (name, value) in [("NETPATH_VNI", "79"), ("NETPATH_STARTUP_TAINT", "example/wait")] {
        let wanted = serde_json::json!({"name": name, "value": value});
        assert!(env.contains(&wanted), "{env:?}");
    }
    let volumes = set["spec"]["template"]["spec"]["volumes"]
        .as_array()
        .context("volumes")?;
    for (name, path) in [("cni-bin", "/b"), ("cni-conf", "/c")] {
        let volume = volumes
            .iter()
            .find(|volume| volume["name"] == name)
            .context("the volume")?;
        assert_eq!(volume["hostPath"]["path"], path);
    }
    for container in containers(&set) {
        assert_eq!(container["image"], "localhost/netpath:x");
    }
    Ok(())
}

/// The DaemonSet's mounts, probes and rights are of the defaults: a setting alone would break it.
#[test]
fn the_chart_refuses_settings_that_it_could_not_follow() -> Result<()> {
    for name in [
        "STATE_DIR",
        "SYSCTL_DIR",
        "BPF_ROOT",
        "HEALTH_ADDRESS",
        "KUBECONFIG",
        "STARTUP_TAINT",
    ] {
        match rendered(&[&format!("settings.NETPATH_{name}=/x")]) {
            Ok(None) => return Ok(()),
            Ok(Some(_)) => anyhow::bail!("NETPATH_{name} is taken"),
            Err(error) => ensure!(
                error.to_string().contains(&format!("settings.NETPATH_{name}: ")),
                "{error}"
            ),
        }
    }
    Ok(())
}

#[test]
fn no_container_has_more_than_it_needs() -> Result<()> {
    let mut seen = BTreeMap::new();
    for file in ["netpath.yaml", "uninstall.yaml"] {
        let set = of_kind(documents(&read(file)?)?, "DaemonSet")?;
        for container in containers(&set) {
            let context = &container["securityContext"];
            assert_eq!(container["image"], IMAGE);
            assert_eq!(context["privileged"], Value::Null);
            assert_eq!(context["readOnlyRootFilesystem"], true);
            assert_eq!(context["allowPrivilegeEscalation"], false);
            assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]));
            let name = container["name"].as_str().context("a name")?.to_owned();
            let added = serde_json::from_value::<Vec<String>>(context["capabilities"]["add"].clone())?;
            seen.insert(name, added.join(" "));
        }
    }
    let expected = [
        ("agent", "BPF NET_ADMIN PERFMON"),
        ("done", "DAC_OVERRIDE NET_ADMIN"),
        ("install", "DAC_OVERRIDE"),
        ("uninstall", "DAC_OVERRIDE NET_ADMIN"),
    ];
    assert_eq!(
        seen,
        expected.map(|(name, added)| (name.to_owned(), added.to_owned())).into()
    );

    // What writes the node's programs is not what stays there.
    let set = of_kind(documents(&read("netpath.yaml")?)?, "DaemonSet")?;
    let agent = *containers(&set).last().context("the agent")?;
    let mounts = agent["volumeMounts"].as_array().context("mounts")?;
    let mounted: Vec<_> = mounts.iter().filter_map(|mount| mount["name"].as_str()).collect();
    assert_eq!(mounted, ["bpf", "sysctls", "cgroup", "cni-conf", "state", "run"]);
    Ok(())
}

#[test]
fn one_version_is_everywhere() -> Result<()> {
    let chart = documents(&read("chart/netpath/Chart.yaml")?)?;
    for field in ["version", "appVersion"] {
        assert_eq!(chart[0][field], env!("CARGO_PKG_VERSION"), "{field}");
    }
    assert!(read("Containerfile")?.contains(IMAGE));
    Ok(())
}
