//! A frame as the packet logic sees it: views to read, stores to write, and room to grow. A view borrows the packet and
//! every change takes it mutably, so no view outlives a change; the kernel's verifier asks for the same.

use netpath_common::{abi::held::FRAME, reason::Reason};

use crate::csum;

/// The length of an Ethernet header.
pub const ETHERNET: usize = 14;
/// What a tunnel adds to a frame behind the outer IP header: UDP 8, VXLAN 8, inner Ethernet 14 (RFC 7348, section 5).
pub const VXLAN: usize = 30;
/// [`Packet::gso_size`] of a frame whose segments are each as long as the sender made it: SCTP's (the kernel's constant of that
/// name, 6.18).
pub const GSO_BY_FRAGS: usize = 0xffff;

/// What a change of bytes is to a transport checksum. Offload hardware finishes sums that are only begun, so the two kinds
/// are not the same: a sum that is only begun covers the pseudo header and not yet the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Covered {
    /// The pseudo header: addresses (RFC 9293, section 3.1; RFC 768).
    PseudoHeader,
    /// The segment itself: ports, identifiers, payload.
    Segment,
}

/// A tunnel that the kernel's vxlan device ended. Its addresses are of IPv6, or of IPv4 and then IPv4-mapped (RFC 4291,
/// section 2.5.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The outer source address.
    pub sender: [u8; 16],
    /// The outer destination address.
    pub end: [u8; 16],
    /// The network identifier.
    pub vni: u32,
}

/// An Ethernet frame. Offsets count bytes from its first.
#[expect(
    clippy::len_without_is_empty,
    reason = "no frame is empty: it has at least an Ethernet header"
)]
pub trait Packet {
    /// The whole frame's length in bytes, also of what a program cannot see.
    fn len(&self) -> usize;

    /// The payload bytes of each segment if the frame is yet to be cut into segments (`gso_size`), or [`GSO_BY_FRAGS`]; else 0.
    fn gso_size(&self) -> usize;

    /// The device that the packet came in through, or leaves through.
    fn ifindex(&self) -> u32;

    /// The VLAN that the frame is of, by a tag that the kernel or the card has taken off (IEEE 802.1Q, section 9.6); 0 for none, as
    /// with a tag that only says how urgent the frame is.
    fn vlan(&self) -> u16;

    /// The tunnel of a frame that the kernel's vxlan device unpacked. `None` for all others.
    fn tunnel(&self) -> Option<Tunnel>;

    /// `N` bytes at an offset; `None` if the frame ends before. Offsets must be bounded where they are computed: the
    /// verifier follows them.
    fn view<const N: usize>(&self, offset: usize) -> Option<&[u8; N]>;

    /// Writes bytes at an offset, without touching any checksum.
    ///
    /// # Errors
    /// [`Reason::Malformed`] if the frame ends before.
    fn store<const N: usize>(&mut self, offset: usize, bytes: &[u8; N]) -> Result<(), Reason>;

    /// Adapts the transport checksum at an offset to a change of what it covers. `difference` is the one's complement sum
    /// of the new 16-bit words less that of the old, words taken in native byte order, not folded (RFC 1624, equation 3). With `optional`, as for UDP,
    /// a sum of zero is none and stays so, and one that becomes zero is written as 0xffff (RFC 768).
    ///
    /// By plain arithmetic, where no hardware has a part in it.
    ///
    /// # Errors
    /// [`Reason::RewriteFailed`] if the kernel refuses.
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

    /// Tells that bytes have changed, by this much in a one's complement sum, and no checksum of the packet's own makes up for
    /// it: what the hardware summed up over all of them is no longer right. Nothing, where no hardware did.
    #[inline(always)]
    fn note_change(&mut self, _difference: u32) {}

    /// Makes room for a tunnel's headers, which are `len` bytes from the outer IP header to the inner Ethernet header's end,
    /// behind the frame's Ethernet header: that becomes the outer one. `outer` and `inner` are the EtherTypes of both packets.
    /// What the headers say is stored afterwards. Segmentation offload goes on working.
    ///
    /// # Errors
    /// [`Reason::RewriteFailed`] if the kernel refuses.
    fn encapsulate(&mut self, len: usize, outer: u16, inner: u16) -> Result<(), Reason>;

    /// Takes these `len` bytes off again; the outer Ethernet header stays before the inner IP packet, and says now that it
    /// carries `inner`.
    ///
    /// # Errors
    /// [`Reason::RewriteFailed`] if the kernel refuses.
    fn decapsulate(&mut self, len: usize, inner: u16) -> Result<(), Reason>;

    /// Cuts the frame, or lengthens it with zeros, to this many bytes. A frame yet to be segmented ceases to be one, and
    /// no checksum is left to be finished: only for frames that are written anew, as replies are.
    ///
    /// # Errors
    /// [`Reason::RewriteFailed`] if the kernel refuses.
    fn resize(&mut self, len: usize) -> Result<(), Reason>;

    /// Whether the hook can take frames in anew.
    fn can_come_anew(&self) -> bool;

    /// Has the frame, as it now is, come in once more through its device, behind all that is on its way in there; whether it
    /// does. The frame at hand stays.
    fn come_anew(&mut self) -> bool;

    /// Copies the whole frame; its length, or `None` if it is longer than that.
    fn copy_to(&self, frame: &mut [u8; FRAME]) -> Option<usize>;

    /// Makes the packet one of the first `len` bytes of `frame`, byte for byte; whether it is. No checksum is left to be
    /// finished.
    fn become_frame(&mut self, frame: &[u8; FRAME], len: usize) -> bool;
}
