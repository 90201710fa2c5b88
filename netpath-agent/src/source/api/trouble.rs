//! What keeps a kind's objects from being listed and watched, said so that the one who runs the cluster can mend it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::runtime::watcher::Error;

/// A trouble that was not told again for so long is over: a watch that begins well says nothing, and one that fails is tried
/// again at least every half minute.
const OVER: Duration = Duration::from_secs(120);

/// What is wrong now, by kind. Cheap to clone: clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Troubles(Arc<Mutex<BTreeMap<&'static str, (Instant, Trouble)>>>);

/// Why a kind's objects do not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What is wrong, with the remedy where there is one.
    pub text: String,
    /// Whether the agent may not ask for it.
    pub forbidden: bool,
}

impl Troubles {
    /// What is wrong at the moment.
    pub fn now(&self) -> Vec<Trouble> {
        let known = self.known();
        let fresh = known.values().filter(|(told, _)| told.elapsed() < OVER);
        fresh.map(|(_, trouble)| trouble.clone()).collect()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<&'static str, (Instant, Trouble)>> {
        // Each use leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A kind failed.
    pub(super) fn tell(&self, kind: &'static str, trouble: Trouble) {
        self.known().insert(kind, (Instant::now(), trouble));
    }

    /// A kind goes well again.
    pub(super) fn over(&self, kind: &'static str) {
        self.known().remove(kind);
    }
}

impl Trouble {
    /// Of an error of a watcher of `resource`, as rights call it: `nodes`, `endpointslices.discovery.k8s.io`.
    pub(super) fn of(resource: &str, error: &Error) -> Self {
        let (verb, error) = match error {
            Error::InitialListFailed(error) => ("list", error),
            Error::WatchStartFailed(error) | Error::WatchFailed(error) => ("watch", error),
            other => {
                return Self {
                    text: format!("{resource}: {other}"),
                    forbidden: false,
                };
            }
        };
        match error {
            kube::Error::Api(status) if status.code == 403 => Self {
                text: forbidden(verb, resource, &status.message),
                forbidden: true,
            },
            kube::Error::Api(status) if status.code == 401 => Self {
                text: format!(
                    "cannot {verb} {resource}: the API server does not know this agent ({}); its service account's token or \
                     its kubeconfig is not of this cluster, or has run out",
                    status.message
                ),
                forbidden: true,
            },
            error => Self {
                text: format!("cannot {verb} {resource}: {error}"),
                forbidden: false,
            },
        }
    }
}

/// A right that is missing, with what to do.
pub fn forbidden(verb: &str, resource: &str, said: &str) -> String {
    format!(
        "the agent may not {verb} {resource}: give its ClusterRole the verb {verb} on {resource} (the API server says: {said})"
    )
}
