//! The source of objects, as the agent uses it: a folder; or the API server, and until that answers, on a node where nothing
//! is in force yet, what was written down of it.
//!
//! A node that serves already is newer than what was written down: it waits, and stays as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::Settings;
use super::health::{Health, Part};
use crate::datapath::{pins::Pins, tables};
use crate::model::Cluster;
use crate::report::{Events, Reason, Refusals};
use crate::source::api::{self, TaskEnded, trouble::Troubles};
use crate::source::server::{Places, Servers, learned};
use crate::source::{folder, remembered};

/// How long the API server has to send everything before what was written down serves.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is told how the source fares.
const TELL: Duration = Duration::from_secs(2);
/// Below the run folder: the kernel holds what was written down, and may be brought to it again.
pub const MARK: &str = "remembered";

/// The way to the API server, known before its objects are.
pub struct Api {
    servers: Arc<Servers>,
    /// A client of whichever server answers.
    pub client: Client,
    /// What is missing for Events and the Node's condition.
    pub refusals: Refusals,
}

/// Finds the API servers; `None` with a folder. Nothing is asked of them yet.
///
/// # Errors
/// Nothing says where there is one.
pub async fn find(settings: &Settings, state: &Path) -> anyhow::Result<Option<Api>> {
    if settings.folder.is_some() {
        return Ok(None);
    }
    let (kubeconfig, kubelet) = (settings.kubeconfig.clone(), settings.kubelet_kubeconfigs.clone());
    let servers = Servers::find(Places::of_process(kubeconfig, kubelet, state.to_owned())).await?;
    Ok(Some(Api {
        client: servers.client(),
        servers,
        refusals: Refusals::default(),
    }))
}

/// How the objects come at the moment.
#[derive(Clone, Debug)]
enum Course {
    /// Not yet, and whether the node serves meanwhile.
    Waiting { serves: bool },
    /// What was written down, of that time.
    Remembered(String),
    /// As the API server has them.
    Live,
}

/// Waits for the objects.
///
/// # Errors
/// The folder cannot be read, or an error in the agent.
pub async fn objects(
    api: Option<&Api>,
    settings: &Settings,
    state: &Path,
    health: &Health,
    events: &Events,
) -> anyhow::Result<watch::Receiver<Arc<Cluster>>> {
    let Some(api) = api else {
        let folder = settings
            .folder
            .as_deref()
            .context("neither a folder nor an API server")?;
        info!(folder = %folder.display(), "reading the cluster's objects");
        health.source(format!("the folder {}", folder.display()), Vec::new());
        return Ok(folder::watch(folder)?);
    };
    let mark = settings.run_dir.join(MARK);
    let serves = tables::config(&Pins::new(&settings.bpf_root))?.get()?.abi_version != 0 && !mark.exists();
    let troubles = Troubles::default();
    let teller = Arc::new(Teller {
        servers: Arc::clone(&api.servers),
        refusals: api.refusals.clone(),
        troubles: troubles.clone(),
        health: health.clone(),
        events: events.clone(),
        course: Mutex::new(Course::Waiting { serves }),
    });
    teller.tell();
    tokio::spawn(Arc::clone(&teller).keep_telling());
    info!("waiting for the API server's nodes, services and endpoint slices");
    let mut syncing = tokio::spawn(api::watch(api.client.clone(), troubles));
    let live = Live {
        teller,
        state: state.to_owned(),
        mark,
    };
    let known = match serves {
        true => None,
        false => match timeout(PATIENCE, &mut syncing).await {
            Ok(synced) => return live.begin(synced.map_err(|_| TaskEnded)??),
            Err(_) => live.remembered(),
        },
    };
    let Some(known) = known else {
        return live.begin(syncing.await.map_err(|_| TaskEnded)??);
    };
    let (sender, receiver) = watch::channel(known);
    tokio::spawn(live.take_over(syncing, sender));
    Ok(receiver)
}

/// What happens once the API server has sent everything.
struct Live {
    teller: Arc<Teller>,
    state: PathBuf,
    mark: PathBuf,
}

impl Live {
    /// What was written down, if that is of use.
    fn remembered(&self) -> Option<Arc<Cluster>> {
        match remembered::load(&self.state) {
            Ok(Some(known)) => {
                let when = known.when();
                warn!("no API server answers: the node serves what was known at {when}, until one does");
                // Without the mark only another start of the agent waits for longer.
                if let Err(error) = fs::write(&self.mark, "") {
                    warn!("cannot write {}: {error}; see --run-dir", self.mark.display());
                }
                self.teller.set(Course::Remembered(when));
                Some(known.cluster)
            }
            Ok(None) => {
                info!("no API server answers, and nothing was written down of the cluster yet");
                None
            }
            Err(why) => {
                warn!("{why}");
                None
            }
        }
    }

