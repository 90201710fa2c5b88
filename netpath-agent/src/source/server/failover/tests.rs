//! Servers that come and go, of scripted ones: each with an object that tells it from the others.

use std::fs;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::source::api::tests::server::ApiServer;
use crate::source::server::Account;

/// A node whose kubelet's files name these servers, in this order.
struct Pod {
    folder: tempfile::TempDir,
    places: Places,
}

impl Pod {
    fn of(servers: &[&ApiServer]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["account", "state"] {
            fs::create_dir(path(name)).unwrap();
        }
        fs::write(path("account").join("token"), "sesame").unwrap();
        fs::write(path("account").join("ca.crt"), CERTIFICATE).unwrap();
        let kubelet: Vec<PathBuf> = servers
            .iter()
            .enumerate()
            .map(|(number, server)| {
                let file = path(&format!("kubelet-{number}.conf"));
                let text = json!({"clusters": [{"name": "c", "cluster": {"server": server.url()}}]});
                fs::write(&file, text.to_string()).unwrap();
                file
            })
            .collect();
        let places = Places {
            named: None,
            kubelet,
            account: Account {
                folder: path("account"),
            },
            service: None,
            home: None,
            state: path("state"),
        };
        Self { folder, places }
    }

    fn name(&self, server: &ApiServer, number: usize) -> String {
        let file = self.folder.path().join(format!("kubelet-{number}.conf"));
        format!("{} (where the kubelet goes, {})", server.url(), file.display())
    }
}

/// The authority of `tls/server.pem`, whose only name is `kubernetes.default.svc`. They are good for a hundred years and of no
/// use elsewhere.
const CERTIFICATE: &str = include_str!("tls/ca.pem");

async fn server(node: &str) -> ApiServer {
    let server = ApiServer::start().await;
    server.set(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}));
    server
}

/// Whose objects are seen.
async fn seen(client: &Client) -> Result<String, kube::Error> {
    let nodes = Api::<Node>::all(client.clone()).list(&Default::default()).await?;
    Ok(nodes.items[0].metadata.name.clone().unwrap())
}

#[tokio::test]
async fn a_server_that_is_away_is_passed_over_and_one_that_fails_is_left() {
    let (mut a, mut b, c) = (server("a").await, server("b").await, server("c").await);
    a.go_away().await;
    let pod = Pod::of(&[&a, &b, &c]);
    let servers = Servers::find(pod.places.clone()).await.unwrap();
    let client = servers.client();
    assert_eq!(servers.used(), Used::default());
    assert_eq!(seen(&client).await.unwrap(), "b");
    let used = servers.used();
    assert_eq!(used.server, Some(pod.name(&b, 1)));
    assert_eq!(used.failed.len(), 1, "{used}");
    assert!(used.failed[0].starts_with(&format!("{}: ", pod.name(&a, 0))), "{used}");
    assert!(used.failed[0].contains("onnection refused"), "{used}");

    // The one in use stays so, also when an earlier one is back.
    a.come_back().await;
    assert_eq!(seen(&client).await.unwrap(), "b");
    // Connections are cut, and nobody listens there any more.
    b.go_away().await;
    assert_eq!(seen(&client).await.unwrap(), "a");
    assert_eq!(servers.used().server, Some(pod.name(&a, 0)));
    drop(c);
}

#[tokio::test]
async fn a_server_that_answers_with_its_own_failure_is_left() {
    let (a, b) = (server("a").await, server("b").await);
    let pod = Pod::of(&[&a, &b]);
    let servers = Servers::find(pod.places).await.unwrap();
    let client = servers.client();
    assert_eq!(seen(&client).await.unwrap(), "a");
    a.fail(Some(503));
    assert_eq!(seen(&client).await.unwrap(), "b");
    assert!(
        servers.used().failed[0].contains("it answers 503"),
        "{}",
        servers.used()
    );
    // What a server refuses is an answer, and no other server would give another.
    b.fail(Some(403));
    let error = seen(&client).await.unwrap_err();
    assert!(
        matches!(&error, kube::Error::Api(status) if status.code == 403),
        "{error}"
    );
    // While none does better, its own words are told.
    b.fail(Some(500));
    a.fail(Some(503));
    let error = seen(&client).await.unwrap_err();
    assert!(matches!(&error, kube::Error::Api(_)), "{error}");
    assert_eq!(servers.used().server, None);
    a.fail(None);
    assert_eq!(seen(&client).await.unwrap(), "a");
}

