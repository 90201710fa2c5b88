//! Subnets that must not overlap, and who has them.

use std::collections::BTreeMap;

use crate::family::Family;

/// Who has which subnet. Claimed subnets are disjoint, so that one look at the neighbour below tells whether another
/// fits: ten thousand nodes cost ten thousand looks, not their square.
#[derive(Debug)]
pub(super) struct Claims<F: Family> {
    /// First address to last address and owner.
    claimed: BTreeMap<F::Address, (F::Address, String)>,
    /// The few that are taken from the start and may overlap each other.
    reserved: Vec<(F::Net, String)>,
}

impl<F: Family> Default for Claims<F> {
    fn default() -> Self {
        Self {
            claimed: BTreeMap::new(),
            reserved: Vec::new(),
        }
    }
}

impl<F: Family> Claims<F> {
    /// Keeps a subnet away from all claims.
    pub fn reserve(&mut self, subnet: F::Net, owner: String) {
        self.reserved.push((subnet, owner));
    }

    /// Claims a subnet.
    ///
    /// # Errors
    /// Who has it, or a part of it, already.
    pub fn claim(&mut self, subnet: F::Net, owner: String) -> Result<(), String> {
        let (first, last) = (F::first(subnet), F::last(subnet));
        let overlaps = |other: &F::Net| F::first(*other) <= last && first <= F::last(*other);
        if let Some((_, taken)) = self.reserved.iter().find(|(other, _)| overlaps(other)) {
            return Err(taken.clone());
        }
        match self.claimed.range(..=last).next_back() {
            Some((_, (other_last, taken))) if *other_last >= first => Err(taken.clone()),
            _ => {
                self.claimed.insert(first, (last, owner));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::V4;

    #[test]
    fn whoever_comes_later_to_an_overlap_is_refused() {
        let mut claims = Claims::<V4>::default();
        let mut claim = |subnet: &str| claims.claim(subnet.parse().unwrap(), subnet.to_owned());
        assert_eq!(claim("10.1.0.0/24"), Ok(()));
        assert_eq!(claim("10.1.1.0/24"), Ok(()));
        assert_eq!(claim("10.1.0.0/24"), Err("10.1.0.0/24".into()), "the same");
        assert_eq!(claim("10.1.1.128/25"), Err("10.1.1.0/24".into()), "a part");
        assert_eq!(claim("10.0.0.0/8"), Err("10.1.1.0/24".into()), "a whole");
        assert_eq!(claim("10.1.2.0/23"), Ok(()), "a neighbour");
        assert_eq!(claim("0.0.0.0/0"), Err("10.1.2.0/23".into()));
        assert_eq!(claim("255.255.255.255/32"), Ok(()), "the end of all addresses");
    }

    #[test]
    fn a_reserved_subnet_is_nobodys() {
        let mut claims = Claims::<V4>::default();
        claims.reserve("10.96.0.0/12".parse().unwrap(), "services".into());
        claims.reserve("10.96.0.0/16".parse().unwrap(), "more services".into());
        assert_eq!(
            claims.claim("10.100.1.0/24".parse().unwrap(), "a".into()),
            Err("services".into())
        );
        assert_eq!(
            claims.claim("10.0.0.0/8".parse().unwrap(), "a".into()),
            Err("services".into())
        );
        assert_eq!(claims.claim("10.112.0.0/24".parse().unwrap(), "a".into()), Ok(()));
    }
}
