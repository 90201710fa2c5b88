//! tc: the packet logic over a socket buffer, by direct packet access. Helpers are called only where a buffer's offload
//! state must follow: checksums that are only begun, and segmentation.

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_CSUM_LEVEL_RESET, BPF_F_ADJ_ROOM_DECAP_L3_IPV4, BPF_F_ADJ_ROOM_DECAP_L3_IPV6,
        BPF_F_ADJ_ROOM_ENCAP_L2_ETH, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
        BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_ADJ_ROOM_NO_CSUM_RESET, BPF_F_INGRESS,
        BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM, BPF_F_TUNINFO_IPV6,
        bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, bpf_tunnel_key,
    },
    bpf_f_adj_room_encap_l2,
    helpers::{
        bpf_clone_redirect, bpf_csum_level, bpf_csum_update, bpf_l4_csum_replace, bpf_skb_adjust_room,
        bpf_skb_change_proto, bpf_skb_change_tail, bpf_skb_get_tunnel_key, bpf_skb_load_bytes, bpf_skb_pull_data,
        bpf_skb_store_bytes,
    },
};
use core::{arch::asm, mem::offset_of};
use netpath_common::{abi::held::FRAME, reason::Reason};
use netpath_ebpf::{
    csum, encap, ethernet,
    family::from_words,
    flow,
    packet::{Covered, ETHERNET, GSO_BY_FRAGS, Packet, Tunnel},
    v4::V4,
    v6::{self, V6},
};

use super::{direct::Window, rewritten};

/// What the logic may look at: VXLAN's headers, and within them an ICMP error that quotes the longest IPv4 header and the
/// ports behind it, or an IPv6 header, with as much room for further headers in between.
const DEEPEST: usize = encap::inner::<V6>() + 40 + 8 + 40 + 8 + 32;

/// What of a tag's control information is the VLAN's identifier (IEEE 802.1Q, section 9.6).
const VLAN_ID: u16 = 0x0fff;

/// `skb->tc_index` of a packet that a program of ours sent out of the uplink: `to_wire` has nothing to add to it.
const SENT: u32 = 0x4e50;

/// What the kernel answers where a buffer holds a tunnel already (EALREADY).
const ALREADY: i64 = 114;

/// A length, if it is that of an IP header at least, and no more than `MOST`. The verifier must see both bounds of the very
/// register that a helper gets, and the compiler would compare another.
#[inline(always)]
fn within<const MOST: usize>(mut len: usize) -> Option<usize> {
    if len < 20 {
        return None;
    }
    // SAFETY: an instruction that changes nothing.
    unsafe { asm!("{len} = {len}", len = inout(reg) len, options(pure, nomem, nostack, preserves_flags)) };
    (len <= MOST).then_some(len)
}

/// `struct bpf_tunnel_key` (include/uapi/linux/bpf.h) in words, as far as it is asked for. Addresses of IPv4 are the first word of
/// their places, in host order; those of IPv6 are in network order.
#[derive(Default)]
#[repr(C)]
struct TunnelKey {
    id: u32,
    remote: [u32; 4],
    /// TOS, TTL, extensions, label.
    rest: [u32; 2],
    local: [u32; 4],
}

const _: () = assert!(size_of::<TunnelKey>() == size_of::<bpf_tunnel_key>());

/// A socket buffer, as a tc program has it.
pub struct SkbPacket {
    pub(super) skb: *mut __sk_buff,
    /// Whether it may have come with a sum of a device's (`CHECKSUM_COMPLETE` of linux/skbuff.h). What a stack sends has none: to
    /// forward a packet is to forget its sum (`skb_forward_csum`).
    pub(super) summed_up: bool,
}

impl SkbPacket {
    #[inline(always)]
    fn window(&self) -> Window {
        // SAFETY: the kernel hands the program a valid context.
        unsafe { Window::of::<{ offset_of!(__sk_buff, data) }, { offset_of!(__sk_buff, data_end) }, _>(self.skb) }
    }

    /// Makes readable and writable what the logic may look at. Senders and receive offload leave all headers of TCP, and
    /// nothing more, in a buffer's linear part: such a buffer is left as it is, since pulling costs more than the steps. So is
    /// SCTP's that is yet to be segmented: its headers are there, and segmentation wants each segment where the sender put it.
    #[inline(always)]
    pub(super) fn pull(&mut self) {
        let reach = self.len().min(DEEPEST);
        if self.window().len() < reach && !self.has_tcp_headers() && self.gso_size() != GSO_BY_FRAGS {
            // SAFETY: the context is valid, and no view is alive. If it fails, the logic finds the packet too short.
            unsafe { bpf_skb_pull_data(self.skb, reach as u32) };
        }
    }

