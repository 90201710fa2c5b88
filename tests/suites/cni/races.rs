//! The plugin and time: many at once, killed at any point, and an agent that exchanges programs meanwhile.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::process::ExitStatusExt,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use aya::programs::SchedClassifier;
use netpath_agent::datapath::{attach, load, pins::Pins, sys::pinned_link};
use netpath_common::hook::Hook;
use serde_json::{Value, json};

use super::{
    address,
    node::{self, Node, Remains, Reply},
};

#[test]
fn a_hundred_adds_at_once_then_a_hundred_dels() -> Result<()> {
    let node = Node::new()?;
    let pods = (0..100)
        .map(|n| node.pod(&format!("p{n}")))
        .collect::<Result<Vec<_>>>()?;
    let all = |command: &str| -> Result<Vec<Value>> {
        let children = pods.iter().enumerate().map(|(number, pod)| {
            let plugin = node.plugin(command, &format!("c{number}"), Some(pod))?;
            node.start(plugin, &node.config(json!({})))
        });
        let children = children.collect::<Result<Vec<_>>>()?;
        let replies = children
            .into_iter()
            .map(|child| Reply::from(&child.wait_with_output()?)?.ok());
        replies.collect()
    };
    let results = all("ADD")?;
    let addresses = results.iter().map(address).collect::<Result<BTreeSet<_>>>()?;
    assert_eq!(addresses.len(), 100, "no address twice");
    let there = node.remains()?;
    assert_eq!(
        (
            there.files.len(),
            there.devices.len(),
            there.links.len(),
            there.neighbours.len()
        ),
        (100, 100, 100, 100)
    );
    assert_eq!((there.endpoints.len(), there.ports.len()), (100, 100));
    all("DEL")?;
    assert_eq!(node.remains()?, Remains::default());
    Ok(())
}

#[test]
fn add_killed_at_any_point_leaves_nothing_after_del() -> Result<()> {
    let node = Node::new()?;
    let pod = node.pod("p")?;
    // How long ADD takes varies with what else the machine does: the time to kill at goes from nothing to a bound that
    // follows it, by fractions that spread evenly.
    let mut bound = Duration::from_millis(50);
    let mut killed = 0;
    for round in 1..=200 {
        let plugin = node.plugin("ADD", "c1", Some(&pod))?;
        let mut child = node.start(plugin, &node.config(json!({})))?;
        thread::sleep(bound.mul_f64((f64::from(round) * 0.618_034).fract()));
        child.kill()?;
        if child.wait()?.signal().is_some() {
            killed += 1;
            bound = bound.mul_f64(1.02);
        } else {
            bound = bound.mul_f64(0.8).max(Duration::from_millis(2));
        }
        node.del("c1", (round % 2 == 0).then_some(&pod))
            .with_context(|| format!("round {round}"))?;
        assert_eq!(node.remains()?, Remains::default(), "round {round}");
        if killed == 40 {
            break;
        }
    }
    ensure!(killed == 40, "only {killed} of 200 were killed before they were done");
    node.add("c1", &pod)?;
    Ok(())
}

#[test]
fn del_killed_at_any_point_is_finished_by_the_next() -> Result<()> {
    let node = Node::new()?;
    for round in 0..20 {
        let pod = node.pod("p")?;
        node.add("c1", &pod)?;
        let mut child = node.start(node.plugin("DEL", "c1", Some(&pod))?, &node.config(json!({})))?;
        thread::sleep(Duration::from_millis(round));
        child.kill()?;
        child.wait()?;
        node.del("c1", None)?;
        assert_eq!(node.remains()?, Remains::default(), "round {round}");
    }
    Ok(())
}

#[test]
fn pods_attached_while_programs_are_exchanged_get_the_new_ones() -> Result<()> {
    const HOOK: Hook = Hook::FromPod;
    let node = Node::new()?;
    let pod = node.pod("p")?;
    let other = Pins::new(node.home.bpf_root().join("other"));
    load::load(&other, &node::sizes(16))?;
    // As an agent that starts: new programs over the pinned ones, then behind the links that are pinned.
    let exchange = || -> Result<()> {
        let (ours, theirs) = (node.pins.program(HOOK), other.program(HOOK));
        let spare = theirs.with_file_name(format!("{}:spare", HOOK.name()));
        fs::rename(&theirs, &spare)?;
        SchedClassifier::from_pin(&ours)?.pin(&theirs)?;
        let beside = node.pins.root().join(format!("{}:new", HOOK.name()));
        SchedClassifier::from_pin(&spare)?.pin(&beside)?;
        fs::remove_file(&spare)?;
        fs::rename(&beside, &ours)?;
        for (device, hook) in node.pins.links()? {
            // The pod may be detached at this moment.
            let _ = attach::replace(&node.pins, hook, &device);
        }
        Ok(())
    };
    let (mut old, mut exchanges) = (0, 0);
    for _ in 0..20 {
        let adding = AtomicBool::new(true);
        let (result, count) = thread::scope(|scope| -> Result<_> {
            let exchanging = scope.spawn(|| -> Result<u32> {
                let mut count = 0;
                while adding.load(Ordering::Relaxed) {
                    exchange()?;
                    count += 1;
                    thread::sleep(Duration::from_millis(3));
                }
                Ok(count)
            });
            let result = node.add("c1", &pod);
            adding.store(false, Ordering::Relaxed);
            let count = exchanging
                .join()
                .map_err(|_| anyhow::anyhow!("an exchange panicked"))??;
            Ok((result?, count))
        })?;
        exchanges += count;
        let device = result["interfaces"][1]["name"].as_str().context("a name")?;
        let link = pinned_link(&node.pins.link(device, HOOK))?.context("a link")?;
        let pinned = SchedClassifier::from_pin(node.pins.program(HOOK))?.info()?.id();
        old += u32::from(link.program != pinned);
        node.del("c1", Some(&pod))?;
    }
    ensure!(exchanges > 20, "only {exchanges} exchanges");
    assert_eq!(old, 0, "of 20 links have an old program, after {exchanges} exchanges");
    Ok(())
}
