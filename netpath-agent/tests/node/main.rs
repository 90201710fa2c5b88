//! The node's agent and what it does to a node, each test in a network namespace of its own. Root is needed.

mod agent;
mod bridge;
mod following;
mod foreign;
mod node;
mod overlay;
mod reboot;
mod routes;
mod space;
mod sysctls;
mod uninstall;
mod uplink;
