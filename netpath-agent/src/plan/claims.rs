//! What only one service can have: a cluster address, a port on an address, a port of every node. Of all that ask the eldest
//! has it, whoever came first; so that what a service gets depends on its elders alone, and a change of one concerns those
//! younger ones that asked for the same.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use crate::model::{ObjectName, Protocol, Service};

/// A service's place among all: by creation, then by name.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    created: Option<i64>,
    /// The service.
    pub name: ObjectName,
}

impl Rank {
    /// That of a service.
    pub fn of(name: &ObjectName, service: &Service) -> Self {
        Self {
            created: service.created,
            name: name.clone(),
        }
    }
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Claim {
    /// An address within the cluster.
    ClusterIp(IpAddr),
    /// A port on one address.
    Frontend(IpAddr, u16, Protocol),
    /// A port of every node, in both families.
    NodePort(u16, Protocol),
}

/// What a service asks for, in order; `true` where it would have it, and does not only look whether an elder has.
pub(super) type Asked = Vec<(Claim, bool)>;

/// Who asks for what.
#[derive(Default)]
pub(super) struct Claims {
    /// The eldest first.
    by_claim: HashMap<Claim, Vec<(Arc<Rank>, bool)>>,
}

impl Claims {
    /// Replaces what a service asks for. Returns the younger ones that asked for what it no longer asks for, or newly does.
    pub fn replace(&mut self, by: &Arc<Rank>, before: &Asked, now: &Asked) -> Vec<Arc<Rank>> {
        let mut younger = Vec::new();
        let gone = before.iter().filter(|asked| now.binary_search(asked).is_err());
        for (claim, _) in gone {
            let Some(all) = self.by_claim.get_mut(claim) else {
                continue;
            };
            if let Ok(place) = all.binary_search_by(|(rank, _)| rank.cmp(by)) {
                all.remove(place);
                younger.extend(all[place..].iter().map(|(rank, _)| Arc::clone(rank)));
            }
            if all.is_empty() {
                self.by_claim.remove(claim);
            }
        }
        let new = now.iter().filter(|asked| before.binary_search(asked).is_err());
        for (claim, takes) in new {
            let all = self.by_claim.entry(*claim).or_default();
            let place = all.partition_point(|(rank, _)| rank < by);
            all.insert(place, (Arc::clone(by), *takes));
            younger.extend(all[place + 1..].iter().map(|(rank, _)| Arc::clone(rank)));
        }
        younger
    }

    /// The eldest that would have it, if that one is elder.
    fn holder(&self, claim: Claim, than: &Rank) -> Option<&ObjectName> {
        let elder = self.by_claim.get(&claim)?.iter().take_while(|(rank, _)| **rank < *than);
        elder.filter(|(_, takes)| *takes).map(|(rank, _)| &rank.name).next()
    }
}

/// One service asking.
pub(super) struct Asking<'c> {
    claims: &'c Claims,
    by: &'c Rank,
    asked: BTreeMap<Claim, bool>,
}

impl<'c> Asking<'c> {
    /// It has asked for nothing yet.
    pub fn new(claims: &'c Claims, by: &'c Rank) -> Self {
        Self {
            claims,
            by,
            asked: BTreeMap::new(),
        }
    }

    /// Asks for something.
    ///
    /// # Errors
    /// The service that has it already, which is this one where it asks twice.
    pub fn take(&mut self, claim: Claim) -> Result<(), &'c ObjectName> {
        let again = self.asked.insert(claim, true) == Some(true);
        match self.claims.holder(claim, self.by) {
            Some(elder) => Err(elder),
            None if again => Err(&self.by.name),
            None => Ok(()),
        }
    }

    /// The service that has it, which may be this one, and which no younger one is.
    pub fn look(&mut self, claim: Claim) -> Option<&'c ObjectName> {
        let takes = *self.asked.entry(claim).or_insert(false);
        let elder = self.claims.holder(claim, self.by);
        elder.or(takes.then_some(&self.by.name))
    }

    /// All that it asked for.
    pub fn done(self) -> Asked {
        self.asked.into_iter().collect()
    }
}