    /// Whether the linear part holds the headers of a TCP segment, or of one within VXLAN.
    #[inline(always)]
    fn has_tcp_headers(&self) -> bool {
        const OUTER: usize = ETHERNET;
        let is = |at: usize, ethertype: u16| {
            self.view::<2>(at - 2)
                .is_some_and(|bytes| *bytes == ethertype.to_be_bytes())
        };
        let tcp4 = |at: usize| {
            self.view::<{ 20 + 20 }>(at)
                .is_some_and(|ip| ip[0] == 0x45 && ip[9] == flow::TCP)
        };
        let tcp6 = |at: usize| self.view::<{ 40 + 20 }>(at).is_some_and(|ip| ip[6] == flow::TCP);
        let tcp = |at: usize| is(at, ethernet::IPV4) && tcp4(at) || is(at, ethernet::IPV6) && tcp6(at);
        let udp4 = || {
            self.view::<20>(OUTER)
                .is_some_and(|ip| ip[0] == 0x45 && ip[9] == flow::UDP)
        };
        let udp6 = || self.view::<40>(OUTER).is_some_and(|ip| ip[6] == flow::UDP);
        tcp(OUTER)
            || is(OUTER, ethernet::IPV4) && udp4() && tcp(encap::inner::<V4>())
            || is(OUTER, ethernet::IPV6) && udp6() && tcp(encap::inner::<V6>())
    }

    /// Whether a program of ours sent this packet already.
    #[inline(always)]
    pub(super) fn sent(&self) -> bool {
        // SAFETY: the kernel hands the program a valid context.
        unsafe { (*self.skb).tc_index == SENT }
    }

    /// Whether this program took the headers of a tunnel off. Kept with the buffer and not in the program, where the verifier
    /// would follow both cases to the end.
    #[inline(always)]
    fn unwrapped(&self) -> bool {
        // SAFETY: the kernel hands the program a valid context.
        unsafe { (*self.skb).cb[0] != 0 }
    }

    #[inline(always)]
    pub(super) fn set_unwrapped(&mut self, unwrapped: bool) {
        // SAFETY: as above; tc programs may write the field.
        unsafe { (*self.skb).cb[0] = u32::from(unwrapped) };
    }

    /// Asks for the tunnel that the kernel's vxlan device ended, of the family that the flags name; whether it was of that.
    #[inline(always)]
    fn tunnel_key(&self, key: &mut TunnelKey, flags: u64) -> bool {
        // SAFETY: the context is valid, and `key` has the size that the kernel is told.
        let failed =
            unsafe { bpf_skb_get_tunnel_key(self.skb, (&raw mut *key).cast(), size_of::<TunnelKey>() as u32, flags) };
        failed == 0
    }

    /// Makes room behind the Ethernet header, or takes it away, and leaves all that the buffer says of the packet. Returns
    /// what the kernel does.
    #[inline(always)]
    fn grow(&mut self, by: i32) -> i64 {
        const FLAGS: u64 = BPF_F_ADJ_ROOM_FIXED_GSO as u64 | BPF_F_ADJ_ROOM_NO_CSUM_RESET as u64;
        // SAFETY: the context is valid, and no view is alive.
        unsafe { bpf_skb_adjust_room(self.skb, by, BPF_ADJ_ROOM_MAC, FLAGS) }
    }

    /// Makes room for a tunnel's headers before a whole IPv6 packet, and has the kernel take it for IPv4 then. Only the
    /// translation of one into the other changes that without a tunnel's marks; it takes the beginning of the header away,
    /// which is put back. Returns what the kernel does.
    #[inline(always)]
    fn grow_to_ipv4(&mut self) -> i64 {
        const TAKEN: usize = 40 - 20;
        let Some(taken) = self.view::<TAKEN>(ETHERNET).copied() else {
            return -ALREADY;
        };
        // SAFETY: the context is valid, and no view is alive.
        let failed = unsafe { bpf_skb_change_proto(self.skb, ethernet::IPV4.to_be(), 0) };
        if failed != 0 {
            return failed;
        }
        let failed = self.grow((encap::room::<V4>() + TAKEN) as i32);
        if failed != 0 || self.store(encap::inner::<V4>(), &taken).is_err() {
            return -ALREADY;
        }
        0
    }

