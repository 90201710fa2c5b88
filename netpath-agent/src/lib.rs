//! The node's agent, its CNI plugin and the operator's command, as a library: the three binaries are small mains over it.
//!
//! An event's way: [`source`] (API server, or a folder of the same YAML), [`model`], [`plan`], [`apply`], the maps in
//! [`datapath`].

pub mod agent;
pub mod apply;
pub mod cni;
pub mod command;
pub mod datapath;
pub mod family;
mod fnv;
pub mod foreign;
pub mod heap;
pub mod install;
pub mod model;
pub mod net;
pub mod observe;
mod pace;
mod packed;
mod places;
pub mod plan;
pub mod report;
pub mod source;
pub mod uninstall;
