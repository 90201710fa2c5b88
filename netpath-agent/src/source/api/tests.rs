//! Scenarios with a server that behaves, forgets, breaks off and goes away.

pub(crate) mod server;

use std::{collections::BTreeSet, net::IpAddr};

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use self::server::ApiServer;
use super::*;
use crate::model::ObjectName;

const NODES: &str = "/api/v1/nodes";
const SERVICES: &str = "/api/v1/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
const SERVICE_CIDRS: &str = "/apis/networking.k8s.io/v1/servicecidrs";

type Receiver = watch::Receiver<Arc<Cluster>>;

fn node(name: &str, address: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"podCIDR": "10.244.1.0/24"},
           "status": {"addresses": [{"type": "InternalIP", "address": address}]}})
}

fn service(name: &str, address: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "web"},
           "spec": {"clusterIP": address, "ports": [{"port": 80}]}})
}

fn slice(name: &str, address: &str) -> Value {
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
           "metadata": {"name": name, "namespace": "web", "labels": {"kubernetes.io/service-name": "shop"}},
           "endpoints": [{"addresses": [address]}], "ports": [{"port": 8080}]})
}

fn service_cidr(name: &str, range: &str) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name},
           "spec": {"cidrs": [range]}})
}

/// The services' ranges, by name.
fn ranges(cluster: &Cluster) -> Vec<(String, String)> {
    let text = |range: &ServiceCidr| range.cidrs.iter().map(ToString::to_string).collect();
    let ranges = cluster.service_cidrs.iter();
    ranges.map(|(name, range)| (name.clone(), text(range))).collect()
}

/// A server with one object of each kind that every server has.
async fn server() -> ApiServer {
    let server = ApiServer::start().await;
    server.set(node("a", "192.168.1.11"));
    server.set(service("shop", "10.96.0.10"));
    server.set(slice("shop-1", "10.244.1.2"));
    server
}

async fn synced(server: &ApiServer) -> Receiver {
    timeout(Duration::from_secs(20), watch(server.client(), Troubles::default()))
        .await
        .expect("no first sync")
        .unwrap()
}

/// Waits for a cluster that is as wanted.
async fn until(receiver: &mut Receiver, what: &str, wanted: impl Fn(&Cluster) -> bool) -> Arc<Cluster> {
    let found = timeout(Duration::from_secs(30), receiver.wait_for(|cluster| wanted(cluster))).await;
    Arc::clone(&found.unwrap_or_else(|_| panic!("never came: {what}")).unwrap())
}

/// The services' names and addresses.
fn services(cluster: &Cluster) -> BTreeSet<(String, IpAddr)> {
    cluster
        .services
        .iter()
        .map(|(name, service)| (name.name().to_owned(), service.cluster_ips[0]))
        .collect()
}

fn named<const N: usize>(services: [(&str, &str); N]) -> BTreeSet<(String, IpAddr)> {
    services
        .map(|(name, address)| (name.to_owned(), address.parse().unwrap()))
        .into()
}

#[tokio::test]
async fn nothing_is_published_before_all_three_lists_are_complete() {
    let server = server().await;
    server.withhold(Some(SLICES));
    let mut first = tokio::spawn(watch(server.client(), Troubles::default()));
    while server.lists(NODES) == 0 || server.lists(SERVICES) == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    assert!(
        timeout(Duration::from_millis(300), &mut first).await.is_err(),
        "published without slices"
    );
    server.withhold(None);
    let receiver = timeout(Duration::from_secs(20), first)
        .await
        .expect("no first sync")
        .unwrap()
        .unwrap();
    let cluster = receiver.borrow().clone();
    assert_eq!(cluster.nodes["a"].internal_ips, [IpAddr::from([192, 168, 1, 11])]);
    assert_eq!(services(&cluster), named([("shop", "10.96.0.10")]));
    let slice = &cluster.slices[&ObjectName::new("web", "shop-1")];
    assert_eq!(slice.service, ObjectName::new("web", "shop"));
    assert_eq!(slice.endpoints[0].address, IpAddr::from([10, 244, 1, 2]));
    assert_eq!(cluster.problems, []);
}

#[tokio::test]
async fn the_ranges_of_services_are_followed() {
    let server = server().await;
    server.set(service_cidr("kubernetes", "10.96.0.0/16"));
    let mut receiver = synced(&server).await;
    let first = ("kubernetes".to_owned(), "10.96.0.0/16".to_owned());
    assert_eq!(ranges(&receiver.borrow()), std::slice::from_ref(&first));
    server.set(service_cidr("more", "10.112.0.0/20"));
    let second = ("more".to_owned(), "10.112.0.0/20".to_owned());
    let both = [first, second];
    until(&mut receiver, "the second range", |now| ranges(now) == both).await;
}

