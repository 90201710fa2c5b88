//! `np_counter`: how often each hook reached each verdict. A per-CPU array, indexed by [`index`].

use crate::{hook::Hook, reason::Reason};

/// Reasons a hook has room for.
pub const REASONS_PER_HOOK: u32 = 64;
/// Entries of the array.
pub const COUNTERS: u32 = Hook::ALL.len() as u32 * REASONS_PER_HOOK;

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Counter {
    /// Packets; a packet that segmentation offload has not yet cut counts once.
    pub packets: u64,
    /// Their bytes, from the Ethernet header on, as they came in.
    pub bytes: u64,
}

/// The place of a hook's reason.
#[inline(always)]
pub const fn index(hook: Hook, reason: Reason) -> u32 {
    hook as u32 * REASONS_PER_HOOK + reason as u32
}

const _: () = assert!(size_of::<Counter>() == 16);
