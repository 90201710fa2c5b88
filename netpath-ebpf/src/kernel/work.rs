//! What the steps of a packet's hook work on, whether tc or XDP runs them.

use core::ffi::c_void;

use netpath_common::{abi::config::Config, hook::Hook, reason::Reason};
use netpath_ebpf::{packet::Packet, scratch::Scratch, verdict::Verdict};

use super::{maps, report, tables::KernelTables};

/// A packet at a hook, and all that the steps need beside it.
pub struct Work<P> {
    /// The packet.
    pub packet: P,
    /// The maps.
    pub tables: KernelTables,
    /// The node.
    pub config: &'static Config,
    /// The working memory.
    pub scratch: &'static mut Scratch,
    pub(super) hook: Hook,
    /// How many bytes the packet came with.
    pub(super) bytes: usize,
}

impl<P: Packet> Work<P> {
    /// Takes up a packet of a program's context.
    ///
    /// # Errors
    /// The packet, if no agent has configured the node yet; that is counted.
    #[inline(always)]
    pub(super) fn take(hook: Hook, packet: P, ctx: *mut c_void) -> Result<Self, P> {
        let bytes = packet.len();
        let (Some(config), Some(scratch)) = (super::tables::config(), maps::scratch()) else {
            report::count(hook, Reason::NotConfigured, bytes);
            return Err(packet);
        };
        Ok(Self {
            packet,
            tables: KernelTables::new(ctx),
            config,
            scratch,
            hook,
            bytes,
        })
    }

    /// Counts the verdict.
    #[inline(always)]
    pub(super) fn count(&self, verdict: Verdict) {
        report::count(self.hook, verdict.reason(), self.bytes);
    }
}
