//! The node's agent: it holds the kernel to the plan. On an event's way this is the loop around all of it: source, plan,
//! apply, and then the node is told ready.

pub mod conflist;
pub mod health;
pub mod settings;

pub use settings::Settings;
