//! What the programs in the kernel and the agent on the node agree on: the layout of every map, the names under which
//! maps, programs and links are pinned, the hooks and the reasons of verdicts. Nothing here acts.

#![no_std]
#![forbid(unsafe_code)]

pub mod abi;
pub mod hook;
pub mod names;
pub mod reason;
