//! CRC32c (RFC 3720, section 12.1), by which SCTP knows that a packet arrived whole (RFC 9260, section 6.8 and appendix A): how
//! a packet's follows a change without reading the packet again.
//!
//! A CRC is the remainder of the message, taken for a polynomial over the field of two elements, by another polynomial. Addition
//! there is exclusive or, and begin and end complement alike whatever the message says: so the difference of two messages' CRCs is
//! the remainder of the messages' own difference. If they differ in one word, that is the word times a power of x, by as many as
//! there are bits from the word's beginning to the end of the message.

/// The polynomial without its highest coefficient, bits reversed: a word's highest bit is the coefficient of x^0.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// x^0, in that order of bits.
const ONE: u32 = 1 << 31;

/// x^(8 l) for a length l in bytes below 2^16: the product of a power for its low byte and one for its high byte.
const POWERS: [[u32; 256]; 2] = powers();

/// How many turns a product takes: one for each coefficient.
const PRODUCT: u32 = 32;

/// What a change of a word adds to a checksum, in the making: a product with one power, and then with the other. The turns are
/// the caller's, who in a program lets the kernel count them.
pub struct Change {
    factor: u32,
    /// What is left of the other factor.
    other: u32,
    /// The other factor of the next product.
    next: u32,
    /// What there is of the product.
    sum: u32,
}

impl Change {
    /// How many turns it takes.
    pub const TURNS: u32 = 2 * PRODUCT;

    /// Of a word that begins `len` bytes before the message's end, less than 2^16.
    #[inline(always)]
    pub fn of(old: [u8; 4], new: [u8; 4], len: usize) -> Self {
        let [low, high] = &POWERS;
        // The first byte's lowest bit has the highest power, both in a message and in its checksum.
        Self {
            factor: u32::from_le_bytes(old) ^ u32::from_le_bytes(new),
            other: low[len & 0xff],
            next: high[len >> 8 & 0xff],
            sum: 0,
        }
    }

    /// A turn, from 0 on: takes a coefficient, that of the highest power first (Horner's scheme).
    #[inline(always)]
    pub const fn turn(&mut self, turn: u32) {
        if turn == PRODUCT {
            (self.factor, self.other, self.sum) = (self.sum, self.next, 0);
        }
        self.sum = self.sum >> 1 ^ POLYNOMIAL & all(self.sum & 1) ^ self.factor & all(self.other & 1);
        self.other >>= 1;
    }

    /// After all turns: the checksum, as it stands in the packet, of the message that has changed.
    #[inline(always)]
    pub fn adapt(&self, checksum: [u8; 4]) -> [u8; 4] {
        (u32::from_le_bytes(checksum) ^ self.sum).to_le_bytes()
    }
}

/// All bits, if there is one: the verifier has one way to walk where a branch would make two.
#[inline(always)]
const fn all(bit: u32) -> u32 {
    0u32.wrapping_sub(bit)
}

const fn powers() -> [[u32; 256]; 2] {
    let mut powers = [[ONE; 256]; 2];
    // x^8, and then x^(8 * 256).
    let mut step = ONE >> 8;
    let mut byte = 0;
    while byte < 2 {
        let mut value = 1;
        while value < 256 {
            powers[byte][value] = multiply(powers[byte][value - 1], step);
            value += 1;
        }
        step = multiply(powers[byte][255], step);
        byte += 1;
    }
    powers
}

const fn multiply(factor: u32, other: u32) -> u32 {
    let mut product = Change {
        factor,
        other,
        next: 0,
        sum: 0,
    };
    let mut turn = 0;
    while turn < PRODUCT {
        product.turn(turn);
        turn += 1;
    }
    product.sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn adapt(checksum: [u8; 4], old: [u8; 4], new: [u8; 4], len: usize) -> [u8; 4] {
        let mut change = Change::of(old, new, len);
        for turn in 0..Change::TURNS {
            change.turn(turn);
        }
        change.adapt(checksum)
    }

    /// The whole message's CRC, bit by bit.
    fn whole(message: &[u8]) -> [u8; 4] {
        let mut register = u32::MAX;
        for byte in message {
            register ^= u32::from(*byte);
            for _ in 0..8 {
                register = if register & 1 == 1 {
                    register >> 1 ^ POLYNOMIAL
                } else {
                    register >> 1
                };
            }
        }
        (!register).to_le_bytes()
    }

    /// RFC 3720, appendix B.4: the CRCs of 32 bytes, as they go over the wire.
    const ZEROS: [u8; 4] = [0xaa, 0x36, 0x91, 0x8a];
    const ONES: [u8; 4] = [0x43, 0xab, 0xa8, 0x62];
    const RISING: [u8; 4] = [0x4e, 0x79, 0xdd, 0x46];

    #[test]
    fn one_message_of_the_rfc_becomes_another() {
        let mut rising = [0; 32];
        for (index, byte) in rising.iter_mut().enumerate() {
            *byte = index as u8;
        }
        assert_eq!(
            [whole(&[0; 32]), whole(&[0xff; 32]), whole(&rising)],
            [ZEROS, ONES, RISING]
        );
        let word_by_word = |to: &[u8; 32]| {
            let (words, _) = to.as_chunks::<4>();
            let lengths = (0..8).map(|word| 32 - 4 * word);
            words
                .iter()
                .zip(lengths)
                .fold(ZEROS, |field, (word, len)| adapt(field, [0; 4], *word, len))
        };
        assert_eq!(word_by_word(&[0xff; 32]), ONES);
        assert_eq!(word_by_word(&rising), RISING);
    }

    proptest! {
        #[test]
        fn adapting_is_summing_anew(
            message in proptest::collection::vec(any::<u8>(), 4..2000),
            at: prop::sample::Index,
            new: [u8; 4],
        ) {
            let at = at.index(message.len() - 3);
            let mut changed = message.clone();
            changed[at..at + 4].copy_from_slice(&new);
            let old = [0, 1, 2, 3].map(|byte| message[at + byte]);
            prop_assert_eq!(adapt(whole(&message), old, new, message.len() - at), whole(&changed));
        }
    }

    /// Each place of the length: the longest packet has four digits.
    #[test]
    fn long_messages_are_adapted_too() {
        for len in [4, 15, 16, 255, 256, 4_095, 4_096, 32_768, 65_535] {
            let mut message = [0x5a; 65_535];
            let message = &mut message[..len];
            let old = whole(message);
            message[..4].copy_from_slice(&[1, 2, 3, 4]);
            assert_eq!(adapt(old, [0x5a; 4], [1, 2, 3, 4], len), whole(message), "{len}");
        }
    }
}
