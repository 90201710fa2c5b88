//! The cluster as it was last seen, on disk: what a node serves from after a reboot, until an API server answers. Pods that
//! the kubelet starts again by itself then find their network.
//!
//! Written soon after the first full list, and then at most every [`REST`] while objects change: what is lost with a node
//! that stops at once is no more than that.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{info, warn};

use super::kept;
use crate::model::Cluster;

/// The version of the record's shape, which is that of [`Cluster`]: raised with every change of it that an older or newer
/// agent would misread. The test `the_shape_is_that_of_its_version` shows every change.
const VERSION: u32 = 1;
/// How long no record is written after one was.
const REST: Duration = Duration::from_secs(30);

/// A cluster and when it was seen so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// In seconds since 1970.
    taken: u64,
    /// The objects, without what was wrong with them.
    pub cluster: Arc<Cluster>,
}

impl Remembered {
    fn now(cluster: Arc<Cluster>) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            taken: now.unwrap_or_default().as_secs(),
            cluster,
        }
    }

    /// When the cluster was seen so, as RFC 3339 has it.
    pub fn when(&self) -> String {
        let seconds = i64::try_from(self.taken).ok();
        let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
        time.map_or_else(|| "a time unknown".to_owned(), |time| time.to_string())
    }
}

fn path(state: &Path) -> PathBuf {
    state.join("objects.json")
}

/// The cluster as it was last seen; `None` on a node that has never seen it.
///
/// # Errors
/// The record is of no use; the text says why.
pub fn load(state: &Path) -> Result<Option<Remembered>, String> {
    kept::read(&path(state), VERSION)
}

/// Writes every cluster down that is published, with rests, for as long as there is a source.
pub async fn keep(clusters: watch::Receiver<Arc<Cluster>>, state: PathBuf) {
    keep_resting(clusters, state, REST).await;
}

