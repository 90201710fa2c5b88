//! XDP: the packet logic over a frame that has no socket buffer yet. Nothing is offloaded here, so checksums are plain
//! arithmetic and headers are moved by hand.

use aya_ebpf::{
    bindings::{BPF_FIB_LOOKUP_OUTPUT, bpf_fib_lookup, xdp_action, xdp_md},
    helpers::{bpf_fib_lookup as fib_lookup, bpf_redirect, bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    programs::XdpContext,
};
use core::mem::offset_of;
use netpath_common::{
    abi::{config::Config, held::FRAME},
    hook::Hook,
    reason::Reason,
};
use netpath_ebpf::{
    csum, ethernet,
    family::words,
    packet::{Covered, ETHERNET, Packet, Tunnel},
    scratch::Scratch,
    verdict::{Neighbour, NextHop, Verdict},
};

use super::{direct::Window, maps, onward, report, tables::KernelTables};

/// A frame, as an XDP program has it.
pub struct XdpPacket {
    ctx: *mut xdp_md,
}

impl XdpPacket {
    #[inline(always)]
    fn window(&self) -> Window {
        // SAFETY: the kernel hands the program a valid context.
        unsafe { Window::of::<{ offset_of!(xdp_md, data) }, { offset_of!(xdp_md, data_end) }, _>(self.ctx) }
    }

    /// Moves the frame's beginning.
    #[inline(always)]
    fn move_head(&mut self, by: i32) -> Result<(), Reason> {
        // SAFETY: the context is valid, and no view is alive.
        let failed = unsafe { bpf_xdp_adjust_head(self.ctx, by) };
        if failed == 0 {
            Ok(())
        } else {
            Err(Reason::RewriteFailed)
        }
    }
}

impl Packet for XdpPacket {
    #[inline(always)]
    fn len(&self) -> usize {
        self.window().len()
    }

    #[inline(always)]
    fn gso_size(&self) -> usize {
        0
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the kernel hands the program a valid context.
        unsafe { (*self.ctx).ingress_ifindex }
    }

    #[inline(always)]
    fn vlan(&self) -> u16 {
        // A tag is in the frame, which is no IP then.
        0
    }

    #[inline(always)]
    fn tunnel(&self) -> Option<Tunnel> {
        None
    }

    #[inline(always)]
    fn view<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        // SAFETY: the view borrows the packet, and every change takes it mutably.
        unsafe { self.window().view(offset) }
    }

    #[inline(always)]
    fn store<const N: usize>(&mut self, offset: usize, bytes: &[u8; N]) -> Result<(), Reason> {
        // SAFETY: the packet is borrowed mutably, so no view is alive.
        unsafe { self.window().store(offset, bytes) }
    }

    #[inline(always)]
    fn adapt_checksum(
        &mut self,
        offset: usize,
        difference: u32,
        _covered: Covered,
        optional: bool,
    ) -> Result<(), Reason> {
        let field = *self.view::<2>(offset).ok_or(Reason::RewriteFailed)?;
        if optional && field == [0, 0] {
            return Ok(());
        }
        let adapted = csum::adapt(field, difference);
        let adapted = if optional && adapted == [0, 0] {
            [0xff, 0xff]
        } else {
            adapted
        };
        self.store(offset, &adapted)
    }

    /// Nothing sums up a frame before it has a buffer.
    #[inline(always)]
    fn note_change(&mut self, _difference: u32) {}

    #[inline(always)]
    fn encapsulate(&mut self, len: usize, _outer: u16, _inner: u16) -> Result<(), Reason> {
        self.move_head(-(len as i32))
    }

    #[inline(always)]
    fn decapsulate(&mut self, len: usize, inner: u16) -> Result<(), Reason> {
        let mut outer = *self.view::<ETHERNET>(0).ok_or(Reason::RewriteFailed)?;
        [outer[12], outer[13]] = inner.to_be_bytes();
        self.move_head(len as i32)?;
        self.store(0, &outer).map_err(|_| Reason::RewriteFailed)
    }

    #[inline(always)]
    fn resize(&mut self, len: usize) -> Result<(), Reason> {
        let by = len as i32 - self.len() as i32;
        // SAFETY: the context is valid, and no view is alive. The kernel fills what is new with zeros.
        let failed = unsafe { bpf_xdp_adjust_tail(self.ctx, by) };
        if failed == 0 {
            Ok(())
        } else {
            Err(Reason::RewriteFailed)
        }
    }

    /// XDP makes no frame two: what would be held goes on to tc, whose program is on every device that this one is on.
    #[inline(always)]
    fn can_come_anew(&self) -> bool {
        false
    }

    #[inline(always)]
    fn come_anew(&mut self) -> bool {
        false
    }

    #[inline(always)]
    fn copy_to(&self, _frame: &mut [u8; FRAME]) -> Option<usize> {
        None
    }

    #[inline(always)]
    fn become_frame(&mut self, _frame: &[u8; FRAME], _len: usize) -> bool {
        false
    }
}

/// What the steps of a hook work on.
pub struct Work {
    /// The packet.
    pub packet: XdpPacket,
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
    pub fn begin(hook: Hook, ctx: &XdpContext) -> Result<Self, u32> {
        let packet = XdpPacket { ctx: ctx.ctx };
        let bytes = packet.len();
        let (Some(config), Some(scratch)) = (super::tables::config(), maps::scratch()) else {
            report::count(hook, Reason::NotConfigured, bytes);
            return Err(xdp_action::XDP_PASS);
        };
        let tables = KernelTables::new(packet.ctx.cast());
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
    pub fn end(mut self, verdict: Verdict) -> u32 {
        report::count(self.hook, verdict.reason(), self.bytes);
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
