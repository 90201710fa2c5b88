//! The servers that may be asked, in the order in which they are.
//!
//! 1. A kubeconfig that was named (`--kubeconfig`, `$KUBECONFIG`): that one server, and no other.
//! 2. With a service account: where the kubelet goes; the endpoints learned earlier; the service's own address.
//! 3. `~/.kube/config`, for an agent that somebody starts by hand.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use kube::Config;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};

use super::{kubelet, learned};

/// How long a server may take to accept a connection: the next one waits for its turn.
const CONNECT: Duration = Duration::from_secs(4);
/// How long a connection may say nothing. The server sends a mark once a minute into every watch.
const SILENCE: Duration = Duration::from_secs(150);

/// Where to look.
#[derive(Clone, Debug)]
pub struct Places {
    /// The files that were named, which are read as one, and by what: `--kubeconfig`, `$KUBECONFIG`.
    pub named: Option<(&'static str, Vec<PathBuf>)>,
    /// The kubelet's files, in their order.
    pub kubelet: Vec<PathBuf>,
    /// The pod's service account.
    pub account: Account,
    /// The address of the service, as `host:port`; of a pod's environment.
    pub service: Option<String>,
    /// `~/.kube/config`.
    pub home: Option<PathBuf>,
    /// The agent's own folder.
    pub state: PathBuf,
}

/// A service account, mounted into the pod. Its files are read again when they change, once a minute.
#[derive(Clone, Debug)]
pub struct Account {
    /// The folder with `token` and `ca.crt`.
    pub folder: PathBuf,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            folder: "/var/run/secrets/kubernetes.io/serviceaccount".into(),
        }
    }
}

/// A server that may be asked.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// Its URL.
    pub url: String,
    /// How it was found.
    pub from: Origin,
    /// How to reach it.
    pub config: Config,
}

/// How a server was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Files that were named, by what.
    Named(&'static str, Vec<PathBuf>),
    /// The kubelet's file.
    Kubelet(PathBuf),
    /// The endpoints of `default/kubernetes`, as of an earlier day.
    Learned,
    /// The service's address.
    Service,
    /// `~/.kube/config`.
    Home(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(what, paths) => write!(f, "{what} {}", list(paths)),
            Self::Kubelet(path) => write!(f, "where the kubelet goes, {}", path.display()),
            Self::Learned => f.write_str("an endpoint of the service default/kubernetes, learned earlier"),
            Self::Service => f.write_str("the address of the service default/kubernetes"),
            Self::Home(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Places {
    /// Where an agent looks: by its settings and its environment.
    pub fn of_process(kubeconfig: Option<PathBuf>, kubelet: Vec<PathBuf>, state: PathBuf) -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let named = kubeconfig.map(|path| ("--kubeconfig", vec![path]));
        let several = || Some(std::env::split_paths(&variable("KUBECONFIG")?).collect());
        let named = named.or_else(|| Some(("$KUBECONFIG", several()?)));
        let service = variable("KUBERNETES_SERVICE_HOST").zip(variable("KUBERNETES_SERVICE_PORT"));
        Self {
            named,
            kubelet,
            account: Account::default(),
            service: service.map(|(host, port)| match host.contains(':') {
                true => format!("[{host}]:{port}"),
                false => format!("{host}:{port}"),
            }),
            home: variable("HOME").map(|home| Path::new(&home).join(".kube/config")),
            state,
        }
    }

    /// The servers, in order, none twice; and what was looked at in vain.
    ///
    /// # Errors
    /// There is none.
    pub(super) async fn candidates(&self) -> anyhow::Result<(Vec<Candidate>, Vec<String>)> {
        if let Some((what, paths)) = &self.named {
            let origin = Origin::Named(what, paths.clone());
            let candidate = of_files(paths, origin).await.with_context(|| {
                let paths = list(paths);
                format!("{what} {paths} cannot be used; give a file that kubectl takes")
            })?;
            return Ok((vec![candidate], Vec::new()));
        }
        let mut vain = Vec::new();
        if self.account.folder.join("token").exists() {
            let found = self.for_account(&mut vain);
            if found.is_empty() {
                bail!(
                    "there is a service account, but nothing says where the API server is; name the kubelet's kubeconfig \
                     with --kubelet-kubeconfig, or give --kubeconfig{}",
                    vain.iter().map(|text| format!("; {text}")).collect::<String>()
                );
            }
            return Ok((found, vain));
        }
        match &self.home {
            Some(path) if path.exists() => {
                let named = || format!("{} cannot be used; give --kubeconfig", path.display());
                let candidate = of_files(std::slice::from_ref(path), Origin::Home(path.clone()))
                    .await
                    .with_context(named)?;
                Ok((vec![candidate], vain))
            }
            _ => Err(anyhow!(
                "nothing says where the API server is; give --kubeconfig, run in a pod with a service account, or take the \
                 objects from a --folder"
            )),
        }
    }

    fn for_account(&self, vain: &mut Vec<String>) -> Vec<Candidate> {
        let mut found: Vec<Candidate> = Vec::new();
        let mut add = |url: String, tls_server_name: Option<String>, from: Origin, vain: &mut Vec<String>| {
            let url = url.trim_end_matches('/').to_owned();
            match self.account.config(&url, tls_server_name) {
                Ok(_) if found.iter().any(|other| other.url == url) => {}
                Ok(config) => found.push(Candidate { url, from, config }),
                Err(why) => vain.push(format!("{url} ({from}): {why}")),
            }
        };
        for path in &self.kubelet {
            match kubelet::server(path) {
                Ok(None) => {}
                Ok(Some(server)) => add(server.url, server.tls_server_name, Origin::Kubelet(path.clone()), vain),
                Err(why) => vain.push(format!("the kubelet's {}: {why}", path.display())),
            }
        }
        let name = || Some(learned::TLS_SERVER_NAME.to_owned());
        match learned::recorded(&self.state) {
            Ok(servers) => {
                for server in servers {
                    add(format!("https://{server}"), name(), Origin::Learned, vain);
                }
            }
            Err(why) => vain.push(why),
        }
        if let Some(service) = &self.service {
            add(format!("https://{service}"), name(), Origin::Service, vain);
        }
        found
    }
}

impl Account {
    /// How this account goes to a server.
    fn config(&self, url: &str, tls_server_name: Option<String>) -> Result<Config, String> {
        let uri = url.parse().map_err(|_| "this is no URL".to_owned())?;
        let path = |name: &str| self.folder.join(name);
        let mut config = patient(Config::new(uri));
        config.root_cert_file = Some(path("ca.crt"));
        // That file alone decides, read again as it changes. Without any list beside it kube would first look for the machine's own
        // authorities, and fail in an image that has none.
        config.root_cert = Some(Vec::new());
        config.auth_info = AuthInfo {
            token_file: Some(path("token").display().to_string()),
            ..AuthInfo::default()
        };
        config.tls_server_name = tls_server_name;
        Ok(config)
    }
}

/// Paths, as they are written one after the other.
fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(":")
}

/// Of several files the first that says a thing counts, as with kubectl.
async fn of_files(paths: &[PathBuf], from: Origin) -> anyhow::Result<Candidate> {
    let mut file = Kubeconfig::default();
    for path in paths {
        file = file.merge(Kubeconfig::read_from(path)?)?;
    }
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Candidate {
        url: config.cluster_url.to_string().trim_end_matches('/').to_owned(),
        from,
        config: patient(config),
    })
}

/// With the limits of time that let another server have its turn. What fails is tried again by whoever asked.
fn patient(mut config: Config) -> Config {
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    config.default_retry = false;
    config
}

#[cfg(test)]
mod tests;
