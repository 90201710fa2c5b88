//! What load balancers ask a node: whether it serves at all (`--proxy-health-address`, as kube-proxy answers on port
//! 10256), and of each service whose external traffic stays on the node, whether it has endpoints here, and how many
//! (`healthCheckNodePort`, on the addresses on which NodePorts answer, as with kube-proxy).

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::jiff::Timestamp;
use nix::sys::socket::{setsockopt, sockopt::Ipv6V6Only};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;

use super::health::Health;
use super::http::{self, Answer};
use crate::plan::{HealthCheck, Plan};

/// Connections that wait for an answer, as many as others let wait.
const QUEUE: u32 = 1024;

/// The header by which balancers that give nodes weights learn how many endpoints are here, as kube-proxy has it
/// (`pkg/proxy/healthcheck/service_health.go`).
const WEIGHT: &str = "X-Load-Balancing-Endpoint-Weight";

/// Where the node answers for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHealth {
    /// Nowhere.
    Off,
    /// There.
    At(SocketAddr),
}

impl FromStr for ProxyHealth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let address = text.parse().map(Self::At);
        address.map_err(|_| "expected an address and a port, such as 0.0.0.0:10256, or off".to_owned())
    }
}

impl fmt::Display for ProxyHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => write!(f, "{address}"),
        }
    }
}

/// The listeners, and what they tell.
pub struct Balancers {
    proxy: ProxyHealth,
    told: Told,
    /// Each with the task behind it, which ends with it.
    open: BTreeMap<SocketAddr, JoinSet<()>>,
}

impl Balancers {
    /// No listener yet.
    pub fn new(proxy: ProxyHealth, health: Health) -> Self {
        Self {
            proxy,
            told: Told {
                health,
                state: Arc::default(),
            },
            open: BTreeMap::new(),
        }
    }

    /// Tells from now on what a plan says, on exactly the ports that it says. What cannot be listened on is returned, a line
    /// each, and tried again the next time.
    pub async fn bring_to(&mut self, plan: &Plan) -> Vec<String> {
        *self.told.state() = State {
            leaving: plan.leaving,
            checks: plan.health_checks.clone(),
        };
        let mut wanted: BTreeMap<SocketAddr, Subject> = BTreeMap::new();
        for (port, check) in &plan.health_checks {
            let subject = Subject::Service(*port, check.service.to_string());
            let addresses = plan.health_check_addresses.iter();
            let addresses = addresses.map(|address| SocketAddr::new(*address, *port));
            wanted.extend(addresses.map(|address| (address, subject.clone())));
        }
        match self.proxy {
            ProxyHealth::At(address) if address.ip().is_unspecified() => {
                let addresses = everywhere(plan).map(|all| SocketAddr::new(all, address.port()));
                wanted.extend(addresses.map(|address| (address, Subject::Node)));
            }
            ProxyHealth::At(address) => drop(wanted.insert(address, Subject::Node)),
            ProxyHealth::Off => {}
        }
        self.open.retain(|address, _| wanted.contains_key(address));
        let mut warnings = Vec::new();
        for (address, subject) in wanted {
            if self.open.contains_key(&address) {
                continue;
            }
            match listen(address) {
                Ok(listener) => {
                    let (told, subject) = (self.told.clone(), subject.clone());
                    let mut task = JoinSet::new();
                    task.spawn(http::serve(listener, move |path: &str| told.answer(&subject, path)));
                    self.open.insert(address, task);
                }
                Err(error) => warnings.push(format!(
                    "{subject}: cannot listen on {address}: {error}; {}",
                    subject.remedy()
                )),
            }
        }
        warnings
    }
}

/// All addresses, of each family that the node has.
fn everywhere(plan: &Plan) -> impl Iterator<Item = IpAddr> {
    let v4 = (!plan.v4.subnets.is_empty()).then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let v6 = (!plan.v6.subnets.is_empty()).then_some(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    v4.into_iter().chain(v6)
}

/// Listens on an address of its own family alone, so that one of the other may have the same port.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            setsockopt(&socket, Ipv6V6Only, &true)?;
            socket
        }
    };
    // An agent that starts again does not wait until the last one's connections are forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(QUEUE)
}

/// What a listener answers for.
#[derive(Clone, Debug)]
enum Subject {
    Node,
    /// By its port, and its name for people.
    Service(u16, String),
}

impl Subject {
    fn remedy(&self) -> &'static str {
        match self {
            Self::Node => "stop kube-proxy or whatever else listens there, or choose another address or off",
            Self::Service(..) => "stop what listens there, or let the API server choose another healthCheckNodePort",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("--proxy-health-address"),
            Self::Service(port, name) => write!(f, "Service {name}: spec.healthCheckNodePort {port}"),
        }
    }
}

/// What is told. Clones are the same.
#[derive(Clone)]
struct Told {
    health: Health,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    leaving: bool,
    checks: BTreeMap<u16, HealthCheck>,
}

impl Told {
    fn state(&self) -> MutexGuard<'_, State> {
        // The state is whole after every statement: a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, subject: &Subject, path: &str) -> Answer {
        match (subject, path) {
            (Subject::Node, "/healthz") => self.node(false),
            // A node that is about to go lives on: it must not be restarted for that.
            (Subject::Node, "/livez") => self.node(true),
            (Subject::Node, _) => Answer::text(http::NOT_FOUND, "there are /healthz and /livez\n"),
            (Subject::Service(port, _), _) => self.service(*port),
        }
    }

    fn node(&self, may_leave: bool) -> Answer {
        let leaving = self.state().leaving;
        let age = self.health.services_age();
        let now = Timestamp::now();
        let updated = age.and_then(|age| now.checked_sub(age).ok());
        let body = json!({
            "lastUpdated": updated.map(|time| time.to_string()),
            "currentTime": now.to_string(),
            "nodeEligible": !leaving,
        });
        answer(age.is_some() && (may_leave || !leaving), &body)
    }

    fn service(&self, port: u16) -> Answer {
        let state = self.state();
        let Some(check) = state.checks.get(&port) else {
            return Answer::text(http::NOT_FOUND, "no service has this port any more\n");
        };
        let healthy = self.health.services_age().is_some();
        let body = json!({
            "service": { "namespace": check.service.namespace(), "name": check.service.name() },
            "localEndpoints": check.local_endpoints,
            "serviceProxyHealthy": healthy,
        });
        let weight = (WEIGHT, check.local_endpoints.to_string());
        Answer {
            headers: vec![weight],
            ..answer(healthy && check.local_endpoints > 0, &body)
        }
    }
}

fn answer(yes: bool, body: &Value) -> Answer {
    Answer {
        status: if yes { http::OK } else { http::UNAVAILABLE },
        content: http::JSON,
        headers: Vec::new(),
        body: body.to_string(),
    }
}
