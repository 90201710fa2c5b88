//! The way into the kernel: where state is pinned, the tables, the programs and the devices that they watch. Everything
//! outlives the process that made it, so that a packet never waits for an agent.

pub mod abi;
pub mod attach;
mod carry;
pub mod cgroup;
pub mod config;
pub mod error;
pub mod fill;
pub mod load;
#[cfg(test)]
mod load_tests;
pub mod maps;
mod object;
mod packet_log;
pub mod pins;
pub mod requirements;
#[cfg(test)]
pub(crate) mod scratch;
pub mod sizes;
mod staged;
pub mod sys;
pub mod tables;
