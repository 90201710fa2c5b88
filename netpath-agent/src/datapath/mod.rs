//! The way into the kernel: where state is pinned, the tables, the programs and the devices that they watch. Everything
//! outlives the process that made it, so that a packet never waits for an agent.

pub mod abi;
pub mod attach;
pub mod error;
pub mod maps;
pub mod pins;
#[cfg(test)]
mod scratch;
pub mod sizes;
pub mod sys;
