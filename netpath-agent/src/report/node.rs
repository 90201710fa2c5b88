//! The Node's condition NetworkUnavailable, and the start-up taint.
//!
//! NetworkUnavailable is False once the node is ready, and stays so whatever happens to the agent: what is in force serves
//! on. It is True only while nothing is in force, from a start of the machine until the node is ready, so that no pod is
//! sent there (the node controller makes the taint `node.kubernetes.io/network-unavailable` of it).
//!
//! The start-up taint is somebody else's: whoever makes the node registers it with one. The agent takes it off once pods
//! find their network, and never puts it on.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{debug, info};

use super::Refusals;

/// The condition.
const CONDITION: &str = "NetworkUnavailable";
/// How often the Node is looked at without news: others may have changed it.
const LOOK: Duration = Duration::from_secs(300);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(10);

/// What the Node is to say of its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// Nothing yet: what is in force is not known to this agent, and serves on.
    Unknown,
    /// Nothing is in force yet, and why.
    Unavailable(String),
    /// Pods find their network.
    Available,
}

/// The Node's object, as far as the agent keeps it right.
pub struct Keeper {
    nodes: Api<Node>,
    name: String,
    taint: Option<String>,
    refusals: Refusals,
}

impl Keeper {
    /// Of the Node of this name; the taint is that with this key, if any is to be taken off.
    pub fn new(client: Client, name: &str, taint: Option<String>, refusals: Refusals) -> Self {
        Self {
            nodes: Api::all(client),
            name: name.to_owned(),
            taint,
            refusals,
        }
    }

    /// Keeps the object right, for as long as somebody says what is right.
    pub async fn keep(self, mut network: watch::Receiver<Network>) {
        loop {
            let wanted = network.borrow_and_update().clone();
            let rest = match self.bring_to(&wanted).await {
                Ok(()) => LOOK,
                Err(error) => {
                    debug!(%error, "the Node's condition waits");
                    // What is forbidden does not come true by trying often.
                    match error {
                        kube::Error::Api(status) if status.code == 403 => LOOK,
                        _ => RETRY,
                    }
                }
            };
            if let Ok(Err(_)) = timeout(rest, network.changed()).await {
                return;
            }
        }
    }

    async fn bring_to(&self, wanted: &Network) -> kube::Result<()> {
        let Some(mut wanted_condition) = condition(wanted) else {
            return Ok(());
        };
        let found = self.nodes.get_opt(&self.name).await;
        self.refusals.note("get", "nodes", &found);
        // A Node that is not there yet is told of when it is.
        let Some(node) = found? else { return Ok(()) };
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref());
        let present = conditions
            .unwrap_or_default()
            .iter()
            .find(|condition| condition.type_ == CONDITION);
        if present.is_none_or(|present| !same(present, &wanted_condition)) {
            let since = present.filter(|present| present.status == wanted_condition.status);
            if let Some(since) = since.and_then(|since| since.last_transition_time.clone()) {
                wanted_condition.last_transition_time = Some(since);
            }
            let patch = json!({ "status": { "conditions": [wanted_condition] } });
            let params = PatchParams::default();
            let patched = self
                .nodes
                .patch_status(&self.name, &params, &Patch::Strategic(patch))
                .await;
            self.refusals.note("patch", "nodes/status", &patched);
            patched?;
            info!(
                status = wanted_condition.status,
                "the Node's condition {CONDITION} is set"
            );
        }
        match wanted {
            Network::Available => self.take_taint_off(&node).await,
            _ => Ok(()),
        }
    }

    async fn take_taint_off(&self, node: &Node) -> kube::Result<()> {
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref());
        let (Some(key), Some(taints)) = (&self.taint, taints) else {
            return Ok(());
        };
        let others: Vec<&Taint> = taints.iter().filter(|taint| taint.key != *key).collect();
        if others.len() == taints.len() {
            return Ok(());
        }
        // The list is replaced whole: only if nobody has changed the Node meanwhile.
        let patch = json!({
            "metadata": { "resourceVersion": node.metadata.resource_version },
            "spec": { "taints": others },
        });
        let params = PatchParams::default();
        let patched = self.nodes.patch(&self.name, &params, &Patch::Merge(patch)).await;
        self.refusals.note("patch", "nodes", &patched);
        patched?;
        info!(taint = key, "the start-up taint is off");
        Ok(())
    }
}

/// A taint's key, as the API has it: an optional prefix, a slash, a name.
///
/// # Errors
/// What was expected.
pub fn taint_key(key: &str) -> Result<String, String> {
    let (prefix, name) = key
        .rsplit_once('/')
        .map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let fits = |text: &str, longest: usize| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let end = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        text.len() <= longest && text.bytes().all(plain) && end(text.bytes().next()) && end(text.bytes().last())
    };
    if fits(name, 63) && prefix.is_none_or(|prefix| fits(prefix, 253)) {
        Ok(key.to_owned())
    } else {
        Err("expected a taint's key without value and effect, such as netpath.io/agent-not-ready".into())
    }
}

fn condition(network: &Network) -> Option<NodeCondition> {
    let now = Time(Timestamp::now());
    let (status, reason, message) = match network {
        Network::Unknown => return None,
        Network::Unavailable(why) => ("True", "NetpathNotReady", why.as_str()),
        Network::Available => ("False", "NetpathReady", "netpath connects the pods of this node"),
    };
    Some(NodeCondition {
        type_: CONDITION.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_heartbeat_time: Some(now.clone()),
        last_transition_time: Some(now),
    })
}

