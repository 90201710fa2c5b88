//! Health and readiness over HTTP: whether the agent's loop goes round, what the node still lacks, and where its objects come
//! from. A responder of its own, since a few fixed answers need no server: small limits, one short request a connection.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// A loop that has not come round for so long hangs: it does once a minute.
const STALLED: Duration = Duration::from_secs(180);
/// No request that matters here is longer, in bytes.
const LONGEST_REQUEST: usize = 4096;
/// How many warnings an answer holds.
const WARNINGS: usize = 20;
/// How long a client may take to ask, and again to read the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections that are served at a time; more wait in the listener's queue.
const CONNECTIONS: usize = 16;

/// A thing the node must have before it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The programs are loaded and maps are pinned.
    Datapath,
    /// The source delivered everything once.
    Source,
    /// Devices, maps and routes hold the plan.
    Applied,
    /// The programs watch uplink, overlay and bridge.
    Attached,
    /// The CNI configuration list is in place.
    Conflist,
}

impl Part {
    const ALL: [Part; 5] = [
        Part::Datapath,
        Part::Source,
        Part::Applied,
        Part::Attached,
        Part::Conflist,
    ];

    fn name(self) -> &'static str {
        match self {
            Part::Datapath => "datapath",
            Part::Source => "source",
            Part::Applied => "applied",
            Part::Attached => "attached",
            Part::Conflist => "conflist",
        }
    }

    /// Why a part is missing that nobody has tried yet.
    fn pending(self) -> &'static str {
        match self {
            Part::Datapath => "programs are being loaded",
            Part::Source => "the first full list of nodes, services and endpoints has not come yet",
            Part::Applied => "nothing is applied yet",
            Part::Attached => "programs are not attached yet",
            Part::Conflist => "the CNI configuration is not written yet",
        }
    }
}

/// What the agent's loop tells and the responder says. Cheap to clone: clones are the same.
#[derive(Clone, Debug)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    beat: Instant,
    /// `Ok` once the part is there, otherwise why it is not.
    parts: BTreeMap<Part, Result<(), String>>,
    /// What is to be known although nothing is missing: of the start, and of the last round.
    notes: Vec<String>,
    warnings: Vec<String>,
    /// Where the objects come from, and what is wrong with that.
    source: String,
    source_warnings: Vec<String>,
}

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            beat: Instant::now(),
            parts: BTreeMap::new(),
            notes: Vec::new(),
            warnings: Vec::new(),
            source: "not known yet".into(),
            source_warnings: Vec::new(),
        })))
    }
}

impl Health {
    fn state(&self) -> MutexGuard<'_, State> {
        // The state is whole after every statement: a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop has come round.
    pub fn beat(&self) {
        self.state().beat = Instant::now();
    }

    /// A part is there, or why it is not.
    pub fn set(&self, part: Part, state: Result<(), String>) {
        self.state().parts.insert(part, state);
    }

    /// What an operator should know although nothing is missing, a line each.
    pub fn note(&self, notes: Vec<String>) {
        self.state().notes = notes;
    }

