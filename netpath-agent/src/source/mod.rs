//! Where the cluster's objects come from: an API server, or a folder of the same objects as YAML.
//!
//! Either publishes a whole [`crate::model::Cluster`] on a watch channel, the first one only when everything has been
//! read: nothing is ever deleted because it has not been seen yet.

pub mod api;
mod documents;
pub mod folder;