fn same(one: &NodeCondition, other: &NodeCondition) -> bool {
    (&one.status, &one.reason, &one.message) == (&other.status, &other.reason, &other.message)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tokio::time::sleep;

    use super::*;
    use crate::source::api::tests::server::ApiServer;

    const NODE: &str = "/api/v1/nodes/n1";
    const STATUS: &str = "/api/v1/nodes/n1/status";

    fn node(condition: Option<&str>, taints: &[&str]) -> Value {
        let taints: Vec<_> = taints
            .iter()
            .map(|key| json!({"key": key, "effect": "NoSchedule"}))
            .collect();
        let conditions: Vec<_> = condition
            .iter()
            .map(|status| json!({"type": CONDITION, "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"}))
            .collect();
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "spec": {"taints": taints},
               "status": {"conditions": conditions}})
    }

    fn keeper(server: &ApiServer, taint: Option<&str>) -> (Keeper, Refusals) {
        let refusals = Refusals::default();
        let taint = taint.map(str::to_owned);
        (Keeper::new(server.client(), "n1", taint, refusals.clone()), refusals)
    }

    /// What was asked to be changed: path, and the condition's status, reason and message or the taints' keys.
    fn asked(server: &ApiServer) -> Vec<(String, Vec<String>)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let changes = server.changes().into_iter().map(|asked| {
            assert_eq!(asked.method, "PATCH");
            let condition = &asked.body["status"]["conditions"][0];
            let told = match asked.body["spec"]["taints"].as_array() {
                Some(taints) => taints.iter().map(|taint| text(&taint["key"])).collect(),
                None => ["status", "reason", "message"]
                    .map(|key| text(&condition[key]))
                    .to_vec(),
            };
            (asked.path, told)
        });
        changes.collect()
    }

    fn said(path: &str, told: &[&str]) -> (String, Vec<String>) {
        (path.to_owned(), told.iter().map(|text| (*text).to_owned()).collect())
    }

    #[tokio::test]
    async fn the_condition_follows_and_the_taint_goes_once_pods_find_their_network() {
        let server = ApiServer::start().await;
        server.set(node(None, &["other", "netpath.io/agent-not-ready"]));
        let (keeper, refusals) = keeper(&server, Some("netpath.io/agent-not-ready"));
        keeper.bring_to(&Network::Unknown).await.unwrap();
        keeper
            .bring_to(&Network::Unavailable("no subnet".into()))
            .await
            .unwrap();
        keeper.bring_to(&Network::Available).await.unwrap();
        let ready = ["False", "NetpathReady", "netpath connects the pods of this node"];
        let expected = [
            said(STATUS, &["True", "NetpathNotReady", "no subnet"]),
            said(STATUS, &ready),
            said(NODE, &["other"]),
        ];
        assert_eq!(asked(&server), expected);
        let taint = &server.changes()[2].body;
        assert_eq!(taint["metadata"]["resourceVersion"], "101", "only as the Node was seen");
        assert_eq!(refusals.now(), [""; 0]);
    }

    #[tokio::test]
    async fn what_is_right_is_left_and_a_taint_that_nobody_named_too() {
        let server = ApiServer::start().await;
        let mut right = node(Some("False"), &["netpath.io/agent-not-ready"]);
        right["status"]["conditions"][0]["reason"] = "NetpathReady".into();
        right["status"]["conditions"][0]["message"] = "netpath connects the pods of this node".into();
        server.set(right);
        let (keeper, _) = keeper(&server, None);
        keeper.bring_to(&Network::Available).await.unwrap();
        assert_eq!(asked(&server), []);
    }

    #[tokio::test]
    async fn another_reason_of_the_same_status_is_no_transition() {
        let server = ApiServer::start().await;
        server.set(node(Some("False"), &[]));
        let (keeper, _) = keeper(&server, None);
        keeper.bring_to(&Network::Available).await.unwrap();
        let condition = server.changes()[0].body["status"]["conditions"][0].clone();
        assert_eq!(condition["lastTransitionTime"], "2026-01-01T00:00:00Z");
        assert_ne!(condition["lastHeartbeatTime"], "2026-01-01T00:00:00Z");
    }

    #[tokio::test]
    async fn a_missing_right_is_named_and_a_missing_node_is_none() {
        let server = ApiServer::start().await;
        let (keeper, refusals) = keeper(&server, None);
        keeper.bring_to(&Network::Available).await.unwrap();
        server.fail(Some(403));
        keeper.bring_to(&Network::Available).await.unwrap_err();
        let expected = "the agent may not get nodes: give its ClusterRole the verb get on nodes (the API server says: as the \
                        script says)";
        assert_eq!(refusals.now(), [expected]);
        server.fail(None);
        keeper.bring_to(&Network::Available).await.unwrap();
        assert_eq!(refusals.now(), [""; 0]);
    }

    #[tokio::test]
    async fn what_comes_while_the_server_is_away_is_said_when_it_is_back() {
        let mut server = ApiServer::start().await;
        server.set(node(None, &[]));
        let (keeper, _) = keeper(&server, None);
        server.go_away().await;
        let (sender, receiver) = watch::channel(Network::Unknown);
        let keeping = tokio::spawn(keeper.keep(receiver));
        sender.send_replace(Network::Available);
        sleep(Duration::from_millis(50)).await;
        server.come_back().await;
        for _ in 0..2000 {
            if !server.changes().is_empty() {
                break;
            }
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(asked(&server).len(), 1);
        drop(sender);
        timeout(Duration::from_secs(20), keeping)
            .await
            .expect("no end")
            .unwrap();
    }
}
