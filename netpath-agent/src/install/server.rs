//! The API server that the node's kubelet goes to, noted for the agent. Kubelets keep their configuration in many places, on some
//! nodes beside the cluster's own keys: a container that sees the node's files for a moment reads it there, and the agent, which
//! does not see them, gets the server's address alone.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use kube::config::{Cluster, Context, Kubeconfig, NamedCluster, NamedContext};

use super::named;
use crate::source::server::KUBELET_KUBECONFIGS;

/// The file below the run folder that has the server's address.
pub const NOTED: &str = "kubelet.conf";

/// Writes the first of [`KUBELET_KUBECONFIGS`] that is below `node_root` to [`NOTED`] in `run_dir`: servers and their names, and
/// neither keys nor certificates. Returns which it was. What was noted earlier stays where there is none.
///
/// # Errors
/// The kubelet's file cannot be understood, or ours cannot be written; the text names it.
pub fn note(node_root: &Path, run_dir: &Path) -> io::Result<Option<PathBuf>> {
    let below = |path: &&str| node_root.join(path.trim_start_matches('/'));
    let Some(path) = KUBELET_KUBECONFIGS.iter().map(below).find(|path| path.is_file()) else {
        return Ok(None);
    };
    let file = Kubeconfig::read_from(&path).map_err(|error| named(io::Error::other(error), "use", &path))?;
    let text = serde_json::to_string_pretty(&servers(file))?;
    fs::create_dir_all(run_dir).map_err(|error| named(error, "create the folder", run_dir))?;
    let noted = run_dir.join(NOTED);
    let beside = run_dir.join(format!(".{NOTED}.new"));
    let written = fs::write(&beside, text + "\n").and_then(|()| fs::rename(&beside, &noted));
    written.map_err(|error| named(error, "write", &noted))?;
    Ok(Some(path))
}

/// What of a kubeconfig says where servers are, and nothing of who asks them.
fn servers(file: Kubeconfig) -> Kubeconfig {
    let cluster = |cluster: Cluster| Cluster {
        server: cluster.server,
        tls_server_name: cluster.tls_server_name,
        ..Cluster::default()
    };
    let context = |context: Context| Context {
        cluster: context.cluster,
        ..Context::default()
    };
    let clusters = file.clusters.into_iter().map(|named| NamedCluster {
        name: named.name,
        cluster: named.cluster.map(cluster),
        ..NamedCluster::default()
    });
    let contexts = file.contexts.into_iter().map(|named| NamedContext {
        name: named.name,
        context: named.context.map(context),
        ..NamedContext::default()
    });
    Kubeconfig {
        clusters: clusters.collect(),
        contexts: contexts.collect(),
        current_context: file.current_context,
        kind: file.kind,
        api_version: file.api_version,
        ..Kubeconfig::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_server_is_noted_and_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let (root, run) = (folder.path().join("host"), folder.path().join("run/netpath"));
        fs::create_dir_all(root.join("var/lib/kubelet")).unwrap();
        assert_eq!(note(&root, &run).unwrap(), None);
        assert!(!run.exists());

        let path = root.join("var/lib/kubelet/kubeconfig");
        fs::write(
            &path,
            "apiVersion: v1\nkind: Config\ncurrent-context: me\nclusters:\n- name: mine\n  cluster: {server: \
             'https://192.0.2.2:6443', tls-server-name: api, certificate-authority-data: c2VjcmV0}\ncontexts:\n- name: me\n  \
             context: {cluster: mine, user: node}\nusers:\n- name: node\n  user: {token: secret}\n",
        )
        .unwrap();
        assert_eq!(note(&root, &run).unwrap(), Some(path.clone()));
        let noted = fs::read_to_string(run.join(NOTED)).unwrap();
        let value: Value = serde_json::from_str(&noted).unwrap();
        let server = json!({"server": "https://192.0.2.2:6443", "tls-server-name": "api"});
        assert_eq!(value["clusters"], json!([{"name": "mine", "cluster": server}]));
        assert_eq!(value["current-context"], "me");
        assert_eq!(value["contexts"][0]["context"]["cluster"], "mine");
        for secret in ["secret", "c2VjcmV0", "node"] {
            assert!(!noted.contains(secret), "{secret} is in {noted}");
        }
        // It is what the library takes.
        let again = Kubeconfig::read_from(run.join(NOTED)).unwrap();
        assert_eq!(again.current_context.as_deref(), Some("me"));

        fs::write(&path, "}").unwrap();
        let error = note(&root, &run).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot use {}: ", path.display())),
            "{error}"
        );
        assert_eq!(fs::read_to_string(run.join(NOTED)).unwrap(), noted);
    }
}
