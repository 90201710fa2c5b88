//! Where the cluster's objects come from: an API server, or a folder of the same objects as YAML.
//!
//! Either publishes a whole [`crate::model::Cluster`] on a watch channel, the first one only when everything has been
//! read: nothing is ever deleted because it has not been seen yet.
//!
//! A node that cannot reach any API server after a reboot serves what was [`remembered`] of it.

pub mod api;
mod documents;
pub mod folder;
mod kept;
pub mod remembered;
pub mod server;
