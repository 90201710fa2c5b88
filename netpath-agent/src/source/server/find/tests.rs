//! The order of servers, of made-up nodes.

use std::fs;

use super::*;

const LEARNED: &str = "an endpoint of the service default/kubernetes, learned earlier";
const SERVICE: &str = "the address of the service default/kubernetes";

struct Node {
    folder: tempfile::TempDir,
    places: Places,
}

/// A pod on a node, with a service account and nothing else.
fn node() -> Node {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("account")).unwrap();
    fs::write(path("account").join("token"), "t").unwrap();
    fs::create_dir(path("state")).unwrap();
    let places = Places {
        named: None,
        kubelet: vec![path("kubelet.conf"), path("kubeconfig")],
        account: Account {
            folder: path("account"),
        },
        service: None,
        home: Some(path("home.conf")),
        state: path("state"),
    };
    Node { folder, places }
}

impl Node {
    fn kubeconfig(&self, name: &str, server: &str) {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: '{server}'}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\nusers: [{{name: u, user: {{token: x}}}}]\n"
        );
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    async fn found(&self) -> (Vec<(String, String)>, Vec<String>) {
        let (candidates, vain) = self.places.candidates().await.unwrap();
        let found = candidates.iter().map(|one| (one.url.clone(), one.from.to_string()));
        (found.collect(), vain)
    }

    async fn refused(&self) -> String {
        format!("{:#}", self.places.candidates().await.unwrap_err())
    }
}

fn pair(url: &str, from: impl Into<String>) -> (String, String) {
    (url.to_owned(), from.into())
}

#[tokio::test]
async fn the_kubelets_server_comes_first_then_what_was_learned_then_the_service() {
    let mut node = node();
    node.kubeconfig("kubeconfig", "https://192.0.2.11:6443/");
    learned::record(
        &node.places.state,
        &["192.0.2.11:6443".parse().unwrap(), "192.0.2.12:6443".parse().unwrap()],
    )
    .unwrap();
    node.places.service = Some("10.96.0.1:443".into());
    let kubelet = node.folder.path().join("kubeconfig");
    let expected = vec![
        pair(
            "https://192.0.2.11:6443",
            format!("where the kubelet goes, {}", kubelet.display()),
        ),
        pair("https://192.0.2.12:6443", LEARNED),
        pair("https://10.96.0.1:443", SERVICE),
    ];
    assert_eq!(node.found().await, (expected, Vec::new()));
    let (candidates, _) = node.places.candidates().await.unwrap();
    let names: Vec<_> = candidates
        .iter()
        .map(|one| one.config.tls_server_name.as_deref())
        .collect();
    let internal = Some("kubernetes.default.svc");
    assert_eq!(names, [None, internal, internal]);
    for candidate in &candidates {
        let token = node.places.account.folder.join("token");
        let config = &candidate.config;
        assert_eq!(config.auth_info.token_file.as_deref(), token.to_str());
        assert_eq!(config.root_cert_file, Some(node.places.account.folder.join("ca.crt")));
        // None of the machine's authorities is asked for: an image has none.
        assert_eq!(config.root_cert, Some(Vec::new()));
    }
}

#[tokio::test]
async fn a_file_that_was_named_is_the_only_one() {
    let mut node = node();
    node.kubeconfig("kubeconfig", "https://192.0.2.11:6443");
    node.kubeconfig("mine", "http://192.0.2.99:8080");
    let mine = node.folder.path().join("mine");
    node.places.named = Some(("--kubeconfig", vec![mine.clone()]));
    let expected = vec![pair(
        "http://192.0.2.99:8080",
        format!("--kubeconfig {}", mine.display()),
    )];
    assert_eq!(node.found().await, (expected, Vec::new()));
    fs::remove_file(&mine).unwrap();
    let error = node.refused().await;
    assert!(
        error.starts_with(&format!("--kubeconfig {} cannot be used", mine.display())),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_of_no_use_is_passed_over_and_told() {
    let mut node = node();
    fs::write(node.folder.path().join("kubelet.conf"), "kind: Config\n").unwrap();
    fs::write(node.places.state.join("api-servers.json"), "{}").unwrap();
    let error = node.refused().await;
    assert!(
        error.contains("--kubelet-kubeconfig") && error.contains("kubelet.conf: its current"),
        "{error}"
    );
    node.places.service = Some("10.96.0.1:443".into());
    let (found, vain) = node.found().await;
    assert_eq!(found, [pair("https://10.96.0.1:443", SERVICE)]);
    assert_eq!(vain.len(), 2, "{vain:?}");
    assert!(vain[1].contains("api-servers.json cannot be understood"), "{vain:?}");
}

#[tokio::test]
async fn without_an_account_the_users_own_file_serves() {
    let node = node();
    fs::remove_file(node.places.account.folder.join("token")).unwrap();
    let error = node.refused().await;
    assert!(
        error.starts_with("nothing says where the API server is; give --kubeconfig"),
        "{error}"
    );
    node.kubeconfig("home.conf", "https://192.0.2.7:6443");
    let home = node.folder.path().join("home.conf").display().to_string();
    assert_eq!(node.found().await.0, [pair("https://192.0.2.7:6443", home)]);
}
