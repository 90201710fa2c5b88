//! The API server that the kubelet goes to, from the kubeconfig files that kubelets usually have. Only the address is taken:
//! who the agent is, its own service account says.

use std::path::Path;

use kube::config::Kubeconfig;

/// Where kubelets usually have their kubeconfig: kubeadm, managed clouds, Talos, k3s, RKE2, k0s, MicroK8s.
pub const KUBELET_KUBECONFIGS: [&str; 7] = [
    "/etc/kubernetes/kubelet.conf",
    "/var/lib/kubelet/kubeconfig",
    "/etc/kubernetes/kubeconfig-kubelet",
    "/var/lib/rancher/k3s/agent/kubelet.kubeconfig",
    "/var/lib/rancher/rke2/agent/kubelet.kubeconfig",
    "/var/lib/k0s/kubelet.conf",
    "/var/snap/microk8s/current/credentials/kubelet.config",
];

/// Where the kubelet goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// The server's URL, as the file has it.
    pub url: String,
    /// The name that its certificate has, if that is not the URL's host.
    pub tls_server_name: Option<String>,
}

/// The server of a kubelet's file; `None` if there is no such file.
///
/// # Errors
/// The file names no server, or cannot be read.
pub(super) fn server(path: &Path) -> Result<Option<Server>, String> {
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    }
    let file = Kubeconfig::read_from(path).map_err(|error| error.to_string())?;
    let current = file.current_context.as_deref().unwrap_or_default();
    let contexts = file.contexts.iter();
    let cluster = contexts
        .filter(|context| context.name == current)
        .find_map(|context| Some(context.context.as_ref()?.cluster.as_str()));
    let mut clusters = file.clusters.iter();
    let found = match cluster {
        Some(name) => clusters.find(|cluster| cluster.name == name),
        None => clusters.next(),
    };
    let Some(cluster) = found.and_then(|cluster| cluster.cluster.as_ref()) else {
        return Err("its current context names no cluster".into());
    };
    let Some(url) = cluster.server.clone() else {
        return Err("its cluster has no server".into());
    };
    Ok(Some(Server {
        url,
        tls_server_name: cluster.tls_server_name.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Server>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubelet.conf");
        std::fs::write(&path, text).unwrap();
        server(&path)
    }

    #[test]
    fn the_current_contexts_server_is_the_kubelets() {
        let file = "apiVersion: v1\nkind: Config\ncurrent-context: me\n\
            clusters:\n- name: other\n  cluster: {server: 'https://192.0.2.1:6443'}\n\
            - name: mine\n  cluster: {server: 'https://192.0.2.2:6443', tls-server-name: api, certificate-authority: pki/ca.crt}\n\
            contexts:\n- name: me\n  context: {cluster: mine, user: node}\n\
            users:\n- name: node\n  user: {client-certificate: /nowhere.pem, client-key: /nowhere.pem}\n";
        let expected = Server {
            url: "https://192.0.2.2:6443".into(),
            tls_server_name: Some("api".into()),
        };
        assert_eq!(read(file), Ok(Some(expected)));
    }

    #[test]
    fn a_file_without_a_server_says_so_and_none_is_none() {
        assert_eq!(server(Path::new("/nowhere/kubelet.conf")), Ok(None));
        assert_eq!(
            read("apiVersion: v1\nkind: Config\n"),
            Err("its current context names no cluster".into())
        );
        let error = read("clusters:\n- name: a\n  cluster: {}\n").unwrap_err();
        assert_eq!(error, "its cluster has no server");
        assert!(read("}").is_err());
    }
}
