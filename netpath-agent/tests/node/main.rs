//! The node's agent and what it does to a node, each test in a network namespace of its own. Root is needed.

mod agent;
mod devices;
mod foreign;
mod reboot;
mod space;
mod uninstall;
