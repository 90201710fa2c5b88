//! A subnet as a store of addresses: which of them pods can have, and in which order.

use std::{net::Ipv4Addr, ops::RangeInclusive};

use ipnet::Ipv4Net;

/// A subnet to give addresses out of, of 30 bits or fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The subnet.
    pub subnet: Ipv4Net,
    /// The pods' gateway: an address of the subnet that no pod gets.
    pub gateway: Ipv4Addr,
}

impl Pool {
    /// How many pods can have an address of it: all but its own, the gateway's and the one for broadcasts.
    pub fn capacity(&self) -> u64 {
        (1 << (32 - self.subnet.prefix_len())) - 3
    }

    /// Whether a pod can have this address of it.
    pub fn gives(&self, address: Ipv4Addr) -> bool {
        self.hosts().contains(&address.to_bits()) && address != self.gateway
    }

    /// The subnet without its own address and the broadcast address.
    fn hosts(&self) -> RangeInclusive<u32> {
        self.subnet.network().to_bits() + 1..=self.subnet.broadcast().to_bits() - 1
    }
}

/// Every address that a pod can have, once: those after `last` first, then from the beginning.
pub fn candidates(pools: &[Pool], last: Option<Ipv4Addr>) -> impl Iterator<Item = (Pool, Ipv4Addr)> {
    let mut ranges: Vec<_> = pools.iter().map(|pool| (*pool, pool.hosts())).collect();
    let last = last.and_then(|last| Some((pools.iter().position(|pool| pool.gives(last))?, last.to_bits())));
    if let Some((index, last)) = last {
        ranges.rotate_left(index);
        let (pool, range) = ranges[0].clone();
        ranges[0].1 = last + 1..=*range.end();
        ranges.push((pool, *range.start()..=last));
    }
    ranges
        .into_iter()
        .flat_map(|(pool, range)| range.map(move |bits| (pool, Ipv4Addr::from_bits(bits))))
        .filter(|(pool, address)| *address != pool.gateway)
}

/// What to say when no address is free.
pub fn exhausted(pools: &[Pool]) -> String {
    let list = pools
        .iter()
        .map(|pool| format!("all {} of {}", pool.capacity(), pool.subnet));
    format!(
        "no address is free: {} are in use",
        list.collect::<Vec<_>>().join(" and ")
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn pool(subnet: &str, gateway: &str) -> Pool {
        Pool {
            subnet: subnet.parse().unwrap(),
            gateway: gateway.parse().unwrap(),
        }
    }

    #[test]
    fn candidates_are_every_host_once_wherever_they_begin() {
        let pools = [pool("10.0.0.0/28", "10.0.0.14"), pool("10.1.0.0/29", "10.1.0.1")];
        let all: BTreeSet<_> = candidates(&pools, None).map(|(_, address)| address).collect();
        assert_eq!(all.len() as u64, pools[0].capacity() + pools[1].capacity());
        for last in all.iter().copied() {
            let turned: Vec<_> = candidates(&pools, Some(last)).map(|(_, address)| address).collect();
            assert_eq!(turned.len(), all.len());
            assert_eq!(turned.iter().copied().collect::<BTreeSet<_>>(), all);
            assert_eq!(
                turned.last(),
                Some(&last),
                "the last one given out is the last to come again"
            );
        }
    }

    #[test]
    fn the_largest_and_the_last_subnets_do_not_overflow() {
        for (subnet, gateway) in [("0.0.0.0/0", "0.0.0.1"), ("255.255.255.252/30", "255.255.255.253")] {
            let pools = [pool(subnet, gateway)];
            let last = Ipv4Addr::from_bits(*pools[0].hosts().end());
            assert!(candidates(&pools, Some(last)).next().is_some());
        }
        assert_eq!(pool("0.0.0.0/0", "0.0.0.1").capacity(), (1 << 32) - 3);
    }
}
