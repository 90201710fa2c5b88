//! An API server by script: it lists and watches what a test tells it to hold, over real HTTP on the loopback, and fails
//! the way real ones do, when told to.

mod answer;
mod path;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use self::answer::{chunk, failure, respond};

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

/// Answers requests until the client goes.
async fn connection(stream: TcpStream, script: Arc<Mutex<Script>>, mut news: watch::Receiver<u64>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut target = String::new();
        let mut method = String::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            if !matches!(stream.read_line(&mut line).await, Ok(length) if length > 0) {
                return;
            }
            if target.is_empty() {
                let mut words = line.split(' ').map(str::to_owned);
                (method, target) = (words.next().unwrap(), words.next().unwrap());
            }
            if let Some((name, value)) = line.split_once(": ") {
                match name.to_lowercase().as_str() {
                    "content-length" => length = value.trim().parse().unwrap(),
                    "authorization" => script.lock().unwrap().authorization = Some(value.trim().to_owned()),
                    _ => {}
                }
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let query: BTreeMap<_, _> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let (failing, object) = {
            let watch = query.get("watch") == Some(&"true");
            script.lock().unwrap().rights.extend(path::right(&method, path, watch));
            let script = script.lock().unwrap();
            (script.failing, single(path, &script))
        };
        let sent = if let Some(status) = failing {
            respond(&mut stream, status, &failure(status, "Failing")).await
        } else if method != "GET" {
            let (status, answer) = change(&method, path, &body, &mut script.lock().unwrap());
            respond(&mut stream, status, &answer).await
        } else if let Some((status, object)) = object {
            respond(&mut stream, status, &object).await
        } else if query.get("watch") == Some(&"true") {
            let from = query["resourceVersion"].parse().unwrap();
            stream_events(&mut stream, path, from, &script, &mut news).await
        } else {
            while script.lock().unwrap().withheld == Some(path) {
                news.changed().await.unwrap();
            }
            let (status, body) = list(path, query.get("continue").copied(), &mut script.lock().unwrap());
            respond(&mut stream, status, &body).await
        };
        if sent.is_err() {
            return;
        }
    }
}

/// One object, if the path is that of one of a kind that the script knows.
fn single(path: &str, script: &Script) -> Option<(u16, Value)> {
    let found = script.objects.get(&path::object(path)?);
    Some(found.map_or_else(|| (404, failure(404, "NotFound")), |object| (200, object.clone())))
}

/// Takes down what was to be changed. An object that is made twice is there already.
fn change(method: &str, path: &str, body: &[u8], script: &mut Script) -> (u16, Value) {
    let body: Value = serde_json::from_slice(body).unwrap();
    let asked = Asked {
        method: method.to_owned(),
        path: path.to_owned(),
        body: body.clone(),
    };
    let made = |other: &Asked| (&other.method, &other.path) == (&asked.method, &asked.path);
    let name = |body: &Value| body["metadata"]["name"].clone();
    let twice = method == "POST"
        && script
            .changes
            .iter()
            .any(|other| made(other) && name(&other.body) == name(&body));
    if twice {
        script.changes.push(asked);
        return (409, failure(409, "AlreadyExists"));
    }
    // A patch is answered with the object: one that the script knows as it is, another as it was made and patched.
    let object = path.trim_end_matches("/status");
    let mut answer = body;
    if method == "PATCH" {
        let (folder, last) = object.rsplit_once('/').unwrap_or_default();
        let of = |other: &Asked| {
            other.path == asked.path || (other.path == folder && other.body["metadata"]["name"] == last)
        };
        let mut whole = json!({});
        for part in script.changes.iter().filter(|other| of(other)).chain([&asked]) {
            whole
                .as_object_mut()
                .unwrap()
                .extend(part.body.as_object().cloned().unwrap_or_default());
        }
        answer = whole;
    }
    script.changes.push(asked);
    single(object, script).unwrap_or((200, answer))
}

fn list(path: &str, token: Option<&str>, script: &mut Script) -> (u16, Value) {
    if script.forbidden == Some(path) {
        return (403, failure(403, "Forbidden"));
    }
    let start: usize = token.map_or(0, |token| token.parse().unwrap());
    if start == 0 {
        *script.lists.entry(path.to_owned()).or_default() += 1;
    }
    if script.lacking == Some(path) {
        return (404, failure(404, "NotFound"));
    }
    if start > 0 && script.later_pages_fail {
        return (500, failure(500, "InternalError"));
    }
    let all: Vec<_> = script
        .objects
        .iter()
        .filter(|((kind, _), _)| kind == path)
        .map(|(_, object)| object)
        .collect();
    let end = script.page.map_or(all.len(), |page| all.len().min(start + page));
    let mut meta = json!({"resourceVersion": script.version.to_string()});
    if end < all.len() {
        meta["continue"] = json!(end.to_string());
    }
    (
        200,
        json!({"kind": "List", "apiVersion": "v1", "metadata": meta, "items": &all[start..end]}),
    )
}

async fn stream_events(
    stream: &mut BufReader<TcpStream>,
    path: &str,
    mut from: u64,
    script: &Mutex<Script>,
    news: &mut watch::Receiver<u64>,
) -> std::io::Result<()> {
    let refused = {
        let script = script.lock().unwrap();
        script.gone_by_status && from < script.oldest
    };
    if refused {
        return respond(stream, 410, &failure(410, "Expired")).await;
    }
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head).await?;
    loop {
        news.mark_unchanged();
        let (events, gone) = {
            let script = script.lock().unwrap();
            let events: Vec<_> = script
                .log
                .iter()
                .filter(|(version, kind, _)| *version > from && kind == path)
                .cloned()
                .collect();
            (events, from < script.oldest)
        };
        if gone {
            chunk(stream, &json!({"type": "ERROR", "object": failure(410, "Expired")})).await?;
            return stream.write_all(b"0\r\n\r\n").await;
        }
        for (version, _, event) in events {
            from = version;
            chunk(stream, &event).await?;
        }
        if news.changed().await.is_err() {
            return stream.write_all(b"0\r\n\r\n").await;
        }
    }
}
