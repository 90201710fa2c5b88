//! The API server: Nodes, Services, ServiceCIDRs and EndpointSlices of all namespaces, listed and then watched.
//!
//! Nothing is deleted because it was not seen: the first cluster is published when all lists are complete, and a
//! list made again (the server forgot where the watch stood) replaces what is known only when its last page has come. A
//! complete list is believed, even an empty one. While the server is away, what is known stays.

mod kind;
pub mod trouble;

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::{
    Client, Resource,
    api::{Api, ApiResource, DynamicObject},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

use self::kind::{Item, Known};
use self::trouble::{Trouble, Troubles};
use crate::model::{Cluster, Node, Reduce, Service, ServiceCidr, Slice};
use crate::pace::Pace;

/// How long no change may come before those of one moment are published. What comes later waits for its turn, see [`Pace`].
const QUIET: Duration = Duration::from_millis(2);
/// How long changes that do not end may put that off.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long to wait before asking again for a kind that a server does not know.
const UNKNOWN: Duration = Duration::from_secs(600);
/// How many changes may wait to be taken in. More wait at the server.
const WAITING: usize = 1024;

/// A change of one kind's objects.
enum Change {
    Node(Event<Item<Node>>),
    Service(Event<Item<Service>>),
    Slice(Event<Item<Slice>>),
    ServiceCidr(Event<Item<ServiceCidr>>),
}

/// Nobody follows the server any more.
#[derive(Debug, thiserror::Error)]
#[error("a task that watches the API server has ended, which is an error in the agent: restart it, and report its log")]
pub struct TaskEnded;

/// Waits for all lists, however long that takes, and then follows the server for as long as somebody holds the receiver.
/// Failures are logged, told and tried again, ever more slowly.
///
/// # Errors
/// [`TaskEnded`]. Should that happen after the first cluster was published, the channel closes.
pub async fn watch(client: Client, troubles: Troubles) -> Result<watch::Receiver<Arc<Cluster>>, TaskEnded> {
    let mut follower = Follower::start(client, &troubles);
    while !follower.is_complete() {
        follower.take().await.ok_or(TaskEnded)?;
    }
    let (sender, receiver) = watch::channel(Arc::new(follower.cluster()));
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            () = follower.publish(&sender) => tracing::error!("{TaskEnded}"),
        }
    });
    Ok(receiver)
}

/// What is known of the server's objects, and the tasks that bring news. They end with it.
struct Follower {
    nodes: Known<Node>,
    services: Known<Service>,
    slices: Known<Slice>,
    service_cidrs: Known<ServiceCidr>,
    changes: mpsc::Receiver<Change>,
    tasks: JoinSet<()>,
}

impl Follower {
    fn start(client: Client, troubles: &Troubles) -> Self {
        use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery, networking::v1 as networking};
        let (sender, changes) = mpsc::channel(WAITING);
        let mut tasks = JoinSet::new();
        tasks.spawn(follow::<Node, core::Node>(
            client.clone(),
            sender.clone(),
            Change::Node,
            troubles.clone(),
        ));
        tasks.spawn(follow::<Service, core::Service>(
            client.clone(),
            sender.clone(),
            Change::Service,
            troubles.clone(),
        ));
        tasks.spawn(follow::<Slice, discovery::EndpointSlice>(
            client.clone(),
            sender.clone(),
            Change::Slice,
            troubles.clone(),
        ));
        tasks.spawn(follow::<ServiceCidr, networking::ServiceCIDR>(
            client,
            sender,
            Change::ServiceCidr,
            troubles.clone(),
        ));
        Self {
            nodes: Known::default(),
            services: Known::default(),
            slices: Known::default(),
            service_cidrs: Known::default(),
            changes,
            tasks,
        }
    }

    fn is_complete(&self) -> bool {
        self.nodes.is_complete()
            && self.services.is_complete()
            && self.slices.is_complete()
            && self.service_cidrs.is_complete()
    }

    /// Takes in the next change, and says whether anything is different after it; `None` when there can be no more changes.
    async fn take(&mut self) -> Option<bool> {
        let change = tokio::select! {
            change = self.changes.recv() => change,
            _ = self.tasks.join_next() => None,
        };
        Some(match change? {
            Change::Node(event) => self.nodes.take(event),
            Change::Service(event) => self.services.take(event),
            Change::Slice(event) => self.slices.take(event),
            Change::ServiceCidr(event) => self.service_cidrs.take(event),
        })
    }

    /// Publishes every burst of changes, if anything is different after it.
    async fn publish(&mut self, sender: &watch::Sender<Arc<Cluster>>) {
        let mut pace = Pace::default();
        while let Some(mut news) = self.take().await {
            let end = (Instant::now() + PATIENCE).max(pace.next());
            while let Ok(taken) = timeout_at(end.min(Instant::now() + QUIET).max(pace.next()), self.take()).await {
                news |= taken == Some(true);
                if taken.is_none() || Instant::now() >= end {
                    break;
                }
            }
            if news {
                let began = Instant::now();
                sender.send_replace(Arc::new(self.cluster()));
                pace.ended(began);
            }
        }
    }

    fn cluster(&self) -> Cluster {
        let mut problems = Vec::new();
        problems.extend(self.nodes.problems().cloned());
        problems.extend(self.services.problems().cloned());
        problems.extend(self.slices.problems().cloned());
        problems.extend(self.service_cidrs.problems().cloned());
        Cluster {
            nodes: self.nodes.objects().clone(),
            services: self.services.objects().clone(),
            slices: self.slices.objects().clone(),
            service_cidrs: self.service_cidrs.objects().clone(),
            problems,
            // Of a server nothing is published before all of it came.
            unread: Vec::new(),
        }
    }
}

/// Lists and watches one kind until nobody wants to know any more.
async fn follow<T, K>(
    client: Client,
    changes: mpsc::Sender<Change>,
    wrap: fn(Event<Item<T>>) -> Change,
    troubles: Troubles,
) where
    T: Reduce<Object = K>,
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    // Objects come undecoded: one that does not fit its type must not make a list of thousands fail.
    let resource = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    let plural = match resource.group.as_str() {
        "" => resource.plural.clone(),
        group => format!("{}.{group}", resource.plural),
    };
    loop {
        let mut events = watcher::watcher(api.clone(), watcher::Config::default())
            .default_backoff()
            .boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    // That a list begins says nothing yet.
                    if !matches!(event, Event::Init) {
                        troubles.over(T::KIND);
                    }
                    if changes.send(wrap(kind::reduce::<T, K>(event))).await.is_err() {
                        return;
                    }
                }
                Err(error) if is_unknown(&error) => {
                    // A server of before the kind: it has none, and may be replaced by a newer one.
                    troubles.over(T::KIND);
                    for event in [Event::Init, Event::InitDone] {
                        if changes.send(wrap(event)).await.is_err() {
                            return;
                        }
                    }
                    tracing::debug!(kind = T::KIND, "the API server does not know this kind");
                    sleep(UNKNOWN).await;
                    break;
                }
                Err(error) => {
                    let trouble = Trouble::of(&plural, &error);
                    tracing::warn!("{}; what is known stays, trying again", trouble.text);
                    troubles.tell(T::KIND, trouble);
                    if is_gone(&error) {
                        break;
                    }
                }
            }
        }
    }
}

/// Whether a watch was refused because it would start too far back. The watcher lists anew when it is told so within a
/// watch, but not when the request itself is answered so.
fn is_gone(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

/// Whether the server does not know the kind that was to be listed.
fn is_unknown(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404)
}

#[cfg(test)]
pub(crate) mod tests;
