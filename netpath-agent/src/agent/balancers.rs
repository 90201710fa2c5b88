//! What load balancers ask a node: whether it serves at all (`--proxy-health-address`, as kube-proxy answers on port
//! 10256), and of each service whose external traffic stays on the node, whether it has endpoints here
//! (`healthCheckNodePort`, on the addresses on which NodePorts answer, as with kube-proxy).

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
        answer(healthy && check.local_endpoints > 0, &body)
    }
}

fn answer(yes: bool, body: &Value) -> Answer {
    Answer {
        status: if yes { http::OK } else { http::UNAVAILABLE },
        content: http::JSON,
        body: body.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::health::Part;
    use super::super::http::tests::{ask, response};
    use super::*;
    use crate::model::ObjectName;

    const CHECK: &[u8] = b"GET /healthz HTTP/1.1\r\n\r\n";

    /// A port that is free at the moment.
    fn free() -> u16 {
        let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        listener.local_addr().unwrap().port()
    }

    fn local(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    fn plan(checks: &[(u16, usize)]) -> Plan {
        let check = |&(port, local_endpoints): &(u16, usize)| {
            let service = ObjectName::new("web", "shop");
            (
                port,
                HealthCheck {
                    service,
                    local_endpoints,
                },
            )
        };
        let mut plan = Plan {
            health_checks: checks.iter().map(check).collect(),
            health_check_addresses: [Ipv4Addr::UNSPECIFIED.into()].into(),
            ..Plan::default()
        };
        plan.v4.subnets = vec!["10.244.1.0/24".parse().unwrap()];
        plan
    }

    fn healthy() -> Health {
        let health = Health::default();
        health.set(Part::Applied, Ok(()));
        health
    }

    #[tokio::test]
    async fn a_service_s_port_tells_of_its_endpoints_and_closes_with_it() {
        let health = healthy();
        let mut balancers = Balancers::new(ProxyHealth::Off, health.clone());
        let port = free();
        let body = |count: usize, healthy: bool| {
            format!(
                "{{\"localEndpoints\":{count},\"service\":{{\"name\":\"shop\",\"namespace\":\"web\"}},\"serviceProxyHealthy\":{healthy}}}"
            )
        };
        assert_eq!(balancers.bring_to(&plan(&[(port, 2)])).await, [""; 0]);
        assert_eq!(
            ask(local(port), CHECK).await,
            response(http::OK, http::JSON, &body(2, true))
        );
        assert_eq!(balancers.bring_to(&plan(&[(port, 0)])).await, [""; 0]);
        assert_eq!(
            ask(local(port), CHECK).await,
            response(http::UNAVAILABLE, http::JSON, &body(0, true))
        );
        let other = free();
        assert_eq!(balancers.bring_to(&plan(&[(other, 1)])).await, [""; 0]);
        assert_eq!(
            ask(local(other), CHECK).await,
            response(http::OK, http::JSON, &body(1, true))
        );
        // The task ends at its next step.
        while tokio::net::TcpStream::connect(local(port)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_node_of_both_families_is_asked_in_each() {
        let (own, port) = (free(), free());
        let at = format!("0.0.0.0:{own}").parse().unwrap();
        let mut balancers = Balancers::new(ProxyHealth::At(at), healthy());
        let mut both = plan(&[(port, 1)]);
        both.v6.subnets = vec!["fd00:244:1::/64".parse().unwrap()];
        both.health_check_addresses.insert(Ipv6Addr::UNSPECIFIED.into());
        assert_eq!(balancers.bring_to(&both).await, [""; 0]);
        let answers = async |ip: IpAddr, port| {
            let answer = ask(SocketAddr::new(ip, port), CHECK).await;
            answer.starts_with("HTTP/1.1 200 ")
        };
        for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            assert!(answers(ip, port).await && answers(ip, own).await, "{ip}");
        }
        both.v6.subnets.clear();
        assert_eq!(balancers.bring_to(&both).await, [""; 0]);
        while tokio::net::TcpStream::connect((Ipv6Addr::LOCALHOST, own)).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(answers(Ipv4Addr::LOCALHOST.into(), own).await);
    }

    #[tokio::test]
    async fn a_service_is_asked_for_on_the_addresses_that_are_chosen_and_the_node_on_all() {
        let (own, port) = (free(), free());
        let at = format!("0.0.0.0:{own}").parse().unwrap();
        let mut balancers = Balancers::new(ProxyHealth::At(at), healthy());
        let [first, second] = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];
        let answers = async |ip: Ipv4Addr, port| tokio::net::TcpStream::connect((ip, port)).await.is_ok();
        let mut plan = plan(&[(port, 1)]);
        plan.health_check_addresses = [first.into()].into();
        assert_eq!(balancers.bring_to(&plan).await, [""; 0]);
        assert!(answers(first, port).await && !answers(second, port).await);
        assert!(answers(first, own).await && answers(second, own).await);
        plan.health_check_addresses = [second.into()].into();
        assert_eq!(balancers.bring_to(&plan).await, [""; 0]);
        while answers(first, port).await {
            tokio::task::yield_now().await;
        }
        assert!(answers(second, port).await);
        plan.health_check_addresses.clear();
        assert_eq!(balancers.bring_to(&plan).await, [""; 0]);
        while answers(second, port).await {
            tokio::task::yield_now().await;
        }
        assert!(answers(second, own).await);
    }

    #[tokio::test]
    async fn an_agent_that_does_not_follow_has_no_healthy_service() {
        let mut balancers = Balancers::new(ProxyHealth::Off, Health::default());
        let port = free();
        balancers.bring_to(&plan(&[(port, 2)])).await;
        let answer = ask(local(port), CHECK).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.ends_with("\"serviceProxyHealthy\":false}"), "{answer}");
    }

    #[tokio::test]
    async fn a_node_that_leaves_is_alive_and_takes_nothing_new() {
        let port = free();
        let mut balancers = Balancers::new(ProxyHealth::At(local(port)), healthy());
        let ask = async |path: &str| {
            let answer = ask(local(port), format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).await;
            let status = answer.lines().next().unwrap_or_default().to_owned();
            (status, answer.contains("\"nodeEligible\":true"))
        };
        balancers.bring_to(&plan(&[])).await;
        assert_eq!(ask("/healthz").await, ("HTTP/1.1 200 OK".into(), true));
        assert_eq!(ask("/livez").await, ("HTTP/1.1 200 OK".into(), true));
        assert_eq!(ask("/").await, ("HTTP/1.1 404 Not Found".into(), false));
        let leaving = Plan {
            leaving: true,
            ..Plan::default()
        };
        balancers.bring_to(&leaving).await;
        assert_eq!(
            ask("/healthz").await,
            ("HTTP/1.1 503 Service Unavailable".into(), false)
        );
        assert_eq!(ask("/livez").await, ("HTTP/1.1 200 OK".into(), false));
    }

    #[tokio::test]
    async fn a_port_in_use_is_said_and_taken_once_it_is_free() {
        let holder = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = holder.local_addr().unwrap().port();
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let mut balancers = Balancers::new(ProxyHealth::At(address), healthy());
        let warnings = balancers.bring_to(&plan(&[])).await;
        assert_eq!(warnings.len(), 1);
        let start = format!("--proxy-health-address: cannot listen on 0.0.0.0:{port}: ");
        assert!(warnings[0].starts_with(&start), "{warnings:?}");
        drop(holder);
        assert_eq!(balancers.bring_to(&plan(&[])).await, [""; 0]);
        assert!(ask(local(port), CHECK).await.starts_with("HTTP/1.1 200 OK"));
    }

    #[test]
    fn an_address_or_off() {
        assert_eq!("off".parse(), Ok(ProxyHealth::Off));
        let address = "0.0.0.0:10256".parse().map(ProxyHealth::At).unwrap();
        assert_eq!("0.0.0.0:10256".parse(), Ok(address));
        assert!("10256".parse::<ProxyHealth>().is_err());
    }
}