async fn keep_resting(mut clusters: watch::Receiver<Arc<Cluster>>, state: PathBuf, rest: Duration) {
    let mut said = None;
    loop {
        let cluster = clusters.borrow_and_update().clone();
        let state = state.clone();
        let write = move || kept::write(&path(&state), VERSION, &Remembered::now(cluster));
        // A thread of its own: thousands of objects take a while, and the disk longer.
        match spawn_blocking(write).await {
            Ok(Ok(())) if said.take().is_some() => info!("over: the cluster's objects are written down again"),
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let text = format!("{error}; after a reboot this node can start pods only once an API server answers");
                if said.as_ref() != Some(&text) {
                    warn!("{text}");
                }
                said = Some(text);
            }
            // The process ends.
            Err(_) => return,
        }
        sleep(rest).await;
        if clusters.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Endpoint, Hints, Node, ObjectName, Problem, Protocol, Service, ServiceCidr, ServicePort, Slice, SlicePort,
    };

    fn remembered() -> Remembered {
        let name = ObjectName::new("shop", "till");
        let problem = Problem::refused("Service", &name, "something", "something else");
        let mut cluster = Cluster::default();
        cluster.nodes.insert(
            "n1".into(),
            Arc::new(Node {
                created: Some(7),
                internal_ips: vec!["192.0.2.1".parse().unwrap()],
                pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
                zone: Some("z1".into()),
                leaving: false,
            }),
        );
        cluster.services.insert(
            name.clone(),
            Arc::new(Service {
                created: None,
                cluster_ips: vec!["10.96.0.10".parse().unwrap()],
                ingress_ips: vec!["203.0.113.9".parse().unwrap()],
                external_ips: vec!["203.0.113.10".parse().unwrap()],
                sources: Some(vec!["192.0.2.0/24".parse().unwrap()]),
                ports: vec![ServicePort {
                    name: "http".into(),
                    protocol: Protocol::Tcp,
                    port: 80,
                    node_port: Some(30080),
                }],
                affinity_timeout: Some(60),
                internal_local: false,
                external_local: true,
                health_check_node_port: Some(30090),
                problems: Vec::new(),
            }),
        );
        cluster.slices.insert(
            ObjectName::new("shop", "till-1"),
            Arc::new(Slice {
                service: name,
                endpoints: vec![Endpoint {
                    address: "10.244.1.5".parse().unwrap(),
                    ready: true,
                    serving: true,
                    terminating: false,
                    node: Some("n1".into()),
                    hints: Some(Box::new(Hints {
                        zones: vec!["z1".into()],
                        nodes: vec![],
                    })),
                }],
                ports: vec![SlicePort {
                    name: "http".into(),
                    protocol: Protocol::Tcp,
                    port: 8080,
                }],
                problems: Vec::new(),
            }),
        );
        let cidrs = vec!["10.96.0.0/16".parse().unwrap()];
        cluster
            .service_cidrs
            .insert("kubernetes".into(), Arc::new(ServiceCidr { cidrs }));
        cluster.problems = vec![problem];
        Remembered {
            taken: 1_700_000_000,
            cluster: Arc::new(cluster),
        }
    }

    /// Whoever changes this text raises the version, unless older and newer agents read it all the same.
    #[test]
    fn the_shape_is_that_of_its_version() {
        let expected = r#"{"taken":1700000000,"cluster":{"nodes":{"n1":{"created":7,"internal_ips":["192.0.2.1"],"#
            .to_owned()
            + r#""pod_cidrs":["10.244.1.0/24"],"zone":"z1","leaving":false}},"services":{"shop/till":{"created":null,"#
            + r#""cluster_ips":["10.96.0.10"],"ingress_ips":["203.0.113.9"],"external_ips":["203.0.113.10"],"sources":["192.0.2.0/24"],"#
            + r#""ports":[{"name":"http","protocol":"Tcp","port":80,"node_port":30080}],"affinity_timeout":60,"#
            + r#""internal_local":false,"external_local":true,"health_check_node_port":30090}},"slices":{"shop/till-1":"#
            + r#"{"service":"shop/till","endpoints":[{"address":"10.244.1.5","ready":true,"serving":true,"#
            + r#""terminating":false,"node":"n1","hints":{"zones":["z1"],"nodes":[]}}],"ports":[{"name":"http","protocol":"Tcp","port":8080}]}},"#
            + r#""service_cidrs":{"kubernetes":{"cidrs":["10.96.0.0/16"]}}}}"#;
        assert_eq!((VERSION, serde_json::to_string(&remembered()).unwrap()), (1, expected));
    }

    #[test]
    fn a_cluster_comes_back_without_its_problems() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(load(state.path()), Ok(None));
        kept::write(&path(state.path()), VERSION, &remembered()).unwrap();
        let mut expected = remembered();
        Arc::make_mut(&mut expected.cluster).problems.clear();
        assert_eq!(expected.when(), "2023-11-14T22:13:20Z");
        assert_eq!(load(state.path()), Ok(Some(expected)));
    }

    #[tokio::test]
    async fn what_changes_is_written_after_a_rest() {
        let rest = Duration::from_secs(1);
        let state = tempfile::tempdir().unwrap();
        let (sender, receiver) = watch::channel(Arc::new(Cluster::default()));
        let keeping = tokio::spawn(keep_resting(receiver, state.path().to_owned(), rest));
        let written = async |cluster: &Cluster| {
            for _ in 0..1000 {
                if load(state.path()).is_ok_and(|found| found.is_some_and(|found| *found.cluster == *cluster)) {
                    return;
                }
                sleep(Duration::from_millis(5)).await;
            }
            panic!("never written");
        };
        written(&Cluster::default()).await;
        let mut cluster = remembered().cluster;
        Arc::make_mut(&mut cluster).problems.clear();
        sender.send_replace(Arc::clone(&cluster));
        sleep(rest / 4).await;
        assert_eq!(*load(state.path()).unwrap().unwrap().cluster, Cluster::default());
        written(&cluster).await;
        drop(sender);
        tokio::time::timeout(rest * 10, keeping).await.expect("no end").unwrap();
    }
}
