//! Which API servers there are, and which of them is asked.
//!
//! On a node without kube-proxy the service's address leads nowhere before netpath runs, so servers are found by other
//! ways ([`find`]): where the kubelet goes, and the endpoints that the cluster had when it was last seen ([`learned`]). All
//! are behind one client ([`Servers::client`]): a request goes to the server that answered last, and to the others in
//! turn if it does not. Each has connections that are given up when their other end has gone silent ([`connection`]).

mod connection;
mod failover;
pub mod find;
mod kubelet;
pub mod learned;

pub use failover::{Servers, Used};
pub use find::{Account, Places};
pub use kubelet::KUBELET_KUBECONFIGS;
