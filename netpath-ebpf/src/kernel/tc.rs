//! tc: what a program does before and after a hook's steps.

use aya_ebpf::programs::TcContext;
use netpath_common::{abi::config::Config, hook::Hook, reason::Reason};
use netpath_ebpf::{
    packet::Packet,
    scratch::Scratch,
    verdict::{NextHop, Verdict},
};

use super::{maps, onward, report, skb::SkbPacket, tables::KernelTables};

/// What the steps of a hook work on.
pub struct Work {
    /// The packet.
    pub packet: SkbPacket,
    /// The maps.
    pub tables: KernelTables,
    /// The node.
    pub config: &'static Config,
    /// The working memory.
    pub scratch: &'static mut Scratch,
    hook: Hook,
    bytes: usize,
}

impl Work {
    /// Takes a packet up.
    ///
    /// # Errors
    /// The program's return value, if there is nothing to do.
    #[inline(always)]
    pub fn begin(hook: Hook, ctx: &TcContext) -> Result<Self, i32> {
        let mut packet = SkbPacket {
            skb: ctx.skb.skb,
            summed_up: matches!(hook, Hook::FromWire | Hook::FromOverlay),
        };
        if packet.sent() {
            if matches!(hook, Hook::ToWire) {
                return Err(report::NEXT);
            }
            // Veth carries the mark to its other end: from another node, or from a pod that would like to pass for one.
            packet.set_sent(false);
        }
        let bytes = packet.len();
        let (Some(config), Some(scratch)) = (super::tables::config(), maps::scratch()) else {
            report::count(hook, Reason::NotConfigured, bytes);
            return Err(report::answer_tc(
                hook,
                &mut packet,
                Verdict::Pass(Reason::NotConfigured),
                &NextHop::ROUTED,
            ));
        };
        if matches!(hook, Hook::FromWire) && onward::take(packet.skb, &mut scratch.next_hop) {
            report::count(hook, Reason::ToPeer, bytes);
            return Err(report::answer_tc(
                hook,
                &mut packet,
                Verdict::Wire(Reason::ToPeer),
                &scratch.next_hop,
            ));
        }
        packet.set_unwrapped(false);
        packet.pull();
        let tables = KernelTables::new(packet.skb.cast());
        Ok(Self {
            packet,
            tables,
            config,
            scratch,
            hook,
            bytes,
        })
    }

    /// Counts the verdict and carries it out; gives the program's return value.
    #[inline(always)]
    pub fn end(mut self, verdict: Verdict) -> i32 {
        report::count(self.hook, verdict.reason(), self.bytes);
        #[cfg(feature = "debug-log")]
        report::log(
            &TcContext::new(self.packet.skb),
            self.hook,
            verdict.reason(),
            self.bytes,
        );
        report::answer_tc(self.hook, &mut self.packet, verdict, &self.scratch.next_hop)
    }
}
