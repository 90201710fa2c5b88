//! The node's agent: it holds the kernel to the plan. On an event's way this is the loop around all of it: source, plan,
//! apply, and then the node is told ready.

pub mod around;
pub mod balancers;
pub mod conflist;
pub mod facts;
pub mod health;
pub mod http;
pub mod log;
pub mod node;
pub mod objects;
pub mod run;
pub mod settings;
pub mod standing;
pub mod state;

pub use run::run;
pub use settings::Settings;
