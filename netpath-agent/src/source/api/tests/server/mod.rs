//! An API server by script: it lists and watches what a test tells it to hold, over real HTTP on the loopback, and fails
//! the way real ones do, when told to.

mod answer;
mod connection;
mod path;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use self::connection::connection;

/// What the server holds and how it behaves.
#[derive(Default)]
struct Script {
    version: u64,
    /// By path of their kind, then by namespace and name.
    objects: BTreeMap<(String, String), Value>,
    log: Vec<(u64, String, Value)>,
    /// Watches cannot start before this version.
    oldest: u64,
    /// Say 410 as the answer to a watch, not within it.
    gone_by_status: bool,
    /// Lists of this path get no answer.
    withheld: Option<&'static str>,
    /// The largest page of a list, and whether those after the first fail.
    page: Option<usize>,
    later_pages_fail: bool,
    /// There is no such path.
    lacking: Option<&'static str>,
    /// Answered lists, from their first page, by path.
    lists: BTreeMap<String, usize>,
    /// Every request is answered by this status.
    failing: Option<u16>,
    /// Lists of this path are forbidden.
    forbidden: Option<&'static str>,
    /// The last request's header of that name.
    authorization: Option<String>,
    /// What was asked to be changed, in order.
    changes: Vec<Asked>,
    /// The rights that requests so far took: verb and resource, as a ClusterRole names them.
    rights: BTreeSet<(String, String)>,
}

/// A request that changes something.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub body: Value,
}

/// The server. It goes away with the value.
pub struct ApiServer {
    script: Arc<Mutex<Script>>,
    /// Counts changes of the script; connections that began before `cut` end.
    news: watch::Sender<u64>,
    address: SocketAddr,
    serving: Option<JoinHandle<()>>,
    connections: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl ApiServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Script {
            version: 100,
            ..Script::default()
        };
        let mut server = Self {
            script: Arc::new(Mutex::new(script)),
            news: watch::channel(0).0,
            address,
            serving: None,
            connections: Arc::default(),
        };
        server.serve(listener);
        server
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn client(&self) -> Client {
        Client::try_from(Config::new(self.url().parse().unwrap())).unwrap()
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    fn tell(&self) {
        self.news.send_modify(|count| *count += 1);
    }

    /// Adds an object or changes it.
    pub fn set(&self, object: Value) {
        let mut script = self.script();
        script.version += 1;
        let version = script.version;
        let (path, name) = path::of(&object);
        let mut object = object;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let earlier = script.objects.insert((path.clone(), name), object.clone());
        let kind = if earlier.is_some() { "MODIFIED" } else { "ADDED" };
        script
            .log
            .push((version, path, json!({"type": kind, "object": object})));
        drop(script);
        self.tell();
    }

    /// Removes an object.
    pub fn remove(&self, object: &Value) {
        let mut script = self.script();
        script.version += 1;
        let version = script.version;
        let (path, name) = path::of(object);
        let mut object = script.objects.remove(&(path.clone(), name)).unwrap();
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        script
            .log
            .push((version, path, json!({"type": "DELETED", "object": object})));
        drop(script);
        self.tell();
    }

    /// Forgets all history: every watch ends with 410 Gone.
    pub fn forget(&self, by_status: bool) {
        let mut script = self.script();
        script.version += 1;
        script.oldest = script.version;
        script.gone_by_status = by_status;
        drop(script);
        self.tell();
    }

    /// Lists of a path get no answer until `None` is given.
    pub fn withhold(&self, path: Option<&'static str>) {
        self.script().withheld = path;
        self.tell();
    }

    /// A server of before this kind.
    pub fn lacks(&self, path: &'static str) {
        self.script().lacking = Some(path);
    }

    /// Lists come in pages of this size; those after the first may fail.
    pub fn page(&self, size: usize, later_fail: bool) {
        let mut script = self.script();
        (script.page, script.later_pages_fail) = (Some(size), later_fail);
    }

    /// Every request is answered by this status, until `None` is given.
    pub fn fail(&self, status: Option<u16>) {
        self.script().failing = status;
    }

    /// Lists of a path are forbidden, until `None` is given.
    pub fn forbid(&self, path: Option<&'static str>) {
        self.script().forbidden = path;
    }

    /// As whom the last request came.
    pub fn authorization(&self) -> Option<String> {
        self.script().authorization.clone()
    }

    /// What was asked to be changed so far, in order. Nothing of it comes true: the script alone says what there is.
    pub fn changes(&self) -> Vec<Asked> {
        self.script().changes.clone()
    }

    /// The rights that requests so far took: verb and resource, as a ClusterRole names them.
    pub fn rights(&self) -> BTreeSet<(String, String)> {
        self.script().rights.clone()
    }

    /// How many lists of a path were begun.
    pub fn lists(&self, path: &str) -> usize {
        self.script().lists.get(path).copied().unwrap_or(0)
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        for connection in self.connections.lock().unwrap().drain(..) {
            connection.abort();
        }
    }

    /// Stops to listen, and cuts every connection.
    pub async fn go_away(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
        self.cut();
    }

    /// Listens again, on the same address.
    pub async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serve(listener);
    }

    fn serve(&mut self, listener: TcpListener) {
        let (script, news, connections) = (self.script.clone(), self.news.clone(), self.connections.clone());
        self.serving = Some(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let task = tokio::spawn(connection(stream, script.clone(), news.subscribe()));
                connections.lock().unwrap().push(task);
            }
        }));
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
        self.cut();
    }
}
