//! A subnet as a store of addresses: which of them pods can have, and in which order.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

use ipnet::IpNet;

/// A subnet to give addresses out of, with two bits or more for hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The subnet.
    pub subnet: IpNet,
    /// The pods' gateway: an address of the subnet that no pod gets.
    pub gateway: IpAddr,
}

impl Pool {
    /// How many pods can have an address of it: all but its own, the gateway's and the last, which in IPv4 is for broadcasts.
    pub fn capacity(&self) -> u128 {
        let bits = self.subnet.max_prefix_len() - self.subnet.prefix_len();
        1u128.checked_shl(bits.into()).map_or(u128::MAX, |all| all - 3)
    }

    /// Whether a pod can have this address of it.
    pub fn gives(&self, address: IpAddr) -> bool {
        self.subnet.contains(&address) && self.hosts().contains(&bits(address)) && address != self.gateway
    }

    /// The subnet without its own address and the last.
    fn hosts(&self) -> RangeInclusive<u128> {
        bits(self.subnet.network()) + 1..=bits(self.subnet.broadcast()) - 1
    }

    fn address(&self, bits: u128) -> IpAddr {
        match self.subnet {
            IpNet::V4(_) => Ipv4Addr::from_bits(bits as u32).into(),
            IpNet::V6(_) => Ipv6Addr::from_bits(bits).into(),
        }
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The pools of each family that there are any of: a pod gets one address of each.
pub fn families(pools: &[Pool]) -> Vec<Vec<Pool>> {
    let of = |v4: bool| -> Vec<Pool> {
        let pools = pools.iter().copied();
        pools.filter(|pool| pool.gateway.is_ipv4() == v4).collect()
    };
    [of(true), of(false)]
        .into_iter()
        .filter(|pools| !pools.is_empty())
        .collect()
}

/// Every address of a family that a pod can have, once: those after `last` first, then from the beginning.
pub fn candidates(pools: &[Pool], last: Option<IpAddr>) -> impl Iterator<Item = (Pool, IpAddr)> {
    let mut ranges: Vec<_> = pools.iter().map(|pool| (*pool, pool.hosts())).collect();
    let last = last.and_then(|last| Some((pools.iter().position(|pool| pool.gives(last))?, bits(last))));
    if let Some((index, last)) = last {
        ranges.rotate_left(index);
        let (pool, range) = ranges[0].clone();
        ranges[0].1 = last + 1..=*range.end();
        ranges.push((pool, *range.start()..=last));
    }
    ranges
        .into_iter()
        .flat_map(|(pool, range)| range.map(move |bits| (pool, pool.address(bits))))
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
        for pools in [
            [pool("10.0.0.0/28", "10.0.0.14"), pool("10.1.0.0/29", "10.1.0.1")],
            [pool("fd00::/124", "fd00::e"), pool("fd00:1::/125", "fd00:1::1")],
        ] {
            let all: BTreeSet<_> = candidates(&pools, None).map(|(_, address)| address).collect();
            assert_eq!(all.len(), 13 + 5);
            assert_eq!(all.len() as u128, pools[0].capacity() + pools[1].capacity());
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
    }

    #[test]
    fn the_largest_and_the_last_subnets_do_not_overflow() {
        for (subnet, gateway) in [
            ("0.0.0.0/0", "0.0.0.1"),
            ("255.255.255.252/30", "255.255.255.253"),
            ("::/0", "::1"),
            (
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126",
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffd",
            ),
        ] {
            let pools = [pool(subnet, gateway)];
            let last = pools[0].address(*pools[0].hosts().end());
            assert!(candidates(&pools, Some(last)).next().is_some());
        }
        assert_eq!(pool("0.0.0.0/0", "0.0.0.1").capacity(), (1 << 32) - 3);
        assert_eq!(pool("fd00::/64", "fd00::1").capacity(), (1 << 64) - 3);
    }

    #[test]
    fn a_family_s_pools_are_together_and_ipv4_comes_first() {
        let [six, four, more] = [
            pool("fd00::/64", "fd00::1"),
            pool("10.0.0.0/28", "10.0.0.1"),
            pool("fd00:1::/64", "fd00:1::1"),
        ];
        assert_eq!(families(&[six, four, more]), [vec![four], vec![six, more]]);
        assert_eq!(families(&[six]), [[six]]);
        assert!(!four.gives("fd00::5".parse().unwrap()) && !six.gives("10.0.0.5".parse().unwrap()));
    }
}
