//! Events as a scripted API server gets them.

use serde_json::Value;
use tokio::time::timeout;

use super::*;
use crate::source::api::tests::server::{ApiServer, Asked};

const NODE_EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";
const SHOP_EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/shop/events";

/// Events of node `n1` that are written without a pause.
fn events(server: &ApiServer, refusals: &Refusals) -> Events {
    let (sender, receiver) = mpsc::channel(WAITING);
    let writer = Writer {
        client: server.client(),
        node: "n1".into(),
        refusals: refusals.clone(),
        pace: Duration::ZERO,
    };
    tokio::spawn(writer.write(receiver));
    Events(Some(Arc::new(Queue {
        node: "n1".into(),
        sender,
        asked: Mutex::default(),
    })))
}

async fn asked(server: &ApiServer, count: usize) -> Vec<Asked> {
    timeout(Duration::from_secs(20), async {
        while server.changes().len() < count {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("never {count}: {:?}", server.changes()));
    // One too many would come soon.
    sleep(Duration::from_millis(100)).await;
    server.changes()
}

fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop", "uid": "u-1"},
           "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 80}]}})
}

#[tokio::test]
async fn a_finding_is_one_event_for_all_lives_of_the_agent() {
    let (server, refusals) = (ApiServer::start().await, Refusals::default());
    let first = events(&server, &refusals);
    for _ in 0..3 {
        first.node(Reason::ForeignDevice, "device cni0: delete it");
    }
    first.node(Reason::ForeignDevice, "device flannel.1: delete it");
    let changes = asked(&server, 2).await;
    assert_eq!(changes.len(), 2, "the same is said once");
    let Asked { method, path, body } = changes[0].clone();
    assert_eq!((method.as_str(), path.as_str()), ("POST", NODE_EVENTS));
    let name = body["metadata"]["name"].as_str().unwrap().to_owned();
    let mut said = body.clone();
    assert!(said["eventTime"].is_string());
    said["eventTime"] = json!("now");
    assert_eq!(
        said,
        json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": name, "namespace": "default"},
               "action": "Reconcile", "eventTime": "now", "note": "device cni0: delete it", "reason": "ForeignDevice",
               "regarding": {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "n1"},
               "reportingController": "netpath-agent", "reportingInstance": "n1", "type": "Warning"})
    );
    assert!(name.starts_with("n1.") && changes[1].body["metadata"]["name"] != name.as_str());

    // Each life asks to make it, asks how often it was seen, and counts.
    for life in 2..4 {
        let next = events(&server, &refusals);
        next.node(Reason::ForeignDevice, "device cni0: delete it");
        let changes = asked(&server, 2 + 3 * (life - 1)).await;
        let [.., made, looked, counted] = &changes[..] else {
            panic!("{changes:?}")
        };
        assert_eq!(made.body["metadata"]["name"], name.as_str());
        for patch in [looked, counted] {
            assert_eq!(
                (patch.method.as_str(), patch.path.clone()),
                ("PATCH", format!("{NODE_EVENTS}/{name}"))
            );
        }
        assert_eq!(looked.body, json!({}));
        assert_eq!(counted.body["series"]["count"], life);
    }
}

#[tokio::test]
async fn an_object_that_is_refused_gets_an_event_with_its_uid() {
    let (server, refusals) = (ApiServer::start().await, Refusals::default());
    server.set(service("till"));
    let events = events(&server, &refusals);
    let problem = |name: &str| {
        let name = ObjectName::new("shop", name);
        Problem::refused("Service", &name, "spec.clusterIP: it is taken", "choose another")
    };
    let of_subnet = Problem::refused_global("Node", "n1", "spec.podCIDRs: there is none", "allocate one");
    let problems = [problem("gone"), problem("till"), of_subnet];
    events.problems(problems.iter(), &Cluster::default());
    let changes = asked(&server, 2).await;
    let told: Vec<_> = changes
        .iter()
        .map(|asked| {
            (
                asked.path.as_str(),
                asked.body["reason"].clone(),
                asked.body["note"].clone(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (
                SHOP_EVENTS,
                json!("Refused"),
                json!("spec.clusterIP: it is taken; choose another")
            ),
            (
                NODE_EVENTS,
                json!("PodSubnetMissing"),
                json!("spec.podCIDRs: there is none; allocate one")
            ),
        ]
    );
    assert_eq!(
        changes[0].body["regarding"],
        json!({"apiVersion": "v1", "kind": "Service", "name": "till", "namespace": "shop", "uid": "u-1"})
    );
}

#[tokio::test]
async fn what_cannot_be_written_waits_or_is_named() {
    let (mut server, refusals) = (ApiServer::start().await, Refusals::default());
    let events = events(&server, &refusals);
    server.fail(Some(403));
    events.node(Reason::NodeReady, "ready");
    timeout(Duration::from_secs(20), async {
        while refusals.now().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("not named");
    let missing = refusals.now();
    assert!(
        missing[0].starts_with("the agent may not create events.events.k8s.io: "),
        "{missing:?}"
    );
    server.fail(None);
    server.go_away().await;
    // However many: nobody waits for them.
    for number in 0..2 * WAITING {
        events.node(Reason::NodeNotReady, format!("{number}"));
    }
    server.come_back().await;
}

#[test]
fn of_an_object_that_all_see_a_few_tell() {
    let mut cluster = Cluster::default();
    for number in 0..50 {
        cluster.nodes.insert(format!("n{number}"), Default::default());
    }
    let mut told = HashMap::<String, usize>::new();
    for number in 0..200 {
        let name = ObjectName::new("shop", format!("s{number}"));
        let who: Vec<_> = cluster
            .nodes
            .keys()
            .filter(|node| speaks(node, &cluster, "Service", &name))
            .collect();
        assert_eq!(who.len(), SPEAKERS, "{name}");
        who.into_iter()
            .for_each(|node| *told.entry(node.clone()).or_default() += 1);
    }
    assert!(told.len() > 40, "it is always the same who tell: {told:?}");
}

#[test]
fn a_note_is_cut_between_letters() {
    let note = shortened("ä".repeat(800));
    assert!(note.len() <= 1024 && note.ends_with("ä…"), "{}", note.len());
    assert_eq!(shortened("short".into()), "short");
}
