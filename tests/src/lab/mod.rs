//! The lab: a cluster on one machine. Nodes, the router between them, a client outside and every pod are network
//! namespaces; agents and the CNI plugin are the real programs.
//!
//! From the bottom up: [`home`] claims a name and takes everything away again, [`namespace`] and [`process`] make the rooms
//! and put programs into them, [`wire`] and [`topology`] connect them, [`objects`] reads the Kubernetes YAML, [`kubelet`] and
//! [`endpoints`] play the two controllers that a network relies on, [`start`] puts it together and hands out the [`cluster`].
//! [`probe`] asks [`pod`]'s servers, [`ways`] lists whom to ask, [`paths`] knows which answers are right and [`services`] which pods a
//! Service has, [`traffic`] keeps asking while something is done to the network, [`ask`] does so in a real cluster, [`show`] and
//! [`run`] tell a person.

pub mod agent;
pub mod ask;
pub mod cluster;
pub mod endpoints;
pub mod home;
pub mod interrupt;
pub mod kept;
pub mod kubelet;
pub mod namespace;
pub mod objects;
pub mod paths;
pub mod pod;
pub mod probe;
pub mod process;
pub mod run;
pub mod services;
pub mod show;
pub mod start;
pub mod topology;
pub mod traffic;
pub mod ways;
pub mod wire;
