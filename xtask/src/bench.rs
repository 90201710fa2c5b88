//! `cargo xtask bench`: figures beside those of the rivals, taken in release builds. On this machine alone by `netpath-bench`; in real
//! clusters, one for each network, by `netpath-cluster-bench`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::binaries::{self, Profile};
use crate::lab::{Cluster, Lab, Underlay};
use crate::machine::{self, Need};
use crate::{deploy, progress, tree};

/// Their rules are written by their own tool, as they are in the clusters that run them.
const NEEDS: [Need; 1] = [Need {
    program: "iptables-restore",
    package: "iptables",
    reason: "writes the rules of the paths netpath is compared with",
}];

/// The modes of kube-proxy, each a rival.
const PROXIES: [&str; 2] = ["nftables", "iptables"];
/// How many nodes a cluster has.
const NODES: &str = "2";

/// Measure netpath beside its rivals
#[derive(clap::Args)]
pub struct Arguments {
    /// In real clusters on this machine, as those of `cargo xtask e2e`: netpath, then flannel with kube-proxy in each of its modes
    #[arg(long)]
    cluster: bool,
    /// The network between the clusters' nodes: one segment (l2), or a subnet for each node and a router (l3)
    #[arg(long, value_enum, default_value_t = Underlay::L2, requires = "cluster")]
    underlay: Underlay,
    /// Last, what to hand on to netpath-bench: --quick for a short run, --only PATTERN for a part. In clusters --quick alone
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// `cargo xtask bench`
pub fn command(arguments: &Arguments) -> Result<()> {
    if arguments.cluster {
        return in_clusters(arguments);
    }
    machine::ready(&NEEDS)?;
    binaries::build(Profile::Release)?;
    binaries::become_binary(Profile::Release, "netpath-bench", &arguments.rest)
}

fn in_clusters(arguments: &Arguments) -> Result<()> {
    let quick = match &arguments.rest[..] {
        [] => false,
        [word] if word == "--quick" => true,
        words => bail!("with --cluster there is only --quick, and not: {}", words.join(" ")),
    };
    let lab = Lab::new();
    if !matches!(lab.cluster, Cluster::Made) {
        bail!("clusters are made here, one for each network: unset KUBECONFIG");
    }
    let _ours = lab.prepare(&["cluster"])?;
    let image = deploy::image::archive();
    deploy::image::build(&image)?;
    binaries::build(Profile::Release)?;
    let folder = lab.folder.join("bench");
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;

    // The faster of flannel's ways that this underlay allows.
    let backend = match arguments.underlay {
        Underlay::L2 => "host-gw",
        Underlay::L3 => "vxlan",
    };
    let image = image.to_string_lossy();
    let mut files = vec![folder.join("netpath.json")];
    in_one(
        &lab,
        arguments.underlay,
        quick,
        ("netpath", &[&image]),
        "netpath",
        &files[0],
    )?;
    for proxy in PROXIES {
        let file = folder.join(format!("{proxy}.json"));
        let network = format!("{backend} + {proxy}");
        let baseline: (_, &[&str]) = ("baseline", &["--backend", backend, "--proxy", proxy]);
        in_one(&lab, arguments.underlay, quick, baseline, &network, &file)?;
        files.push(file);
    }

    let mut compare = Command::new(Profile::Release.folder().join("netpath-cluster-bench"));
    compare.args(["compare", "--underlay", arguments.underlay.name()]);
    if !quick {
        compare.arg("--out").arg(tree::root().join("docs"));
    }
    progress::shown("comparing", compare.args(&files))
}

/// Makes a cluster, puts a network on it by a script with its arguments, measures it, and takes the cluster down.
fn in_one(
    lab: &Lab,
    underlay: Underlay,
    quick: bool,
    (script, arguments): (&str, &[&str]),
    network: &str,
    file: &Path,
) -> Result<()> {
    let _down = lab.down_at_the_end(false)?;
    lab.script("up", &["--underlay", underlay.name(), "--nodes", NODES])?;
    lab.script(script, arguments)?;
    let file = file.to_string_lossy();
    let mut measure = vec![network, &*file];
    if quick {
        measure.push("--quick");
    }
    lab.script("bench", &measure)
}
