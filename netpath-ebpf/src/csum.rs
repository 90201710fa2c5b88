//! One's complement sums (RFC 1071): how a checksum follows a change without reading the packet again (RFC 1624).
//!
//! Sums add 16-bit words in native byte order, as the kernel does: the sum of swapped words is the swapped sum, so that a
//! sum read from a packet and written back needs no conversion (RFC 1071, section 2B).

/// The words' sum, not folded. `N` is even.
#[inline(always)]
pub fn sum<const N: usize>(bytes: &[u8; N]) -> u32 {
    // Four bytes at once, which the compiler takes for a word where it finds them in memory; each alone would get a register.
    let (words, rest) = bytes.as_chunks::<4>();
    let (halves, _) = rest.as_chunks::<2>();
    let mut sum = 0;
    for word in words {
        let word = u32::from_ne_bytes(*word);
        sum += (word & 0xffff) + (word >> 16);
    }
    for half in halves {
        sum += u32::from(u16::from_ne_bytes(*half));
    }
    sum
}

/// What to add to a sum when `old` becomes `new`, not folded: the new words and the complements of the old (RFC 1624,
/// equation 3).
#[inline(always)]
pub fn difference<const N: usize>(old: &[u8; N], new: &[u8; N]) -> u32 {
    // A word and its complement together are 0xffff.
    sum(new) + (N as u32 / 2) * 0xffff - sum(old)
}

/// The sum of a pseudo header without its addresses (RFC 9293, section 3.1; RFC 8200, section 8.1), not folded.
#[inline(always)]
pub fn pseudo(protocol: u8, len: u16) -> u32 {
    let [l0, l1] = len.to_be_bytes();
    sum(&[0, protocol, l0, l1])
}

/// Folds a sum into 16 bits, carries included.
#[inline(always)]
pub fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The checksum field, as it stands in the packet, after what it covers changed by `difference`.
#[inline(always)]
pub fn adapt(field: [u8; 2], difference: u32) -> [u8; 2] {
    let sum = u32::from(!u16::from_ne_bytes(field)) + u32::from(fold(difference));
    (!fold(sum)).to_ne_bytes()
}

/// The checksum field for words that have this sum, the field itself counted as zero.
#[inline(always)]
pub fn finish(sum: u32) -> [u8; 2] {
    (!fold(sum)).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071, section 3: the example's words and their sum, in network order.
    #[test]
    fn sums_as_the_rfc_does() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&bytes)).to_ne_bytes(), [0xdd, 0xf2]);
        assert_eq!(finish(sum(&bytes)), [0x22, 0x0d]);
    }

    /// RFC 1624, section 4: the case in which equation 3 is right and its predecessor was not.
    #[test]
    fn adapts_as_the_rfc_does() {
        assert_eq!(
            adapt([0xdd, 0x2f], difference(&[0x55, 0x55], &[0x32, 0x85])),
            [0x00, 0x00]
        );
    }

    proptest! {
        #[test]
        fn adapting_is_summing_anew(old: [u8; 20], changed: [u8; 8]) {
            let mut new = old;
            new[8..16].copy_from_slice(&changed);
            let adapted = adapt(finish(sum(&old)), difference(&old, &new));
            // 0x0000 and 0xffff are the same number in one's complement.
            let canonical = |field: [u8; 2]| if field == [0, 0] { [0xff, 0xff] } else { field };
            prop_assert_eq!(canonical(adapted), canonical(finish(sum(&new))));
        }
    }
}
