//! How the API server is reached: which server, and as whom.

use std::path::Path;

use anyhow::Context;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// A client after the file, or else after the environment: `$KUBECONFIG`, `~/.kube/config`, the pod's service account.
/// Nothing is asked of the server yet.
///
/// # Errors
/// The file is missing or cannot be used, or nothing names a server.
pub async fn client(kubeconfig: Option<&Path>) -> anyhow::Result<Client> {
    let config = match kubeconfig {
        Some(path) => {
            let named = || {
                format!(
                    "--kubeconfig {} cannot be used; give a file that kubectl takes",
                    path.display()
                )
            };
            let file = Kubeconfig::read_from(path).with_context(named)?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .with_context(named)?
        }
        None => Config::infer().await.context(
            "nothing says where the API server is; give --kubeconfig, run in a pod with a service account, or take the \
             objects from a --folder",
        )?,
    };
    let server = config.cluster_url.clone();
    Client::try_from(config).with_context(|| format!("no client for the API server {server} can be made"))
}
