//! The end of a packet's way: every verdict is counted under its hook and reason, and becomes what tc or XDP asks for.

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_INGRESS, bpf_redir_neigh,
        tcx_action_base::{TCX_DROP, TCX_NEXT},
    },
    helpers::{bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_change_type},
};
use core::{arch::asm, mem::offset_of};
use netpath_common::{
    abi::counter,
    hook::{self, Hook},
    reason::Reason,
};
use netpath_ebpf::{
    family::Address,
    packet::Packet,
    verdict::{Neighbour, NextHop, Verdict},
};

use super::{maps::COUNTER, skb::SkbPacket, tables::config};

/// Go on: programs of others on the same hook run, then the kernel goes its way. `TC_ACT_OK` would keep theirs from running.
pub const NEXT: i32 = TCX_NEXT;

const DROP: i32 = TCX_DROP;
/// `PACKET_HOST` and `PACKET_OTHERHOST` of linux/if_packet.h.
const FOR_US: u32 = 0;
const FOR_OTHERS: u32 = 3;

/// What a program tells of its verdict in `skb->cb`, in this order: the kind as numbered here, the device, the reason and
/// the next hop (its words' xor, as it hashes). On a packet's real way the kernel uses none of it; a test run hands it back, and so the
/// tests can compare what the return value alone does not say.
#[derive(Clone, Copy)]
enum Kind {
    Pass = 1,
    Drop = 2,
    Endpoint = 3,
    Wire = 4,
    Bounce = 5,
    Kept = 6,
}

#[inline(always)]
fn tell(skb: *mut __sk_buff, kind: Kind, ifindex: u32, reason: Reason, next_hop: u32) {
    // SAFETY: the kernel hands the program a valid context, and tc programs may write the control buffer.
    unsafe {
        // Volatile: the kernel takes accesses to whole words of it alone, and the compiler would make one of two.
        let cb = (&raw mut (*skb).cb).cast::<u32>();
        for (place, word) in [ifindex, kind as u32, reason as u32, next_hop].into_iter().enumerate() {
            cb.add(place).write_volatile(word);
        }
    }
}

/// Counts a packet that came in with so many bytes.
#[inline(always)]
pub fn count(hook: Hook, reason: Reason, bytes: usize) {
    if let Some(counter) = COUNTER.get_ptr_mut(counter::index(hook, reason)) {
        // SAFETY: the entry is this processor's own, and a tc or XDP program is not interrupted by another on it.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += bytes as u64;
        }
    }
}

/// Counts a socket's call.
#[inline(always)]
pub fn count_call(hook: Hook, reason: Reason) {
    if let Some(counter) = COUNTER.get_ptr_mut(counter::index(hook, reason)) {
        // In one instruction, since these programs may interrupt each other on a processor; the target's atomic types cannot.
        // SAFETY: the entry is there, aligned, and nobody else holds it.
        unsafe {
            asm!(
                "lock *(u64 *)({at} + 0) += {one}",
                at = in(reg) &raw mut (*counter).packets,
                one = in(reg) 1u64,
                options(nostack, preserves_flags),
            );
        }
    }
}

/// Logs a verdict through aya-log: hook and reason by their numbers, which the agent names, and the bytes that came in.
#[cfg(feature = "debug-log")]
#[inline(never)]
pub fn log<C: aya_ebpf::EbpfContext>(ctx: &C, hook: Hook, reason: Reason, bytes: usize) {
    aya_log_ebpf::info!(ctx, "{} {} {}", hook as u32, reason as u32, bytes as u64);
}

/// Whether the hook is on a way into the node: the kernel redirects differently from there.
const fn is_ingress(hook: Hook) -> bool {
    matches!(hook.kind(), hook::Kind::TcIngress)
}

/// Carries a verdict out, out of the uplink to `next_hop`, and gives the program's return value.
#[inline(always)]
pub fn answer_tc(hook: Hook, packet: &mut SkbPacket, verdict: Verdict, next_hop: &NextHop) -> i32 {
    let skb = packet.skb;
    let reason = verdict.reason();
    match verdict {
        Verdict::Pass(_) => {
            tell(skb, Kind::Pass, 0, reason, 0);
            // The MAC address within a tunnel is not this node's, yet the packet is: without this the stack drops it.
            if is_ingress(hook) && matches!(reason, Reason::ToHost | Reason::ToStack) {
                accept(skb);
            }
            NEXT
        }
        Verdict::Drop(_) => {
            tell(skb, Kind::Drop, 0, reason, 0);
            DROP
        }
        // What is held lies in a map, and what came in anew is a packet of its own.
        Verdict::Kept(_) => {
            tell(skb, Kind::Kept, 0, reason, 0);
            DROP
        }
        Verdict::Endpoint { ifindex } => {
            tell(skb, Kind::Endpoint, ifindex, reason, 0);
            // SAFETY: the helpers only note where the packet shall go.
            unsafe {
                if is_ingress(hook) {
                    accept(skb);
                    bpf_redirect_peer(ifindex, 0) as i32
                } else {
                    bpf_redirect(ifindex, 0) as i32
                }
            }
        }
        Verdict::Wire(_) => {
            let Some(uplink) = config().map(|config| config.uplink_ifindex) else {
                return DROP;
            };
            packet.set_sent(true);
            tell(skb, Kind::Wire, uplink, reason, next_hop.address.word());
            if next_hop.family == Neighbour::Routed {
                // SAFETY: without parameters the kernel's routes give the next hop.
                return unsafe { bpf_redirect_neigh(uplink, core::ptr::null_mut(), 0, 0) as i32 };
            }
            const LEN: usize = size_of::<bpf_redir_neigh>();
            const { assert!(size_of::<NextHop>() == LEN && offset_of!(NextHop, address) == size_of::<u32>()) };
            let neighbour = (&raw const *next_hop).cast_mut().cast();
            // SAFETY: a next hop lies as the helper wants it: the family, then the address. It copies them.
            unsafe { bpf_redirect_neigh(uplink, neighbour, LEN as i32, 0) as i32 }
        }
        Verdict::Bounce(_) => {
            let ifindex = packet.ifindex();
            tell(skb, Kind::Bounce, ifindex, reason, 0);
            let flags = if is_ingress(hook) { 0 } else { u64::from(BPF_F_INGRESS) };
            // SAFETY: the helper only notes where the packet shall go.
            unsafe { bpf_redirect(ifindex, flags) as i32 }
        }
    }
}

/// Makes the stack take a packet that was addressed to another MAC.
#[inline(always)]
fn accept(skb: *mut __sk_buff) {
    // SAFETY: the kernel hands the program a valid context.
    unsafe {
        if (*skb).pkt_type == FOR_OTHERS {
            // It refuses no change between these two.
            bpf_skb_change_type(skb, FOR_US);
        }
    }
}
