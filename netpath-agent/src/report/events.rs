//! Events: a queue that never waits, and a task that empties it at its own pace.
//!
//! An Event's name follows from what it says, so that the same finding is one Event for all lives of the agent, and
//! for all nodes if it is about an object that all of them see. Seen again, its count rises from where it stands, but not often.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::Resource as Object;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::{Reason, Refusals};
use crate::fnv;
use crate::model::{Cluster, ObjectName, POD_CIDRS, Problem, Severity};

/// Who writes them.
const CONTROLLER: &str = "netpath-agent";
/// Where Events of Nodes are.
const NODES_NAMESPACE: &str = "default";
/// How many may wait.
const WAITING: usize = 256;
/// How long the same Event is not written again.
const REPEAT: Duration = Duration::from_secs(30 * 60);
/// How long after one Event the next may be written.
const PACE: Duration = Duration::from_secs(2);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(20);
/// How long a note may be, in bytes; the API server takes 1024.
const LONGEST_NOTE: usize = 1000;
/// Of how many nodes each writes of an object that all see: the second for the case that the first is away.
const SPEAKERS: usize = 2;

/// What an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Regarding {
    kind: &'static str,
    name: ObjectName,
}

/// An Event to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    regarding: Regarding,
    reason: Reason,
    note: String,
}

/// The queue. Cheap to clone: clones are the same. By default there is nobody to tell, as with a folder of objects.
#[derive(Clone, Debug, Default)]
pub struct Events(Option<Arc<Queue>>);

#[derive(Debug)]
struct Queue {
    node: String,
    sender: mpsc::Sender<Said>,
    /// When an Event of a name was last asked for.
    asked: Mutex<HashMap<String, Instant>>,
}

impl Events {
    /// A queue, and a task that empties it for as long as there is a queue.
    pub fn start(client: Client, node: &str, refusals: Refusals) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        let writer = Writer {
            client,
            node: node.to_owned(),
            refusals,
            pace: PACE,
        };
        tokio::spawn(writer.write(receiver));
        Self(Some(Arc::new(Queue {
            node: node.to_owned(),
            sender,
            asked: Mutex::default(),
        })))
    }

    /// Tells something of this node.
    pub fn node(&self, reason: Reason, note: impl Into<String>) {
        if let Some(queue) = &self.0 {
            let name = ObjectName::new("", &queue.node);
            queue.say(Said {
                regarding: Regarding { kind: "Node", name },
                reason,
                note: shortened(note.into()),
            });
        }
    }

    /// Tells what is wrong with objects. Of this node's own all is told here, of others by a few nodes.
    pub fn problems<'a>(&self, problems: impl Iterator<Item = &'a Problem>, cluster: &Cluster) {
        let Some(queue) = &self.0 else { return };
        for problem in problems {
            let name = ObjectName::new(&problem.namespace, &problem.name);
            let own = problem.kind == "Node" && problem.name == queue.node;
            let known = matches!(problem.kind, "Node" | "Service" | "EndpointSlice");
            if !known || !(own || speaks(&queue.node, cluster, problem.kind, &name)) {
                continue;
            }
            queue.say(Said {
                regarding: Regarding {
                    kind: problem.kind,
                    name,
                },
                reason: match problem.severity {
                    Severity::Refused if own && problem.what.starts_with(POD_CIDRS) => Reason::PodSubnetMissing,
                    Severity::Refused => Reason::Refused,
                    Severity::NotServed => Reason::NotServed,
                },
                note: shortened(format!("{}; {}", problem.what, problem.remedy)),
            });
        }
    }
}

impl Queue {
    fn say(&self, said: Said) {
        let name = said.name();
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if asked.get(&name).is_some_and(|last| now.duration_since(*last) < REPEAT) {
            return;
        }
        asked.retain(|_, last| now.duration_since(*last) < REPEAT);
        // A full queue is emptied sooner or later, and this is said again in the next round.
        if self.sender.try_send(said).is_ok() {
            asked.insert(name, now);
        }
    }
}

/// Whether a node is among those that tell of an object that all of them see. The same on every node, and another few for
/// each object.
fn speaks(own: &str, cluster: &Cluster, kind: &str, object: &ObjectName) -> bool {
    let rank = |node: &str| hash(&[node, kind, object.namespace(), object.name()]);
    let mine = rank(own);
    let before = cluster.nodes.keys().filter(|node| *node != own && rank(node) < mine);
    before.take(SPEAKERS).count() < SPEAKERS
}

