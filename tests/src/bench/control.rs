//! What netpath's control plane takes: services programmed from nothing, a pod attached, the agent's memory.

/// Ten thousand services brought into empty maps.
pub const APPLY: &str = "10,000 services from nothing";
/// The agent's resident memory with a thousand services.
pub const MEMORY: &str = "agent's memory, 1,000 services";
