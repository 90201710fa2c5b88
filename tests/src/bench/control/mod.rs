//! What netpath's control plane takes: services programmed from nothing, a pod attached, the agent's memory.

pub mod apply;
pub mod attach;
pub mod memory;

use std::time::Duration;

use super::report::Control;

/// Ten thousand services brought into empty maps.
pub const APPLY: &str = "10,000 services from nothing";
/// One service changed among them.
pub const CHANGE: &str = "one of 10,000 services changed";
/// The agent's resident memory with a thousand services.
pub const MEMORY: &str = "agent's memory, 1,000 services";
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