#[tokio::test]
async fn a_server_that_knows_no_ranges_of_services_has_none() {
    let server = server().await;
    server.lacks(SERVICE_CIDRS);
    let receiver = synced(&server).await;
    assert_eq!(ranges(&receiver.borrow()), []);
    assert_eq!(receiver.borrow().services.len(), 1);
    assert_eq!(server.lists(SERVICE_CIDRS), 1);
}

#[tokio::test]
async fn a_long_list_comes_in_pages() {
    let server = server().await;
    for number in 0..7 {
        server.set(service(&format!("s{number}"), &format!("10.96.1.{number}")));
    }
    server.page(3, false);
    let receiver = synced(&server).await;
    assert_eq!(receiver.borrow().services.len(), 8);
    assert_eq!(server.lists(SERVICES), 1);
}

#[tokio::test]
async fn events_are_followed() {
    let server = server().await;
    let mut receiver = synced(&server).await;
    server.set(service("till", "10.96.0.11"));
    until(&mut receiver, "added", |now| {
        services(now) == named([("shop", "10.96.0.10"), ("till", "10.96.0.11")])
    })
    .await;
    server.set(service("till", "10.96.0.12"));
    until(&mut receiver, "changed", |now| {
        services(now) == named([("shop", "10.96.0.10"), ("till", "10.96.0.12")])
    })
    .await;
    server.remove(&service("shop", ""));
    until(&mut receiver, "removed", |now| {
        services(now) == named([("till", "10.96.0.12")])
    })
    .await;
    server.remove(&slice("shop-1", ""));
    server.remove(&node("a", ""));
    until(&mut receiver, "all removed", |now| {
        now.slices.is_empty() && now.nodes.is_empty()
    })
    .await;
    assert_eq!(
        (server.lists(NODES), server.lists(SERVICES), server.lists(SLICES)),
        (1, 1, 1)
    );
}

#[tokio::test]
async fn a_heartbeat_that_changes_nothing_of_ours_is_not_published() {
    let server = server().await;
    let mut receiver = synced(&server).await;
    receiver.mark_unchanged();
    for beat in 0..5 {
        let mut node = node("a", "192.168.1.11");
        node["status"]["conditions"] = json!([{"type": "Ready", "status": "True", "reason": format!("{beat}")}]);
        server.set(node);
        sleep(Duration::from_millis(60)).await;
    }
    assert!(!receiver.has_changed().unwrap());
    server.set(node("a", "192.168.1.99"));
    until(&mut receiver, "moved", |now| {
        now.nodes["a"].internal_ips == [IpAddr::from([192, 168, 1, 99])]
    })
    .await;
}

/// The server forgets history while an object goes and another comes.
async fn forgotten(by_status: bool) {
    let server = server().await;
    let mut receiver = synced(&server).await;
    if by_status {
        // The watch must be a new one for its request to be refused.
        server.cut();
    }
    server.remove(&service("shop", ""));
    server.set(service("till", "10.96.0.11"));
    server.forget(by_status);
    until(&mut receiver, "the new list", |now| {
        services(now) == named([("till", "10.96.0.11")])
    })
    .await;
    assert!(server.lists(SERVICES) >= 2);
    server.set(service("late", "10.96.0.13"));
    let both = named([("till", "10.96.0.11"), ("late", "10.96.0.13")]);
    until(&mut receiver, "the new watch", |now| services(now) == both).await;
}

#[tokio::test]
async fn a_watch_that_ends_gone_is_listed_anew() {
    forgotten(false).await;
}

#[tokio::test]
async fn a_watch_that_is_refused_as_gone_is_listed_anew() {
    forgotten(true).await;
}

#[tokio::test]
async fn a_new_list_deletes_nothing_before_its_last_page() {
    let server = server().await;
    for number in 0..5 {
        server.set(service(&format!("s{number}"), &format!("10.96.1.{number}")));
    }
    let mut receiver = synced(&server).await;
    assert_eq!(receiver.borrow().services.len(), 6);
    receiver.mark_unchanged();
    server.page(2, true);
    server.forget(false);
    let begun = server.lists(SERVICES);
    while server.lists(SERVICES) < begun + 2 {
        sleep(Duration::from_millis(10)).await;
    }
    assert!(!receiver.has_changed().unwrap(), "half a list was published");
    server.remove(&service("s0", ""));
    server.page(2, false);
    until(&mut receiver, "the whole list", |now| now.services.len() == 5).await;
}

#[tokio::test]
async fn a_complete_list_is_believed_even_if_it_is_empty() {
    let server = server().await;
    let mut receiver = synced(&server).await;
    server.forget(false);
    server.remove(&service("shop", ""));
    server.forget(false);
    let now = until(&mut receiver, "no services", |now| now.services.is_empty()).await;
    assert_eq!((now.nodes.len(), now.slices.len()), (1, 1));
}

