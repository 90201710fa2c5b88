//! What XDP hands to tc along with a frame that is ready to leave: whom it is for. XDP sends to neighbours that the kernel knows; tc's
//! helper asks for one, and keeps the frame meanwhile.
//!
//! It lies in the room before the frame that drivers have for such notes (`bpf_xdp_adjust_meta`, kernel 4.15): nobody on the wire
//! can write there.

use aya_ebpf::{
    bindings::{__sk_buff, xdp_md},
    helpers::bpf_xdp_adjust_meta,
};
use netpath_ebpf::{
    family::{from_words, words},
    verdict::{Neighbour, NextHop},
};

/// That the note is one of ours.
const MARK: u32 = u32::from_be_bytes(*b"npgo");

const V4: u32 = Neighbour::V4 as u32;
const V6: u32 = Neighbour::V6 as u32;

#[repr(C)]
struct Note {
    mark: u32,
    family: u32,
    address: [u32; 4],
}

/// Leaves a note with a frame that goes on to tc; nothing where the driver has no room for it.
#[inline(always)]
pub fn leave(ctx: *mut xdp_md, next_hop: &NextHop) {
    const LEN: i32 = size_of::<Note>() as i32;
    // SAFETY: the kernel hands the program a valid context; what is written lies between the note's bounds, which are looked at
    // after it was made.
    unsafe {
        if bpf_xdp_adjust_meta(ctx, -LEN) != 0 {
            return;
        }
        let note = (*ctx).data_meta as usize as *mut Note;
        if note.add(1) as usize <= (*ctx).data as usize {
            (*note).mark = MARK;
            (*note).family = next_hop.family as u32;
            (*note).address = words(&next_hop.address);
        }
    }
}

/// Writes to `next_hop` whom a frame is for that XDP has made ready; whether it has.
#[inline(always)]
pub fn take(skb: *mut __sk_buff, next_hop: &mut NextHop) -> bool {
    // SAFETY: as above.
    unsafe {
        let note = (*skb).data_meta as usize as *const Note;
        if note.add(1) as usize > (*skb).data as usize || (*note).mark != MARK {
            return false;
        }
        next_hop.family = match (*note).family {
            V4 => Neighbour::V4,
            V6 => Neighbour::V6,
            _ => Neighbour::Routed,
        };
        next_hop.address = from_words((*note).address);
    }
    true
}
