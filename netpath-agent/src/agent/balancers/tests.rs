//! What load balancers hear of node and services, where they may ask, and what becomes of a port that is taken.

use super::super::health::Part;
use super::super::http::tests::ask;
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
    let response = |status: &str, count: usize| {
        let body = format!(
            "{{\"localEndpoints\":{count},\"service\":{{\"name\":\"shop\",\"namespace\":\"web\"}},\"serviceProxyHealthy\":true}}"
        );
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\nContent-Length: {length}\r\n\
             Connection: close\r\nX-Load-Balancing-Endpoint-Weight: {count}\r\n\r\n{body}"
        )
    };
    assert_eq!(balancers.bring_to(&plan(&[(port, 12)])).await, [""; 0]);
    assert_eq!(ask(local(port), CHECK).await, response("200 OK", 12));
    assert_eq!(balancers.bring_to(&plan(&[(port, 0)])).await, [""; 0]);
    assert_eq!(ask(local(port), CHECK).await, response("503 Service Unavailable", 0));
    let other = free();
    assert_eq!(balancers.bring_to(&plan(&[(other, 1)])).await, [""; 0]);
    assert_eq!(ask(local(other), CHECK).await, response("200 OK", 1));
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
    assert!(
        answer.contains("\r\nX-Load-Balancing-Endpoint-Weight: 2\r\n"),
        "{answer}"
    );
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
async fn the_node_s_own_answer_has_no_weight() {
    let port = free();
    let mut balancers = Balancers::new(ProxyHealth::At(local(port)), healthy());
    balancers.bring_to(&plan(&[])).await;
    for path in ["/healthz", "/livez"] {
        let answer = ask(local(port), format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let length = body.len();
        let expected = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\nContent-Length: {length}\r\n\
             Connection: close"
        );
        assert_eq!(head, expected, "{path}");
    }
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
