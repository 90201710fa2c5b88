//! The agent's life: start, then rounds for ever. Whatever ends it leaves all that the kernel holds in place.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use netpath_common::hook::Hook;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, info, warn};

use super::health::{self, Health, Part};
use super::log;
use super::node::{Node, Round};
use super::objects::{self, objects};
use super::settings::{Settings, Xdp};
use super::state::{self, Lock};
use crate::datapath::error as datapath;
use crate::datapath::load::{self, Loaded, Ready};
use crate::datapath::pins::Pins;
use crate::datapath::requirements;
use crate::datapath::sizes::Sizes;
use crate::datapath::tables;
use crate::heap;
use crate::model::Cluster;
use crate::net::link::Link;
use crate::net::watch::Changes;
use crate::net::{self, Netlink};
use crate::pace::Pace;
use crate::report::node::{Keeper, Network};
use crate::report::{Events, Reason};

/// How often a round is made even though nothing is known to have changed.
const RESYNC: Duration = Duration::from_secs(60);
/// How long a failed round waits for its next try, the first time and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long the node must have failed for an Event to say so.
const GRACE: Duration = Duration::from_secs(20);
/// How long the kernel's news must be quiet before a round: a device comes with several.
const QUIET: Duration = Duration::from_millis(100);

/// How long there must be nothing to do before the heap gives back what rounds have left.
const IDLE: Duration = Duration::from_secs(1);

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting, with the remedy. What ran before goes on.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    tokio::select! {
        result = live(settings) => result,
        _ = terminate.recv() => stopped("SIGTERM"),
        _ = interrupt.recv() => stopped("SIGINT"),
    }
}

fn stopped(signal: &str) -> anyhow::Result<()> {
    info!("{signal}: the agent ends; programs, maps, devices and the CNI configuration stay in force");
    Ok(())
}

async fn live(settings: Settings) -> anyhow::Result<()> {
    // First, since without rights nothing else fails for the reason that matters.
    requirements::check()?;
    net::mounted_at(&settings.sysctl_dir);
    let name = settings.node_name().map_err(anyhow::Error::msg)?;
    let _lock = Lock::take(&settings.run_dir)?;
    let state = state::prepare(&settings.state_dir)?;
    let hash_seed = state::hash_seed(&state)?;
    let health = Health::default();
    tokio::spawn(health::serve(
        health::listen(settings.health_address).await?,
        health.clone(),
    ));
    info!(node = name, version = env!("CARGO_PKG_VERSION"), "agent starts");
    let api = objects::find(&settings, &state).await?;
    let (network, kept) = watch::channel(Network::Unknown);
    let events = match &api {
        None => Events::default(),
        Some(api) => {
            let (client, refusals) = (api.client.clone(), api.refusals.clone());
            let taint = settings.startup_taint.clone();
            tokio::spawn(Keeper::new(client.clone(), &name, taint, refusals.clone()).keep(kept));
            Events::start(client, &name, refusals)
        }
    };

    let netlink = Netlink::connect()?;
    let xdp = load(&settings, netlink.links().await?.iter().any(Link::is_card), &health).await?;
    health.set(Part::Datapath, Ok(()));
    // Before the first round: what changes while it runs must not be missed.
    let changes = Changes::listen()?;
    let pins = Pins::new(&settings.bpf_root);
    if tables::config(&pins)?.get()?.abi_version == 0 {
        network.send_replace(Network::Unavailable("nothing is in force yet on this node".into()));
    }
    let waiting = objects(api.as_ref(), &settings, &state, &health, &events);
    let mut cluster = beating(&health, waiting).await?;
    known(&mut cluster, &pins, &health).await?;
    health.set(Part::Source, Ok(()));
    let node = Node::adopt(settings, name, hash_seed, netlink, health.clone(), xdp, events.clone())?;
    let told = Told { network, events };
    rounds(node, cluster, changes, &health, &told).await
}

/// What the cluster is told of the node.
struct Told {
    network: watch::Sender<Network>,
    events: Events,
}

impl Told {
    fn ready(&self) {
        self.network.send_replace(Network::Available);
        self.events.node(Reason::NodeReady, "the node connects its pods");
    }

    /// A node on which something is in force stays available.
    fn not_ready(&self, why: &str, since: Instant) {
        self.network.send_if_modified(|network| match network {
            Network::Unavailable(reason) if reason != why => {
                *reason = why.to_owned();
                true
            }
            _ => false,
        });
        // What is over soon, such as a kubelet's that has yet to register the node, is in the log alone.
        if since.elapsed() >= GRACE {
            self.events.node(Reason::NodeNotReady, why);
        }
    }
}

/// Loads the programs; returns whether the one for XDP is among them. The verifier takes its time, on a thread of its own:
/// the agent can be ended meanwhile, and leaves all as it was. What follows is short, and is not broken off.
async fn load(settings: &Settings, has_card: bool, health: &Health) -> anyhow::Result<bool> {
    let (pins, sizes, xdp) = (Pins::new(&settings.bpf_root), settings.sizes, settings.xdp);
    let preparing = spawn_blocking(move || prepare(&pins, &sizes, xdp, has_card));
    let (ready, xdp) = preparing.await.context("loading the programs was broken off")??;
    let Loaded {
        adopted,
        created,
        kept,
        replaced,
        dropped,
        outdated,
        problems,
        packet_log,
    } = ready.commit()?;
    if let Some(log) = packet_log {
        tokio::spawn(log.follow());
    }
    info!(
        maps_adopted = adopted.len(),
        maps_new = created.len(),
        entries_carried_over = created.iter().map(|(_, entries)| entries).sum::<usize>(),
        links_replaced = replaced,
        "programs loaded"
    );
    for kept in &kept {
        warn!("{kept}");
    }
    health.note(kept.iter().map(ToString::to_string).collect());
    for (device, hook) in dropped {
        info!(
            device,
            hook = hook.name(),
            "link removed: its device or program is gone"
        );
    }
    for path in outdated {
        info!(path = %path.display(), "removed: another version's");
    }
    for problem in problems {
        warn!("{problem}");
    }
    Ok(xdp)
}

