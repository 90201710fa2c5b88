//! What netpath's control plane takes: services programmed from nothing, a pod attached, the agent's memory.

pub mod attach;
pub mod memory;
pub mod services;

use std::time::Duration;

use super::report::Control;

/// Ten thousand services brought into empty maps.
pub const APPLY: &str = "10,000 services from nothing";
/// As many as a cluster may have.
pub const APPLY_MOST: &str = "45,000 services from nothing";
/// An endpoint gone from one of those.
pub const CHANGE: &str = "an endpoint of 45,000 services goes";
/// A rolling update, step by step.
pub const ROLL: &str = "one of 1,000 endpoints replaced";
/// The agent's resident memory with a thousand services.
pub const MEMORY: &str = "agent's memory, 1,000 services";
/// The same with thirty thousand.
pub const MEMORY_MOST: &str = "agent's memory, 30,000 services";
/// A pod attached by the CNI plugin.
pub const ATTACH: &str = "CNI ADD";
/// What the kernel alone takes for a pod's device.
pub const BARE_ATTACH: &str = "bare veth, address and route";
/// The plugin started and ended.
pub const PLUGIN: &str = "CNI VERSION";

/// The middle of some times, as a figure.
fn median(what: &'static str, mut times: Vec<Duration>, how: &str) -> Control {
    times.sort_unstable();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    Control {
        what,
        value: middle.as_secs_f64() * 1e3,
        unit: "ms",
        how: format!("{how}; middle of {}", times.len()),
    }
}