#[tokio::test]
async fn while_all_are_away_it_is_said_of_each_and_what_is_named_meanwhile_is_taken_up() {
    let (mut a, b) = (server("a").await, server("b").await);
    a.go_away().await;
    let pod = Pod::of(&[&a]);
    let servers = Servers::find(pod.places.clone()).await.unwrap();
    let client = servers.client();
    let error = seen(&client).await.unwrap_err().to_string();
    assert!(
        error.contains("no API server answers: ") && error.contains(&a.url()),
        "{error}"
    );
    let text = json!({"clusters": [{"name": "c", "cluster": {"server": b.url()}}]});
    fs::write(&pod.places.kubelet[0], text.to_string()).unwrap();
    assert!(seen(&client).await.is_err(), "it is looked again after a failure");
    assert_eq!(seen(&client).await.unwrap(), "b");
}

#[tokio::test]
async fn the_accounts_token_is_sent() {
    let a = server("a").await;
    let pod = Pod::of(&[&a]);
    seen(&Servers::find(pod.places.clone()).await.unwrap().client())
        .await
        .unwrap();
    assert_eq!(a.authorization().as_deref(), Some("Bearer sesame"));
}

#[tokio::test]
async fn what_is_learned_is_asked_after_the_kubelets() {
    let mut a = server("a").await;
    let pod = Pod::of(&[&a]);
    let servers = Servers::find(pod.places.clone()).await.unwrap();
    let client = servers.client();
    assert_eq!(seen(&client).await.unwrap(), "a");
    // Nobody listens on the loopback's port 1.
    servers.learn(&["127.0.0.1:1".parse().unwrap()]).await;
    assert_eq!(servers.used().server, Some(pod.name(&a, 0)));
    a.go_away().await;
    assert!(seen(&client).await.is_err());
    let used = servers.used();
    let learned = "https://127.0.0.1:1 (learned earlier): ";
    assert!(used.failed.iter().any(|text| text.starts_with(learned)), "{used}");
}

/// A way to a server through TLS. Ends with the test's runtime.
async fn with_tls(server: &ApiServer) -> SocketAddr {
    use tokio_rustls::rustls::{ServerConfig, crypto::ring, pki_types::pem::PemObject, pki_types::*};
    let certificate = CertificateDer::from_pem_slice(include_bytes!("tls/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let behind = server.url().strip_prefix("http://").unwrap().to_owned();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, behind) = (acceptor.clone(), behind.clone());
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                let mut plain = TcpStream::connect(behind).await?;
                tokio::io::copy_bidirectional(&mut stream, &mut plain).await
            });
        }
    });
    address
}

#[tokio::test]
async fn a_learned_endpoint_is_known_by_the_name_that_every_server_has() {
    let (mut a, b) = (server("a").await, server("b").await);
    let pod = Pod::of(&[&a]);
    let servers = Servers::find(pod.places.clone()).await.unwrap();
    let client = servers.client();
    assert_eq!(seen(&client).await.unwrap(), "a");
    let learned = with_tls(&b).await;
    servers.learn(&[learned]).await;
    a.go_away().await;
    assert_eq!(seen(&client).await.unwrap(), "b", "{}", servers.used());
    assert_eq!(
        servers.used().server,
        Some(format!("https://{learned} (learned earlier)"))
    );
    // After a restart of the agent too.
    let servers = Servers::find(pod.places.clone()).await.unwrap();
    assert_eq!(seen(&servers.client()).await.unwrap(), "b", "{}", servers.used());

    // By its address, which the certificate does not have, the same server is nobody's.
    let text = json!({"clusters": [{"name": "c", "cluster": {"server": format!("https://{learned}")}}]});
    fs::write(&pod.places.kubelet[0], text.to_string()).unwrap();
    fs::remove_file(learned::path(&pod.places.state)).unwrap();
    let servers = Servers::find(pod.places.clone()).await.unwrap();
    assert!(seen(&servers.client()).await.is_err());
    let used = servers.used();
    assert!(used.failed[0].contains("certificate"), "{used}");
}