#[tokio::test]
async fn a_cut_connection_goes_on_where_it_stood() {
    let server = server().await;
    let mut receiver = synced(&server).await;
    server.cut();
    server.set(service("till", "10.96.0.11"));
    server.remove(&service("shop", ""));
    until(&mut receiver, "what happened meanwhile", |now| {
        services(now) == named([("till", "10.96.0.11")])
    })
    .await;
    assert_eq!(server.lists(SERVICES), 1, "there was no need to list again");
}

#[tokio::test]
async fn while_the_server_is_away_what_is_known_stays() {
    let mut server = server().await;
    let mut receiver = synced(&server).await;
    receiver.mark_unchanged();
    server.go_away().await;
    sleep(Duration::from_millis(1500)).await;
    assert!(!receiver.has_changed().unwrap(), "the channel closed or changed");
    server.set(service("till", "10.96.0.11"));
    server.come_back().await;
    let both = named([("shop", "10.96.0.10"), ("till", "10.96.0.11")]);
    until(&mut receiver, "the news", |now| services(now) == both).await;
}

#[tokio::test]
async fn a_server_that_comes_late_is_waited_for() {
    let mut server = server().await;
    server.go_away().await;
    let first = tokio::spawn(watch(server.client(), Troubles::default()));
    sleep(Duration::from_millis(300)).await;
    server.come_back().await;
    let receiver = timeout(Duration::from_secs(20), first)
        .await
        .expect("no first sync")
        .unwrap()
        .unwrap();
    assert_eq!(receiver.borrow().services.len(), 1);
}

#[tokio::test]
async fn a_bad_object_is_refused_alone_and_one_that_turns_bad_keeps_its_earlier_self() {
    let server = server().await;
    let mut unreadable = service("unreadable", "10.96.0.11");
    unreadable["spec"]["ports"] = json!("eighty");
    server.set(unreadable);
    server.set(service("unfit", "banana"));
    let mut receiver = synced(&server).await;
    let cluster = receiver.borrow().clone();
    assert_eq!(services(&cluster), named([("shop", "10.96.0.10")]));
    let names: Vec<_> = cluster.problems.iter().map(|problem| problem.name.as_str()).collect();
    assert_eq!(names, ["unfit", "unreadable"]);

    server.set(service("shop", "apple"));
    let now = until(&mut receiver, "the third problem", |now| now.problems.len() == 3).await;
    assert_eq!(services(&now), named([("shop", "10.96.0.10")]));
    server.forget(false);
    server.set(service("unfit", "10.96.0.12"));
    let now = until(&mut receiver, "a list with it", |now| now.problems.len() == 2).await;
    assert_eq!(services(&now), named([("shop", "10.96.0.10"), ("unfit", "10.96.0.12")]));
    server.remove(&service("shop", ""));
    until(&mut receiver, "removed all the same", |now| {
        services(now) == named([("unfit", "10.96.0.12")])
    })
    .await;
}

#[tokio::test]
async fn a_burst_is_published_as_a_few() {
    let server = server().await;
    let mut receiver = synced(&server).await;
    for number in 0..1000 {
        server.set(service(
            &format!("s{number}"),
            &format!("10.97.{}.{}", number / 250, number % 250),
        ));
    }
    let mut published = 0;
    timeout(Duration::from_secs(30), async {
        while receiver.borrow_and_update().services.len() < 1001 {
            receiver.changed().await.unwrap();
            published += 1;
        }
    })
    .await
    .expect("never whole");
    assert!(published < 50, "published {published} times");
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_until_it_is_there() {
    let server = server().await;
    server.forbid(Some(SLICES));
    let troubles = Troubles::default();
    let first = tokio::spawn(watch(server.client(), troubles.clone()));
    timeout(Duration::from_secs(20), async {
        while troubles.now().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("no trouble");
    let expected = Trouble {
        text: "the agent may not list endpointslices.discovery.k8s.io: give its ClusterRole the verb list on \
               endpointslices.discovery.k8s.io (the API server says: as the script says)"
            .into(),
        forbidden: true,
    };
    assert_eq!(troubles.now(), [expected]);
    server.forbid(None);
    timeout(Duration::from_secs(30), first)
        .await
        .expect("no first sync")
        .unwrap()
        .unwrap();
    assert_eq!(troubles.now(), []);
    let asked: Vec<_> = server.rights().into_iter().filter(|(verb, _)| verb == "list").collect();
    let lists = [
        "endpointslices.discovery.k8s.io",
        "nodes",
        "servicecidrs.networking.k8s.io",
        "services",
    ];
    assert_eq!(asked, lists.map(|resource| ("list".to_owned(), resource.to_owned())));
}
