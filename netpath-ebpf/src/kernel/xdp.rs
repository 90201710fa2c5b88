//! XDP: what a program does before and after a hook's steps.

use aya_ebpf::{
    bindings::{BPF_FIB_LOOKUP_OUTPUT, bpf_fib_lookup, xdp_action},
    helpers::{bpf_fib_lookup as fib_lookup, bpf_redirect},
    programs::XdpContext,
};
use netpath_common::hook::Hook;
use netpath_ebpf::{
    ethernet,
    family::words,
    packet::{ETHERNET, Packet},
    verdict::{Neighbour, NextHop, Verdict},
};

#[cfg(feature = "debug-log")]
use super::report;
use super::{onward, work, xdp_buff::XdpPacket};

/// What the steps of a hook work on.
pub type Work = work::Work<XdpPacket>;

impl Work {
    /// Takes a packet up.
    ///
    /// # Errors
    /// The program's return value, if there is nothing to do.
    #[inline(always)]
    pub fn begin(hook: Hook, ctx: &XdpContext) -> Result<Self, u32> {
        Self::take(hook, XdpPacket { ctx: ctx.ctx }, ctx.ctx.cast()).map_err(|_| xdp_action::XDP_PASS)
    }

    /// Counts the verdict and carries it out; gives the program's return value.
    #[inline(always)]
    pub fn end(mut self, verdict: Verdict) -> u32 {
        self.count(verdict);
        #[cfg(feature = "debug-log")]
        report::log(
            &XdpContext::new(self.packet.ctx),
            self.hook,
            verdict.reason(),
            self.bytes,
        );
        match verdict {
            // Into pods the programs of tc deliver: the frame goes on to them as it now is.
            Verdict::Pass(_) | Verdict::Endpoint { .. } | Verdict::Kept(_) => xdp_action::XDP_PASS,
            Verdict::Drop(_) => xdp_action::XDP_DROP,
            Verdict::Bounce(_) => xdp_action::XDP_TX,
            Verdict::Wire(_) => send(&mut self.packet, &self.scratch.next_hop, self.config.uplink_ifindex),
        }
    }
}

/// Out of the uplink, to the MAC address that the kernel's neighbour table has. Where it has none, tc sends the frame on.
#[inline(always)]
fn send(packet: &mut XdpPacket, next_hop: &NextHop, uplink: u32) -> u32 {
    // SAFETY: all fields are integers, or unions of integers.
    let mut fib: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    fib.ifindex = uplink;
    let routed = next_hop.family == Neighbour::Routed;
    let ipv6 = match packet.view::<2>(ETHERNET - 2) {
        Some(ethertype) if routed => *ethertype == ethernet::IPV6.to_be_bytes(),
        _ => next_hop.family == Neighbour::V6,
    };
    if ipv6 {
        let mut address = next_hop.address;
        if routed {
            let Some(&destination) = packet.view::<16>(ETHERNET + 24) else {
                return xdp_action::XDP_DROP;
            };
            address = destination;
        }
        fib.family = Neighbour::V6 as u8;
        fib.__bindgen_anon_4.ipv6_dst = words(&address);
    } else {
        let [a, b, c, d, ..] = next_hop.address;
        let mut address = [a, b, c, d];
        if routed {
            let Some(&destination) = packet.view::<4>(ETHERNET + 16) else {
                return xdp_action::XDP_DROP;
            };
            address = destination;
        }
        fib.family = Neighbour::V4 as u8;
        fib.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(address);
    }
    // SAFETY: the context is the program's own, and the kernel is told the parameters' size.
    let found = unsafe {
        fib_lookup(
            packet.ctx.cast(),
            &raw mut fib,
            size_of_val(&fib) as i32,
            BPF_FIB_LOOKUP_OUTPUT,
        )
    };
    if found != 0 {
        onward::leave(packet.ctx, next_hop);
        return xdp_action::XDP_PASS;
    }
    let [d0, d1, d2, d3, d4, d5] = fib.dmac;
    let [s0, s1, s2, s3, s4, s5] = fib.smac;
    if packet
        .store(0, &[d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5])
        .is_err()
    {
        return xdp_action::XDP_DROP;
    }
    if fib.ifindex == packet.ifindex() {
        xdp_action::XDP_TX
    } else {
        // SAFETY: the helper only notes where the frame shall go.
        unsafe { bpf_redirect(fib.ifindex, 0) as u32 }
    }
}
