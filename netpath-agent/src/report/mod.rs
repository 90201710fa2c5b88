//! What the agent tells the cluster of itself: Events ([`reason`], [`events`]) and the Node's condition and start-up taint
//! ([`node`]). None of it is in a packet's way, nor in that of a round: what cannot be told now waits, and at last is
//! dropped.

pub mod events;
pub mod node;
pub mod reason;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

pub use events::{Events, Regarding};
pub use reason::Reason;

use crate::source::api::trouble::forbidden;

/// Rights that are missing for telling, by what they are for. Cheap to clone: clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Refusals {
    /// What is missing now, a sentence each.
    pub fn now(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// Takes down how a request ended. Returns whether it was refused.
    fn note<T>(&self, verb: &'static str, resource: &'static str, result: &kube::Result<T>) -> bool {
        let mut refusals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Err(kube::Error::Api(status)) if status.code == 403 => {
                let text = forbidden(verb, resource, &status.message);
                if refusals.insert(resource, text.clone()).as_ref() != Some(&text) {
                    tracing::warn!("{text}; pods and services do not need it");
                }
                true
            }
            Ok(_) => {
                refusals.remove(resource);
                false
            }
            Err(_) => false,
        }
    }
}
