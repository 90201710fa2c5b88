//! `np_maglev4`, `np_maglev6`: which backend of a set a connection from outside goes to, where every node is to choose alike
//! (Maglev, Eisenbud and others, NSDI 2016, section 3.4). A set's table has a power of two of places, in blocks; each place
//! names a slot of the set. A backend that comes or goes changes hardly any place but its own.
//!
//! A table follows from what its set holds, and so never changes either. It is written before a frontend says that it is there
//! ([`super::service::Service::maglev`]).

/// The places of a block.
pub const BLOCK: usize = 64;
/// The most backends that a set with a table has: a place holds no larger slot.
pub const MOST_BACKENDS: u32 = 1 << 16;

/// The binary logarithm of how many places a table has: at least a hundred for each backend, as the paper advises, so that they
/// differ by a hundredth in what they get; less where that would be more than 65,536.
pub const fn bits(backends: u32) -> u8 {
    let places = backends.saturating_mul(100);
    let (least, most) = (BLOCK.ilog2(), 16);
    let bits = u32::BITS - places.saturating_sub(1).leading_zeros();
    if bits < least {
        least as u8
    } else if bits > most {
        most as u8
    } else {
        bits as u8
    }
}

/// A block of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct MaglevKey {
    /// The set.
    pub set: u32,
    /// Which block: that of the places from `block` times [`BLOCK`] on.
    pub block: u32,
}

const _: () = assert!(size_of::<MaglevKey>() == 8);

/// Its places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct MaglevBlock {
    /// Of each place, the slot of the set.
    pub slots: [u16; BLOCK],
}

const _: () = assert!(size_of::<MaglevBlock>() == 128);

impl Default for MaglevBlock {
    fn default() -> Self {
        Self { slots: [0; BLOCK] }
    }
}

#[cfg(test)]
mod tests {
    use super::bits;

    #[test]
    fn a_table_has_a_hundred_places_for_each_backend() {
        let sizes = [1, 2, 3, 10, 11, 655, 656, 60_000].map(|backends| 1u32 << bits(backends));
        assert_eq!(sizes, [128, 256, 512, 1024, 2048, 65_536, 65_536, 65_536]);
    }
}