    /// Gives the packet another length, by room behind the Ethernet header: what its bytes are does not matter. What the hardware
    /// summed up stays right for an even number of bytes alone; else the kernel has to sum up itself.
    #[inline(always)]
    fn stretch(&mut self, len: usize) -> bool {
        /// The most that the kernel moves at once (6.18).
        const ROOM: i32 = 0xfff;
        const STEPS: usize = FRAME.div_ceil(ROOM as usize);
        for _ in 0..STEPS {
            let by = (len as i32 - self.len() as i32).clamp(-ROOM, ROOM);
            if by == 0 {
                break;
            }
            if self.grow(by) != 0 {
                return false;
            }
        }
        self.len() == len
    }

    /// Marks the packet as sent by a program of ours, or not.
    #[inline(always)]
    pub(super) fn set_sent(&mut self, sent: bool) {
        // SAFETY: as above; tc programs may write the field.
        unsafe { (*self.skb).tc_index = if sent { SENT } else { 0 } };
    }
}

impl Packet for SkbPacket {
    #[inline(always)]
    fn len(&self) -> usize {
        // SAFETY: the kernel hands the program a valid context.
        unsafe { (*self.skb).len as usize }
    }

    #[inline(always)]
    fn gso_size(&self) -> usize {
        // SAFETY: as above.
        unsafe { (*self.skb).gso_size as usize }
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.skb).ifindex }
    }

    #[inline(always)]
    fn vlan(&self) -> u16 {
        // SAFETY: as above. Without a tag the kernel shows 0.
        unsafe { (*self.skb).vlan_tci as u16 & VLAN_ID }
    }

    #[inline(always)]
    fn tunnel(&self) -> Option<Tunnel> {
        // The kernel wants the family to be named.
        let mut key = TunnelKey::default();
        let of_ipv4 = self.tunnel_key(&mut key, 0);
        if !of_ipv4 && !self.tunnel_key(&mut key, BPF_F_TUNINFO_IPV6.into()) {
            return None;
        }
        // Addresses of IPv4 are in host order.
        let address = |words: [u32; 4]| match of_ipv4 {
            true => v6::mapping(words[0].to_be_bytes()),
            false => from_words(words),
        };
        Some(Tunnel {
            sender: address(key.remote),
            end: address(key.local),
            vni: key.id,
        })
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
        covered: Covered,
        optional: bool,
    ) -> Result<(), Reason> {
        // The kernel would write a sum of 0xffff back as 0, though nothing changed.
        if difference == 0 {
            return Ok(());
        }
        let pseudo = if covered == Covered::PseudoHeader {
            BPF_F_PSEUDO_HDR
        } else {
            0
        };
        let mangled = if optional { BPF_F_MARK_MANGLED_0 } else { 0 };
        // No size in the flags: `to` is the difference itself, a sum of words in native order.
        // SAFETY: the context is valid, and no view is alive.
        let failed = unsafe {
            bpf_l4_csum_replace(
                self.skb,
                offset as u32,
                0,
                u64::from(csum::fold(difference)),
                u64::from(pseudo | mangled),
            )
        };
        rewritten(failed)
    }

    #[inline(always)]
    fn note_change(&mut self, difference: u32) {
        if self.summed_up {
            // SAFETY: the context is valid. The helper refuses where the hardware gave no sum, and there is nothing to correct then.
            unsafe { bpf_csum_update(self.skb, csum::fold(difference).into()) };
        }
    }

    #[inline(always)]
    fn encapsulate(&mut self, len: usize, outer: u16, inner: u16) -> Result<(), Reason> {
        // FIXED_GSO: segments stay as large as the sender made them; the pods' MTU leaves room for the headers. The other
        // flags tell segmentation where the inner headers begin.
        const FLAGS: u64 = BPF_F_ADJ_ROOM_FIXED_GSO as u64
            | BPF_F_ADJ_ROOM_ENCAP_L4_UDP as u64
            | BPF_F_ADJ_ROOM_ENCAP_L2_ETH as u64
            | BPF_F_ADJ_ROOM_NO_CSUM_RESET as u64;
        let family = if outer == ethernet::IPV6 {
            BPF_F_ADJ_ROOM_ENCAP_L3_IPV6
        } else {
            BPF_F_ADJ_ROOM_ENCAP_L3_IPV4
        };
        let flags = FLAGS | u64::from(family) | bpf_f_adj_room_encap_l2(ETHERNET as u64);
        // SAFETY: the context is valid, and no view is alive.
        let mut failed = unsafe { bpf_skb_adjust_room(self.skb, len as i32, BPF_ADJ_ROOM_MAC, flags) };
        // The buffer says that it holds a tunnel already. If that is the one we took off, all it says of inner headers is
        // right again once they are back where they were. If it is a pod's own, that is so for whole packets alone: no
        // buffer can tell segmentation of two tunnels.
        if failed == -ALREADY && (self.gso_size() == 0 || inner == outer && self.unwrapped()) {
            failed = if inner == outer {
                self.grow(len as i32)
            } else {
                self.grow_to_ipv4()
            };
        }
        rewritten(failed)
    }

    #[inline(always)]
    fn decapsulate(&mut self, len: usize, inner: u16) -> Result<(), Reason> {
        const FLAGS: u64 = BPF_F_ADJ_ROOM_FIXED_GSO as u64 | BPF_F_ADJ_ROOM_NO_CSUM_RESET as u64;
        // The kernel changes what it takes the packet for, but not the Ethernet header.
        let family = if inner == ethernet::IPV6 {
            BPF_F_ADJ_ROOM_DECAP_L3_IPV6
        } else {
            BPF_F_ADJ_ROOM_DECAP_L3_IPV4
        };
        let flags = FLAGS | u64::from(family);
        // SAFETY: the context is valid, and no view is alive.
        let failed = unsafe { bpf_skb_adjust_room(self.skb, -(len as i32), BPF_ADJ_ROOM_MAC, flags) };
        self.set_unwrapped(true);
        if failed != 0 {
            return Err(Reason::RewriteFailed);
        }
        self.store(ETHERNET - 2, &inner.to_be_bytes())
            .map_err(|_| Reason::RewriteFailed)
    }

    #[inline(always)]
    fn resize(&mut self, len: usize) -> Result<(), Reason> {
        // SAFETY: the context is valid, and no view is alive.
        let failed = unsafe { bpf_skb_change_tail(self.skb, len as u32, 0) };
        rewritten(failed)
    }

    #[inline(always)]
    fn can_come_anew(&self) -> bool {
        true
    }

    /// The clone waits in this processor's backlog, behind those that came before. On its way there the kernel looks whom the
    /// frame is for again (`eth_type_trans`), drops what a tunnel's device knew of it, and keeps what the hardware summed up.
    /// A backlog that is full takes none, which is not told apart from one that does.
    #[inline(always)]
    fn come_anew(&mut self) -> bool {
        // SAFETY: the context is valid, and no view is alive.
        unsafe { bpf_clone_redirect(self.skb, (*self.skb).ifindex, BPF_F_INGRESS.into()) >= 0 }
    }

    #[inline(always)]
    fn copy_to(&self, frame: &mut [u8; FRAME]) -> Option<usize> {
        let len = within::<FRAME>(self.len())?;
        // SAFETY: the context is valid, and there is room for so many bytes.
        let failed = unsafe { bpf_skb_load_bytes(self.skb.cast(), 0, frame.as_mut_ptr().cast(), len as u32) };
        (failed == 0).then_some(len)
    }

    /// Clones share the bytes until one is written to: the kernel then copies them. What the hardware summed up of the old bytes is
    /// dropped with another length, and else corrected by the difference to the new ones. It covers no Ethernet header, so that
    /// this is written apart. A sum that is only begun would be finished in the new bytes: no stack begins one for a fragment.
    #[inline(always)]
    fn become_frame(&mut self, frame: &[u8; FRAME], len: usize) -> bool {
        const REST: usize = FRAME - ETHERNET;
        let Some(rest) = within::<REST>(len.wrapping_sub(ETHERNET)) else {
            return false;
        };
        // The kernel neither lengthens nor cuts at its end what was in a tunnel, as a buffer says for good, and cuts off no headers
        // that only the frame before has.
        // SAFETY: the context is valid, and no view is alive.
        let failed = unsafe { bpf_skb_change_tail(self.skb, (rest + ETHERNET) as u32, 0) };
        if failed != 0 && !self.stretch(rest + ETHERNET) {
            return false;
        }
        // SAFETY: the context is valid, no view is alive, and the frame has so many bytes.
        unsafe {
            let bytes = frame.as_ptr();
            // That the hardware found the first right says nothing of the others.
            bpf_csum_level(self.skb, BPF_CSUM_LEVEL_RESET.into()) >= 0
                && bpf_skb_store_bytes(self.skb, 0, bytes.cast(), ETHERNET as u32, 0) == 0
                && bpf_skb_store_bytes(
                    self.skb,
                    ETHERNET as u32,
                    bytes.add(ETHERNET).cast(),
                    rest as u32,
                    BPF_F_RECOMPUTE_CSUM.into(),
                ) == 0
        }
    }
}