    /// The first full list is here.
    fn begin(self, clusters: watch::Receiver<Arc<Cluster>>) -> anyhow::Result<watch::Receiver<Arc<Cluster>>> {
        if let Err(error) = fs::remove_file(&self.mark)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            warn!("cannot remove {}: {error}; see --run-dir", self.mark.display());
        }
        let servers = Arc::clone(&self.teller.servers);
        self.teller.set(Course::Live);
        tokio::spawn(remembered::keep(clusters.clone(), self.state));
        tokio::spawn(learn(servers, clusters.clone()));
        Ok(clusters)
    }

    /// What was written down gives way to the server's objects, once they are here.
    async fn take_over(
        self,
        syncing: JoinHandle<Result<watch::Receiver<Arc<Cluster>>, TaskEnded>>,
        sender: watch::Sender<Arc<Cluster>>,
    ) {
        let teller = Arc::clone(&self.teller);
        let Ok(Ok(clusters)) = syncing.await else { return };
        if let Course::Remembered(when) = teller.course() {
            info!("an API server answers: what was known at {when} gives way to what it says");
            let note = format!(
                "this node served what was known at {when} until an API server answered; {}",
                teller.servers.used()
            );
            teller.events.node(Reason::ServedRemembered, note);
        }
        let Ok(mut clusters) = self.begin(clusters) else { return };
        loop {
            sender.send_replace(clusters.borrow_and_update().clone());
            tokio::select! {
                changed = clusters.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
            }
        }
    }
}

/// Writes down where the servers are, at every change.
async fn learn(servers: Arc<Servers>, mut clusters: watch::Receiver<Arc<Cluster>>) {
    loop {
        let endpoints = learned::endpoints(&clusters.borrow_and_update());
        servers.learn(&endpoints).await;
        if clusters.changed().await.is_err() {
            return;
        }
    }
}

/// Tells how the source fares, in the answers to whoever asks the agent, and as Events where rights are missing.
struct Teller {
    servers: Arc<Servers>,
    refusals: Refusals,
    troubles: Troubles,
    health: Health,
    events: Events,
    course: Mutex<Course>,
}

impl Teller {
    fn course(&self) -> Course {
        self.course.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, course: Course) {
        *self.course.lock().unwrap_or_else(PoisonError::into_inner) = course;
        self.tell();
    }

    async fn keep_telling(self: Arc<Self>) {
        loop {
            self.tell();
            sleep(TELL).await;
        }
    }

    fn tell(&self) {
        let used = self.servers.used();
        let mut troubles = self.troubles.now();
        // That no server answers is one sentence, not one of each kind.
        troubles.retain(|trouble| trouble.forbidden || used.server.is_some());
        for trouble in troubles.iter().filter(|trouble| trouble.forbidden) {
            self.events.node(Reason::RightsMissing, &trouble.text);
        }
        let refusals = self.refusals.now();
        for refusal in &refusals {
            self.events.node(Reason::RightsMissing, refusal);
        }
        let mut warnings: Vec<String> = troubles.into_iter().map(|trouble| trouble.text).collect();
        let (line, part) = match self.course() {
            Course::Live => {
                if used.server.is_none() {
                    warnings.push(format!("no API server answers, what is known stays: {used}"));
                }
                (format!("the API server: {used}"), Ok(()))
            }
            Course::Remembered(when) => {
                warnings.push(format!(
                    "the node serves what was known at {when}, since no API server has sent everything yet: {used}"
                ));
                (format!("what was known at {when}; the API server: {used}"), Ok(()))
            }
            Course::Waiting { serves } => {
                let until = match serves {
                    true => "; until then the node serves on as it was and takes up no change",
                    false => "",
                };
                let why = match warnings.as_slice() {
                    [] => format!("the API server: {used}"),
                    warnings => warnings.join("; "),
                };
                let why =
                    format!("the first full list of nodes, services and endpoints has not come yet: {why}{until}");
                warnings.clear();
                (format!("none yet; the API server: {used}"), Err(why))
            }
        };
        warnings.extend(refusals);
        self.health.set(Part::Source, part);
        self.health.source(line, warnings);
    }
}