/// Has the kernel accept the programs; that for XDP by itself only where the node has a card.
fn prepare(pins: &Pins, sizes: &Sizes, xdp: Xdp, has_card: bool) -> datapath::Result<(Ready, bool)> {
    let object = load::object()?;
    let without = || Ok((load::prepare(object, pins, sizes, load::hooks())?, false));
    let with = || Ok((load::prepare(object, pins, sizes, Hook::ALL.to_vec())?, true));
    match xdp {
        Xdp::Off => without(),
        Xdp::Auto if !has_card => without(),
        Xdp::On => with(),
        Xdp::Auto => match with() {
            Err(datapath::Error::Load { what, reason }) => {
                // If that was not for XDP's sake, it says so again.
                let ready = without()?;
                warn!("{what}: {reason}; going on without XDP");
                Ok(ready)
            }
            result => result,
        },
    }
}

/// On a node that serves already, waits until the source could read everything once: what a broken file used to say is not
/// known, and what it stands for must not go. A fresh node has nothing to lose and goes on without that file.
async fn known(cluster: &mut watch::Receiver<Arc<Cluster>>, pins: &Pins, health: &Health) -> anyhow::Result<()> {
    let mut said = Vec::new();
    loop {
        let unread = cluster.borrow_and_update().unread.clone();
        if unread.is_empty() || tables::config(pins)?.get()?.abi_version == 0 {
            return Ok(());
        }
        let lines: Vec<String> = unread
            .iter()
            .map(|problem| format!("{problem}; until then the node serves on as it was and takes up no change"))
            .collect();
        lines
            .iter()
            .filter(|line| !said.contains(*line))
            .for_each(|line| error!("{line}"));
        health.set(Part::Source, Err(lines.join("\nsource: ")));
        said = lines;
        let changed = beating(health, cluster.changed()).await;
        changed.context("the source of objects has ended")?;
    }
}

/// Waits for something, and tells that the agent lives meanwhile.
async fn beating<T>(health: &Health, wait: impl Future<Output = T>) -> T {
    tokio::pin!(wait);
    loop {
        health.beat();
        tokio::select! {
            result = &mut wait => return result,
            () = sleep(RESYNC) => {}
        }
    }
}

/// A round for each change, and one every [`RESYNC`].
async fn rounds(
    mut node: Node,
    mut cluster: watch::Receiver<Arc<Cluster>>,
    mut changes: Changes,
    health: &Health,
    told: &Told,
) -> anyhow::Result<()> {
    let mut failing = None;
    let mut round = Round::Resync;
    let mut retry = RETRY.0;
    let mut ready = false;
    let mut clock = Clock {
        resync: Instant::now() + RESYNC,
    };
    let mut pace = Pace::default();
    loop {
        health.beat();
        let began = Instant::now();
        let objects = cluster.borrow_and_update().clone();
        let next = match node.bring_to(&objects, round).await {
            Ok(()) => {
                if !ready {
                    info!("the node is ready");
                    told.ready();
                }
                failing = None;
                (ready, retry) = (true, RETRY.0);
                clock.resync
            }
            Err(error) => {
                let reason = log::text(&error);
                error!("{reason}; trying again in {} s", retry.as_secs());
                told.not_ready(&reason, *failing.get_or_insert_with(Instant::now));
                let next = Instant::now() + retry;
                (ready, retry) = (false, (retry * 2).min(RETRY.1));
                next.min(clock.resync)
            }
        };
        pace.ended(began);
        node.tidy();
        drop(objects);
        round = clock.wait(next, &mut cluster, &mut changes).await?;
        sleep_until(pace.next()).await;
    }
}

/// When everything is to be looked at again.
struct Clock {
    resync: Instant,
}

impl Clock {
    /// Waits for something to do, until `next` at the latest, and says what. Where there is nothing for a while, the heap gives back
    /// what rounds have left.
    async fn wait(
        &mut self,
        next: Instant,
        cluster: &mut watch::Receiver<Arc<Cluster>>,
        changes: &mut Changes,
    ) -> anyhow::Result<Round> {
        let (idle, mut is_tidy) = (Instant::now() + IDLE, false);
        loop {
            tokio::select! {
                changed = cluster.changed() => {
                    changed.context("the source of objects has ended")?;
                    return Ok(Round::Objects);
                }
                alive = changes.next() => {
                    if alive {
                        changes.settle(QUIET).await;
                    } else {
                        warn!("the kernel's news have ended; listening anew");
                        *changes = Changes::listen()?;
                        sleep(QUIET).await;
                    }
                    return Ok(Round::Change);
                }
                () = sleep_until(next) => {
                    if Instant::now() < self.resync {
                        return Ok(Round::Change);
                    }
                    self.resync = Instant::now() + RESYNC;
                    return Ok(Round::Resync);
                }
                () = sleep_until(idle), if !is_tidy => {
                    heap::give_back();
                    is_tidy = true;
                }
            }
        }
    }
}
