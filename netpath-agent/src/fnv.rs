//! FNV-1a (<http://www.isthe.com/chongo/tech/comp/fnv>): numbers and names that follow from what they stand for, the same in
//! every build, which the standard library's hashes do not promise.

/// Of 32 bits.
pub fn hash32(bytes: impl IntoIterator<Item = u8>) -> u32 {
    let step = |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    bytes.into_iter().fold(0x811c_9dc5, step)
}

/// Of 64 bits.
pub fn hash64(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test vectors of the algorithm's authors.
    #[test]
    fn the_authors_values_come_out() {
        assert_eq!((hash32(*b""), hash64(*b"")), (0x811c_9dc5, 0xcbf2_9ce4_8422_2325));
        assert_eq!((hash32(*b"a"), hash64(*b"a")), (0xe40c_292c, 0xaf63_dc4c_8601_ec8c));
        assert_eq!(
            (hash32(*b"foobar"), hash64(*b"foobar")),
            (0xbf9c_f968, 0x8594_4171_f739_67e8)
        );
    }
}
