//! The benchmark: netpath's paths, each timed beside its rivals in the same run, the cost of its programs, and what its
//! control plane takes. `cargo xtask bench` runs it as the binary `netpath-bench`.
//!
//! [`rivals`], the [`floor`] and netpath's own arms are [`measure::Arm`]s; [`measure`] times what [`workload`] does on them.

pub mod arms;
pub mod cluster;
pub mod control;
pub mod floor;
pub mod frames;
pub mod measure;
pub mod netlink;
pub mod netns;
pub mod own;
pub mod process;
pub mod programs;
pub mod progress;
pub mod report;
pub mod rivals;
pub mod rules;
pub mod run;
pub mod site;
pub mod workload;
