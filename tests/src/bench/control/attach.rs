//! How long a pod waits for its network: the plugin's ADD, beside the kernel's own share of it and the start of a process.

use std::{process::Command, time::Instant};

use anyhow::{Context as _, Result, ensure};

use super::{ATTACH, BARE_ATTACH, PLUGIN, median};
use crate::{
    bench::{
        netlink::End,
        netns::Namespace,
        progress::Progress,
        report::Control,
        site::{self, Site},
    },
    lab::{self, kubelet, process},
};

/// The pod's end of the bare pair.
const POD: u32 = 2;
/// The node's end, far from what the node has.
const PORT: u32 = 9_000;

/// Attaches `count` pods by each way.
///
/// # Errors
/// When one cannot be attached.
pub fn measure(site: &Site, count: usize) -> Result<Vec<Control>> {
    let mut progress = Progress::new("pods attached", count);
    let (mut adds, mut bare, mut starts) = (Vec::new(), Vec::new(), Vec::new());
    let node = site.node_namespace(0)?;
    for number in 0..count {
        let name = format!("bench-{number}");
        let namespace = lab::namespace::Namespace::create(&site.home().namespace(&name))?;
        let container = site.home().namespace(&name);
        let spec = site::spec(&name);
        let start = Instant::now();
        kubelet::call(site.node(0), "ADD", &container, &namespace.path(), &spec)?;
        adds.push(start.elapsed());
        kubelet::call(site.node(0), "DEL", &container, &namespace.path(), &spec)?;

        let pod = Namespace::new()?;
        let start = Instant::now();
        pair(&node, &pod)?;
        bare.push(start.elapsed());
        node.net.delete(PORT)?;

        let start = Instant::now();
        version(site)?;
        starts.push(start.elapsed());
        progress.step();
    }
    Ok(vec![
        median(ATTACH, adds, "process, address, device, programs and entries"),
        median(BARE_ATTACH, bare, "over one open routing socket"),
        median(PLUGIN, starts, "the process alone"),
    ])
}

/// What any plugin must ask of the kernel.
fn pair(node: &Namespace, pod: &Namespace) -> Result<()> {
    let near = End {
        name: "bench",
        index: PORT,
        mac: [0x02, 0, 0, 0, 0xfd, 1],
    };
    let far = End {
        name: "eth0",
        index: POD,
        mac: [0x02, 0, 0, 0, 0xfd, 2],
    };
    node.net.veth(&near, &far, pod, 1450)?;
    pod.net.address(POD, [10u8, 244, 1, 250], 24)?;
    pod.net.route([0, 0, 0, 0].into(), 0, Some([10, 244, 1, 1].into()), POD)
}

fn version(site: &Site) -> Result<()> {
    let mut command = Command::new(process::binary("netpath-cni")?);
    command.env_clear().env("CNI_COMMAND", "VERSION");
    let output = process::output(command, site.node(0).namespace, br#"{"cniVersion":"1.1.0"}"#)
        .context("cannot ask the plugin for its version")?;
    ensure!(
        output.status.success(),
        "CNI VERSION: {}",
        String::from_utf8_lossy(&output.stdout).trim()
    );
    Ok(())
}
