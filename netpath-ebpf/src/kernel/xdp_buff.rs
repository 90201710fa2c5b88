//! The packet logic over a frame that has no socket buffer yet. Nothing is offloaded there, so checksums are plain arithmetic and
//! headers are moved by hand.

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
};
use core::mem::offset_of;
use netpath_common::{abi::held::FRAME, reason::Reason};
use netpath_ebpf::packet::{ETHERNET, Packet, Tunnel};

use super::{direct::Window, rewritten};

/// A frame, as an XDP program has it.
pub struct XdpPacket {
    pub(super) ctx: *mut xdp_md,
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
        rewritten(failed)
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
        rewritten(failed)
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