    /// What the last round warned of, such as objects that it refused. Of many, some: the log has all.
    pub fn warn<'a>(&self, warnings: impl ExactSizeIterator<Item = &'a String>) {
        let more = warnings.len().saturating_sub(WARNINGS);
        let mut told: Vec<_> = warnings.take(WARNINGS).cloned().collect();
        if more > 0 {
            told.push(format!("and {more} more: see the log of netpath-agent"));
        }
        self.state().warnings = told;
    }

    /// Where the objects come from at the moment, and what is wrong with that although nothing is missing.
    pub fn source(&self, source: String, warnings: Vec<String>) {
        let mut state = self.state();
        (state.source, state.source_warnings) = (source, warnings);
    }

    /// Every part that is missing, with the reason.
    pub fn missing(&self) -> Vec<(&'static str, String)> {
        let state = self.state();
        let missing = |part: Part| match state.parts.get(&part) {
            Some(Ok(())) => None,
            Some(Err(reason)) => Some((part.name(), reason.clone())),
            None => Some((part.name(), part.pending().to_owned())),
        };
        Part::ALL.into_iter().filter_map(missing).collect()
    }

    /// All that is to be known although nothing is missing, a line each.
    fn told(&self) -> String {
        let state = self.state();
        let lines = state.notes.iter().chain(&state.source_warnings).chain(&state.warnings);
        lines.map(|line| format!("{line}\n")).collect()
    }

    fn stalled(&self) -> Option<Duration> {
        let idle = self.state().beat.elapsed();
        (idle > STALLED).then_some(idle)
    }

    /// Status and body of an answer.
    fn answer(&self, path: &str) -> (&'static str, String) {
        match path {
            "/healthz" => match self.stalled() {
                None => ("200 OK", "ok\n".into()),
                Some(idle) => {
                    let seconds = idle.as_secs();
                    let text = format!("the loop has not come round for {seconds} s: see the agent's log\n");
                    ("503 Service Unavailable", text)
                }
            },
            "/readyz" => {
                let missing = self.missing();
                let told = self.told();
                if missing.is_empty() {
                    return ("200 OK", format!("ok\n{told}"));
                }
                let lines = missing.into_iter().map(|(part, reason)| format!("{part}: {reason}\n"));
                let blank = if told.is_empty() { "" } else { "\n" };
                (
                    "503 Service Unavailable",
                    format!("{}{blank}{told}", lines.collect::<String>()),
                )
            }
            "/source" => ("200 OK", format!("{}\n", self.state().source)),
            _ => ("404 Not Found", "there are /healthz, /readyz and /source\n".into()),
        }
    }
}

/// Opens the listener.
///
/// # Errors
/// The address is taken or not this node's; the text names the flag.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let remedy = "choose an address of this node and a free port";
        let text = format!("cannot answer on --health-address {address}: {error}; {remedy}");
        io::Error::new(error.kind(), text)
    })
}

/// Answers for ever.
pub async fn serve(listener: TcpListener, health: Health) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    // The semaphore is never closed.
    while let Ok(slot) = slots.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let health = health.clone();
                tokio::spawn(async move {
                    // A client that goes away, or is too slow, has no answer coming.
                    let _ = answer(stream, &health).await;
                    drop(slot);
                });
            }
            // Out of descriptors, for example: others may close some meanwhile.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn answer(mut stream: TcpStream, health: &Health) -> io::Result<()> {
    let request = timeout(PATIENCE, request(&mut stream)).await??;
    let (status, body, with_body) = match parse(&request) {
        Ok((method, path)) => {
            let (status, body) = health.answer(path);
            (status, body, method == "GET")
        }
        Err(status) => (status, format!("{status}\n"), true),
    };
    let length = body.len();
    let mut response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    if with_body {
        response.push_str(&body);
    }
    timeout(PATIENCE, stream.write_all(response.as_bytes())).await??;
    stream.shutdown().await
}

