//! `np_source4`, `np_source6`: who may connect to frontends that not everyone may (`loadBalancerSourceRanges`). A trie from
//! [`SourceKey`] to [`ADMITTED`]: a client may connect if a prefix of its address is in the list that the frontend names.
//!
//! A list's number follows from what it holds. A changed list is written under another number before its frontends move
//! there, so that no packet sees half of it.

use super::family::families;

/// The value of every entry.
pub const ADMITTED: u32 = 1;

/// The bits of [`SourceKey::sources`], which a prefix has before those of the range.
pub const SOURCES_BITS: u32 = 32;

families! {
    /// A range of a list, or in a lookup a client and the list that must have it. The trie compares the bits behind
    /// `prefix_len` in their order in memory.
    pub struct SourceKey {
        /// How many bits count: [`SOURCES_BITS`], and the range's prefix length.
        pub prefix_len: u32,
        /// The list, [`super::service::Service::sources`].
        pub sources: u32,
        /// The range's first address.
        pub address: A,
    }
    sizes: 12, 24;
}
