//! One hash for all that spreads: backends, source ports of tunnels, the first port that source NAT tries. Keyed by the
//! node's seed, so that nobody outside can aim; deterministic, so that host and kernel agree.

use netpath_common::abi::conntrack::Tuple;

use crate::family::Address;

/// 2^32 divided by the golden ratio (Knuth, The Art of Computer Programming, volume 3, section 6.4).
const GOLDEN: u32 = 0x9e37_79b1;

#[inline(always)]
fn mix(hash: u32, word: u32) -> u32 {
    let hash = (hash ^ word).wrapping_mul(GOLDEN);
    hash ^ (hash >> 15)
}

/// A hash of all that a tuple holds.
#[inline(always)]
pub fn tuple<A: Address>(tuple: &Tuple<A>, seed: u32) -> u32 {
    let hash = mix(seed, tuple.source.word());
    let hash = mix(hash, tuple.destination.word());
    let hash = mix(
        hash,
        u32::from(tuple.source_port) << 16 | u32::from(tuple.destination_port),
    );
    let hash = mix(hash, u32::from(tuple.protocol));
    (hash ^ (hash >> 13)).wrapping_mul(GOLDEN)
}

/// Maps a hash to `0..count` evenly, without a division.
#[inline(always)]
pub fn choose(hash: u32, count: u32) -> u32 {
    ((u64::from(hash) * u64::from(count)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10,000 connections that differ in their source port alone fall on three backends about evenly: within five
    /// standard deviations (sqrt(n p (1 - p)) = 47) of a third.
    #[test]
    fn spreads_evenly() {
        let mut hits = [0u32; 3];
        for port in 0..10_000u16 {
            let flow = Tuple {
                source: [10, 244, 1, 2],
                destination: [10, 96, 0, 10],
                source_port: 32_768 + port,
                destination_port: 53,
                protocol: 17,
                reserved: [0; 3],
            };
            hits[choose(tuple(&flow, 7), 3) as usize] += 1;
        }
        for count in hits {
            assert!((3098..=3569).contains(&count), "{hits:?}");
        }
    }
}