/// Reads up to the end of the request's head, the limit, or the end of the stream.
async fn request(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(512);
    while !head.ends_with(b"\r\n\r\n") && head.len() < LONGEST_REQUEST {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    Ok(head)
}

/// Method and path of a request, without its query; otherwise the status that says what is wrong.
fn parse(request: &[u8]) -> Result<(&str, &str), &'static str> {
    const BAD: &str = "400 Bad Request";
    if request.len() >= LONGEST_REQUEST {
        return Err("431 Request Header Fields Too Large");
    }
    let head = std::str::from_utf8(request).map_err(|_| BAD)?;
    if !head.contains("\r\n\r\n") {
        return Err(BAD);
    }
    let mut words = head.lines().next().ok_or(BAD)?.split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(BAD);
    };
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return Err(BAD);
    }
    if method != "GET" && method != "HEAD" {
        return Err("405 Method Not Allowed");
    }
    Ok((method, target.split('?').next().unwrap_or(target)))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn server() -> (SocketAddr, Health) {
        let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (address, health) = (listener.local_addr().unwrap(), Health::default());
        tokio::spawn(serve(listener, health.clone()));
        (address, health)
    }

    fn response(status: &str, body: &str) -> String {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    }

    #[tokio::test]
    async fn readiness_says_what_is_missing_until_nothing_is() {
        let (address, health) = server().await;
        let ready = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n";
        health.set(Part::Datapath, Ok(()));
        health.set(Part::Source, Ok(()));
        health.set(Part::Applied, Err("Node n1: it has no podCIDR".into()));
        assert_eq!(
            ask(address, ready).await,
            response(
                "503 Service Unavailable",
                "applied: Node n1: it has no podCIDR\nattached: programs are not attached yet\n\
                 conflist: the CNI configuration is not written yet\n"
            )
        );
        for part in Part::ALL {
            health.set(part, Ok(()));
        }
        assert_eq!(ask(address, ready).await, response("200 OK", "ok\n"));
        assert_eq!(
            ask(address, b"GET /readyz?verbose HTTP/1.0\r\n\r\n").await,
            response("200 OK", "ok\n")
        );
        assert_eq!(
            ask(address, b"GET /source HTTP/1.1\r\n\r\n").await,
            response("200 OK", "not known yet\n")
        );
        health.source("the API server".into(), vec!["away".into()]);
        health.set(Part::Conflist, Err("no room".into()));
        let both = "conflist: no room\n\naway\n";
        assert_eq!(ask(address, ready).await, response("503 Service Unavailable", both));
        health.set(Part::Conflist, Ok(()));
        assert_eq!(ask(address, ready).await, response("200 OK", "ok\naway\n"));
        health.source("the API server".into(), Vec::new());
        assert_eq!(
            ask(address, b"GET /source HTTP/1.1\r\n\r\n").await,
            response("200 OK", "the API server\n")
        );
        health.note(vec!["one".into(), "two".into()]);
        assert_eq!(ask(address, ready).await, response("200 OK", "ok\none\ntwo\n"));

        let many: Vec<_> = (0..WARNINGS + 2).map(|number| format!("object {number}")).collect();
        health.warn(many.iter());
        let some = many[..WARNINGS].join("\n");
        let all = format!("ok\none\ntwo\n{some}\nand 2 more: see the log of netpath-agent\n");
        assert_eq!(ask(address, ready).await, response("200 OK", &all));
        health.warn([].iter());
        assert_eq!(ask(address, ready).await, response("200 OK", "ok\none\ntwo\n"));
    }

    #[tokio::test]
    async fn health_is_the_loops() {
        let (address, health) = server().await;
        let alive = b"GET /healthz HTTP/1.1\r\n\r\n";
        assert_eq!(ask(address, alive).await, response("200 OK", "ok\n"));
        health.state().beat = Instant::now().checked_sub(STALLED + Duration::from_secs(2)).unwrap();
        assert_eq!(
            ask(address, alive).await,
            response(
                "503 Service Unavailable",
                "the loop has not come round for 182 s: see the agent's log\n"
            )
        );
        health.beat();
        assert_eq!(ask(address, alive).await, response("200 OK", "ok\n"));
    }

    #[tokio::test]
    async fn what_is_no_request_for_us_is_refused() {
        let (address, _) = server().await;
        for (request, status) in [
            (b"GET /metrics HTTP/1.1\r\n\r\n".to_vec(), "404 Not Found"),
            (b"POST /readyz HTTP/1.1\r\n\r\n".to_vec(), "405 Method Not Allowed"),
            (b"GET /readyz\r\n\r\n".to_vec(), "400 Bad Request"),
            (b"GET readyz HTTP/1.1\r\n\r\n".to_vec(), "400 Bad Request"),
            (b"\xff\xfe\r\n\r\n".to_vec(), "400 Bad Request"),
            (b"".to_vec(), "400 Bad Request"),
            (vec![b'a'; LONGEST_REQUEST], "431 Request Header Fields Too Large"),
        ] {
            let answer = ask(address, &request).await;
            assert_eq!(
                answer.lines().next().unwrap(),
                format!("HTTP/1.1 {status}"),
                "{}",
                request.escape_ascii()
            );
        }
        let head = ask(address, b"HEAD /healthz HTTP/1.1\r\n\r\n").await;
        assert!(
            head.ends_with("\r\n\r\n") && head.contains("Content-Length: 3"),
            "{head}"
        );
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_its_flag() {
        let (address, _) = server().await;
        let error = listen(address).await.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot answer on --health-address {address}: ")),
            "{error}"
        );
    }
}
