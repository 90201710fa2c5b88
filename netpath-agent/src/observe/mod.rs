//! What a person, or a script, can learn of a running node: read from the kernel's maps and links, so that it is true also
//! while no agent runs.

pub mod agent;
pub mod counters;
mod read;
mod render;
pub mod state;
pub mod status;
#[cfg(test)]
mod tests;