/// FNV-1a of 64 bits, stirred as MurmurHash3 ends, with all bits of every letter in all bits of it.
fn hash(parts: &[&str]) -> u64 {
    let mut hash = fnv::hash64(parts.iter().flat_map(|part| part.bytes().chain([0])));
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

fn shortened(mut note: String) -> String {
    if note.len() > LONGEST_NOTE {
        let end = (0..=LONGEST_NOTE).rev().find(|end| note.is_char_boundary(*end));
        note.truncate(end.unwrap_or_default());
        note.push('…');
    }
    note
}

impl Said {
    /// The Event's name: an object's name, and what is said of it.
    fn name(&self) -> String {
        let Regarding { kind, name } = &self.regarding;
        let what = hash(&[kind, name.namespace(), name.name(), self.reason.name(), &self.note]);
        // A name may have 253 bytes, as the object's own may.
        let stem: String = name.name().chars().take(230).collect();
        format!("{}.{what:016x}", stem.trim_end_matches('.'))
    }

    fn namespace(&self) -> &str {
        match self.regarding.name.namespace() {
            "" => NODES_NAMESPACE,
            namespace => namespace,
        }
    }
}

/// Empties the queue.
struct Writer {
    client: Client,
    node: String,
    refusals: Refusals,
    pace: Duration,
}

impl Writer {
    async fn write(self, mut receiver: mpsc::Receiver<Said>) {
        let mut waiting: VecDeque<Said> = VecDeque::new();
        loop {
            if waiting.is_empty() {
                match receiver.recv().await {
                    Some(said) => waiting.push_back(said),
                    None => return,
                }
            }
            while let Ok(said) = receiver.try_recv() {
                if waiting.len() < WAITING {
                    waiting.push_back(said);
                }
            }
            let Some(said) = waiting.front() else { continue };
            match self.publish(&said.clone()).await {
                Ok(()) => {
                    waiting.pop_front();
                    sleep(self.pace).await;
                }
                Err(error) => match &error {
                    // Another try would be answered alike.
                    kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 429 => {
                        if status.code != 403 {
                            warn!("an Event of {} was refused: {error}", said.reason.name());
                        }
                        waiting.pop_front();
                        sleep(self.pace).await;
                    }
                    _ => {
                        debug!(%error, "Events wait");
                        sleep(RETRY).await;
                    }
                },
            }
        }
    }

    async fn publish(&self, said: &Said) -> kube::Result<()> {
        let Some(regarding) = self.reference(said).await? else {
            return Ok(());
        };
        let events: Api<Event> = Api::namespaced(self.client.clone(), said.namespace());
        let name = said.name();
        let now = MicroTime(Timestamp::now());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(said.namespace().to_owned()),
                ..ObjectMeta::default()
            },
            action: Some("Reconcile".into()),
            event_time: Some(now.clone()),
            note: Some(said.note.clone()),
            reason: Some(said.reason.name().into()),
            regarding: Some(regarding),
            reporting_controller: Some(CONTROLLER.into()),
            reporting_instance: Some(self.node.clone()),
            type_: Some(said.reason.type_().into()),
            ..Event::default()
        };
        let created = events.create(&PostParams::default(), &event).await;
        self.refusals.note("create", "events.events.k8s.io", &created);
        match created {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            created => return created.map(drop),
        }
        // It is there, from an earlier life or another node. A patch that changes nothing tells how often it was seen: to read
        // Events would take one more right.
        let patch = async |change| {
            let patched = events
                .patch(&name, &PatchParams::default(), &Patch::Merge(change))
                .await;
            self.refusals.note("patch", "events.events.k8s.io", &patched);
            patched
        };
        let stands = patch(json!({})).await?;
        let count = stands.series.map_or(1, |series| series.count).saturating_add(1);
        let series = json!({ "series": { "count": count, "lastObservedTime": now } });
        patch(series).await.map(drop)
    }

    /// What an Event is about, with the object's uid, by which `kubectl describe` finds it; `None` if it is gone.
    async fn reference(&self, said: &Said) -> kube::Result<Option<ObjectReference>> {
        let Regarding { kind, name } = &said.regarding;
        let (version, uid) = match *kind {
            // As the kubelet does: a Node may be told of before it is there.
            "Node" => (<Node as Object>::API_VERSION, Some(name.name().to_owned())),
            "Service" => (
                <Service as Object>::API_VERSION,
                self.uid::<Service>("services", name).await?,
            ),
            _ => (
                <EndpointSlice as Object>::API_VERSION,
                self.uid::<EndpointSlice>("endpointslices.discovery.k8s.io", name)
                    .await?,
            ),
        };
        let Some(uid) = uid else { return Ok(None) };
        Ok(Some(ObjectReference {
            api_version: Some(version.to_owned()),
            kind: Some((*kind).to_owned()),
            name: Some(name.name().to_owned()),
            namespace: (!name.namespace().is_empty()).then(|| name.namespace().to_owned()),
            uid: Some(uid),
            ..ObjectReference::default()
        }))
    }

    async fn uid<K>(&self, resource: &'static str, name: &ObjectName) -> kube::Result<Option<String>>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let objects: Api<K> = Api::namespaced(self.client.clone(), name.namespace());
        let found = objects.get_metadata_opt(name.name()).await;
        self.refusals.note("get", resource, &found);
        Ok(found?.and_then(|object| object.metadata.uid))
    }
}

#[cfg(test)]
mod tests;
