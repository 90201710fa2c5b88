//! The packet logic's place in the kernel: its traits over tc's and XDP's packets, over sockets' calls and over BPF maps, and
//! what turns a verdict into a program's answer. All unsafe code of the datapath is in here.

mod direct;
mod maps;
mod onward;
mod report;
mod skb;
pub mod sock;
mod tables;
pub mod tc;
mod work;
pub mod xdp;
mod xdp_buff;

use netpath_common::reason::Reason;

/// What a helper that changes a packet says: 0, or why it did not.
///
/// # Errors
/// [`Reason::RewriteFailed`].
#[inline(always)]
fn rewritten(answer: i64) -> Result<(), Reason> {
    if answer == 0 {
        Ok(())
    } else {
        Err(Reason::RewriteFailed)
    }
}
