//! Health and readiness: whether the agent's loop goes round, what the node still lacks, where its objects come from, and since
//! when the maps have not followed them.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use super::http::{self, Answer};

/// A loop that has not come round for so long hangs: it does once a minute.
const STALLED: Duration = Duration::from_secs(180);
/// How many warnings an answer holds.
const WARNINGS: usize = 20;
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
    /// When devices, maps and routes last held the plan.
    applied: Option<Instant>,
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
            applied: None,
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
        let mut known = self.state();
        if part == Part::Applied && state.is_ok() {
            known.applied = Some(Instant::now());
        }
        known.parts.insert(part, state);
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

    /// How long ago services were brought to what the objects say; `None` if never, or too long ago to rely on it.
    pub fn services_age(&self) -> Option<Duration> {
        let applied = self.state().applied?;
        Some(applied.elapsed()).filter(|age| *age <= STALLED)
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

    fn answer(&self, path: &str) -> Answer {
        match path {
            "/healthz" => match self.stalled() {
                None => Answer::text(http::OK, "ok\n"),
                Some(idle) => {
                    let seconds = idle.as_secs();
                    let text = format!("the loop has not come round for {seconds} s: see the agent's log\n");
                    Answer::text(http::UNAVAILABLE, text)
                }
            },
            "/readyz" => {
                let missing = self.missing();
                let told = self.told();
                if missing.is_empty() {
                    return Answer::text(http::OK, format!("ok\n{told}"));
                }
                let lines = missing.into_iter().map(|(part, reason)| format!("{part}: {reason}\n"));
                let blank = if told.is_empty() { "" } else { "\n" };
                Answer::text(http::UNAVAILABLE, format!("{}{blank}{told}", lines.collect::<String>()))
            }
            "/source" => Answer::text(http::OK, format!("{}\n", self.state().source)),
            _ => Answer::text(http::NOT_FOUND, "there are /healthz, /readyz and /source\n"),
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
    http::serve(listener, move |path: &str| health.answer(path)).await;
}

#[cfg(test)]
mod tests {
    use super::super::http::tests::ask;
    use super::*;

    async fn server() -> (SocketAddr, Health) {
        let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (address, health) = (listener.local_addr().unwrap(), Health::default());
        tokio::spawn(serve(listener, health.clone()));
        (address, health)
    }

    fn response(status: &str, body: &str) -> String {
        http::tests::response(status, http::TEXT, body)
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
    async fn a_port_in_use_is_named_with_its_flag() {
        let (address, _) = server().await;
        let error = listen(address).await.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot answer on --health-address {address}: ")),
            "{error}"
        );
    }

    #[tokio::test]
    async fn services_are_as_old_as_the_last_plan_that_came_true() {
        let health = Health::default();
        assert_eq!(health.services_age(), None);
        health.set(Part::Applied, Ok(()));
        assert!(health.services_age().is_some());
        health.set(Part::Applied, Err("no device".into()));
        assert!(health.services_age().is_some(), "one failure does not make them wrong");
        health.state().applied = Instant::now().checked_sub(STALLED + Duration::from_secs(2));
        assert_eq!(health.services_age(), None);
    }
}
