//! tc: what a program does before and after a hook's steps.

use aya_ebpf::programs::TcContext;
use netpath_common::{hook::Hook, reason::Reason};
use netpath_ebpf::verdict::{NextHop, Verdict};

use super::{onward, report, skb::SkbPacket, work};

/// What the steps of a hook work on.
pub type Work = work::Work<SkbPacket>;

impl Work {
    /// Takes a packet up.
    ///
    /// # Errors
    /// The program's return value, if there is nothing to do.
    #[inline(always)]
    pub fn begin(hook: Hook, ctx: &TcContext) -> Result<Self, i32> {
        let skb = ctx.skb.skb;
        let mut packet = SkbPacket {
            skb,
            summed_up: matches!(hook, Hook::FromWire | Hook::FromOverlay),
        };
        if packet.sent() {
            if matches!(hook, Hook::ToWire) {
                return Err(report::NEXT);
            }
            // Veth carries the mark to its other end: from another node, or from a pod that would like to pass for one.
            packet.set_sent(false);
        }
        let mut work = Self::take(hook, packet, skb.cast()).map_err(|mut packet| {
            let verdict = Verdict::Pass(Reason::NotConfigured);
            report::answer_tc(hook, &mut packet, verdict, &NextHop::ROUTED)
        })?;
        if matches!(hook, Hook::FromWire) && onward::take(skb, &mut work.scratch.next_hop) {
            return Err(work.end(Verdict::Wire(Reason::ToPeer)));
        }
        work.packet.set_unwrapped(false);
        work.packet.pull();
        Ok(work)
    }

    /// Counts the verdict and carries it out; gives the program's return value.
    #[inline(always)]
    pub fn end(mut self, verdict: Verdict) -> i32 {
        self.count(verdict);
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
