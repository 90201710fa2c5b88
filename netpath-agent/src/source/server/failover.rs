//! One client over several servers: a request goes to the server that answered last, and to the others in turn while none
//! answers. Which one is in use, and why others are not, is there to be told.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use tokio::time::timeout;
use tower::BoxError;
use tracing::{info, warn};

use super::find::{Candidate, Origin, Places};
use super::{connection, learned};

/// How long a server may take to begin an answer.
const ANSWER: Duration = Duration::from_secs(30);

/// The servers, and which of them is asked.
pub struct Servers {
    places: Places,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    servers: Vec<Server>,
    /// The URL of the one that is asked first.
    current: Option<String>,
    /// Whether that one has answered.
    answered: bool,
    /// What was looked at in vain.
    vain: Vec<String>,
}

struct Server {
    candidate: Candidate,
    client: Option<Client>,
    /// Why it was passed over, the last time it was asked.
    failure: Option<String>,
}

/// Which server is in use, for a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// URL and origin; `None` while none answers.
    pub server: Option<String>,
    /// Those that do not answer, and what was looked at in vain, each with the reason.
    pub failed: Vec<String>,
}

impl fmt::Display for Used {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.server.as_deref().unwrap_or("none answers"))?;
        match self.failed.as_slice() {
            [] => Ok(()),
            failed => write!(f, "; in vain: {}", failed.join("; ")),
        }
    }
}

impl Servers {
    /// Looks where there are servers. None is asked yet.
    ///
    /// # Errors
    /// Nothing names one.
    pub async fn find(places: Places) -> anyhow::Result<Arc<Self>> {
        let servers = Self {
            places,
            state: Mutex::default(),
        };
        servers.look_again().await?;
        for text in &servers.state().vain {
            warn!("{text}");
        }
        Ok(Arc::new(servers))
    }

    /// The client.
    pub fn client(self: &Arc<Self>) -> Client {
        let servers = Arc::clone(self);
        let service = tower::service_fn(move |request| {
            let servers = Arc::clone(&servers);
            async move { servers.send(request).await }
        });
        Client::new(service, "default")
    }

    /// Which server is in use.
    pub fn used(&self) -> Used {
        let state = self.state();
        let current = state.servers.iter().find(|server| {
            state.answered && server.failure.is_none() && Some(&server.candidate.url) == state.current.as_ref()
        });
        let failed = state
            .servers
            .iter()
            .filter_map(|server| Some(format!("{}: {}", server.name(), server.failure.as_ref()?)));
        Used {
            server: current.map(Server::name),
            failed: failed.chain(state.vain.iter().cloned()).collect(),
        }
    }

    /// Writes down where the cluster's servers are, for the next start and for when the one in use fails. Of no matter where
    /// one server was named.
    pub async fn learn(&self, servers: &[SocketAddr]) {
        if self.places.named.is_some() {
            return;
        }
        match learned::record(&self.places.state, servers) {
            Ok(false) => {}
            Ok(true) => {
                info!(
                    ?servers,
                    "the API servers' addresses are written down for the next start"
                );
                if let Err(error) = self.look_again().await {
                    warn!("{error:#}");
                }
            }
            Err(error) => warn!("{error}; after a reboot this node will find the API server by other ways alone"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each use leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up servers that are new, and leaves those that are no longer named.
    async fn look_again(&self) -> anyhow::Result<()> {
        let (candidates, vain) = self.places.candidates().await?;
        let mut state = self.state();
        let mut known = std::mem::take(&mut state.servers);
        for candidate in candidates {
            let position = known.iter().position(|server| server.candidate.url == candidate.url);
            state.servers.push(match position {
                Some(position) => known.swap_remove(position),
                None => Server {
                    candidate,
                    client: None,
                    failure: None,
                },
            });
        }
        state.vain = vain;
        Ok(())
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let mut tried = BTreeSet::new();
        let mut refusal = None;
        while let Some((url, client)) = self.next(&tried) {
            tried.insert(url.clone());
            let Some(again) = again(&request) else {
                return Err("a request that cannot be repeated".into());
            };
            let failure = match client {
                Err(why) => why,
                Ok(client) => match timeout(ANSWER, client.send(again)).await {
                    Ok(Ok(response)) if !response.status().is_server_error() => {
                        self.succeeded(&url);
                        return Ok(response);
                    }
                    Ok(Ok(response)) => {
                        let status = response.status();
                        refusal = Some(response);
                        format!("it answers {status}")
                    }
                    Ok(Err(error)) => chain(&error),
                    Err(_) => format!("no answer within {} s", ANSWER.as_secs()),
                },
            };
            self.failed(&url, failure);
        }
        // Whoever asked tries again: until then more may be known.
        if let Err(error) = self.look_again().await {
            warn!("{error:#}");
        }
        match refusal {
            // The server's own words say more.
            Some(response) => Ok(response),
            None => Err(format!("no API server answers: {}", self.used().failed.join("; ")).into()),
        }
    }

    /// The next server to ask: that in use, then those after it in their order, from the first on.
    fn next(&self, tried: &BTreeSet<String>) -> Option<(String, Result<Client, String>)> {
        let mut state = self.state();
        let current = state.current.clone();
        let untried = |server: &Server| !tried.contains(&server.candidate.url);
        let position = state
            .servers
            .iter()
            .position(|server| untried(server) && Some(&server.candidate.url) == current.as_ref())
            .or_else(|| state.servers.iter().position(untried))?;
        let server = state.servers.get_mut(position)?;
        let url = server.candidate.url.clone();
        if let Some(client) = &server.client {
            return Some((url, Ok(client.clone())));
        }
        let client = connection::client(&server.candidate.config).map_err(|error| chain(&error));
        if let Ok(client) = &client {
            server.client = Some(client.clone());
        }
        Some((url, client))
    }

    fn succeeded(&self, url: &str) {
        let mut state = self.state();
        let news = !state.answered || state.current.as_deref() != Some(url);
        (state.current, state.answered) = (Some(url.to_owned()), true);
        let Some(server) = state.servers.iter_mut().find(|server| server.candidate.url == url) else {
            return;
        };
        if server.failure.take().is_some() || news {
            info!(server = url, found = %server.candidate.from, "the API server answers");
        }
    }

    fn failed(&self, url: &str, why: String) {
        let mut state = self.state();
        if state.current.as_deref() == Some(url) {
            state.answered = false;
        }
        let Some(server) = state.servers.iter_mut().find(|server| server.candidate.url == url) else {
            return;
        };
        if server.failure.as_ref() != Some(&why) {
            warn!(server = url, found = %server.candidate.from, "no use of this API server: {why}");
        }
        server.failure = Some(why);
        // Its connections may be half dead, and its files may change.
        server.client = None;
    }
}

impl Server {
    fn name(&self) -> String {
        let Candidate { url, from, .. } = &self.candidate;
        match from {
            Origin::Learned => format!("{url} (learned earlier)"),
            from => format!("{url} ({from})"),
        }
    }
}

/// The same request once more; `None` for a body that streams, which no request of the agent's has.
fn again(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(request.body().try_clone()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

/// An error with its causes, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
