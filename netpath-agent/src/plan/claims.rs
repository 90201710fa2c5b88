//! What only one service can have: a cluster address, a port on an address, a port of every node. Of all that ask the eldest
//! has it, whoever came first; so that what a service gets depends on its elders alone, and a change of one concerns those
//! younger ones that asked for the same.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    net::IpAddr,
    slice,
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
pub(super) type Asked = Box<[(Claim, bool)]>;

/// Who asks for what.
#[derive(Default)]
pub(super) struct Claims {
    by_claim: HashMap<Claim, Askers>,
}

/// One that asks, and whether it would have what it asks for.
type Asker = (Arc<Rank>, bool);

/// Who asks for the same, the eldest first. Nearly all are alone, and there are several times as many as services: a list for
/// each would take more than all that it says.
enum Askers {
    One(Asker),
    #[expect(
        clippy::box_collection,
        reason = "a list in place would make the rare case the size of all"
    )]
    Several(Box<Vec<Asker>>),
}

impl Askers {
    fn all(&self) -> &[Asker] {
        match self {
            Self::One(asker) => slice::from_ref(asker),
            Self::Several(askers) => askers,
        }
    }

    /// Adds one, and returns its place.
    fn add(&mut self, asker: Asker) -> usize {
        let place = self.all().partition_point(|(rank, _)| *rank < asker.0);
        match self {
            Self::Several(askers) => askers.insert(place, asker),
            Self::One(other) => {
                let mut both = vec![(Arc::clone(&other.0), other.1)];
                both.insert(place, asker);
                *self = Self::Several(Box::new(both));
            }
        }
        place
    }
}

impl Claims {
    /// Replaces what a service asks for. Returns the younger ones that asked for what it no longer asks for, or newly does.
    pub fn replace(&mut self, by: &Arc<Rank>, before: &[(Claim, bool)], now: &[(Claim, bool)]) -> Vec<Arc<Rank>> {
        let mut younger = Vec::new();
        let gone = before.iter().filter(|asked| now.binary_search(asked).is_err());
        for (claim, _) in gone {
            let Entry::Occupied(mut askers) = self.by_claim.entry(*claim) else {
                continue;
            };
            let Ok(place) = askers.get().all().binary_search_by(|(rank, _)| rank.cmp(by)) else {
                continue;
            };
            younger.extend(ranks(&askers.get().all()[place + 1..]));
            match askers.get_mut() {
                Askers::Several(all) if all.len() > 1 => drop(all.remove(place)),
                _ => drop(askers.remove()),
            }
        }
        let new = now.iter().filter(|asked| before.binary_search(asked).is_err());
        for (claim, takes) in new {
            let asker = (Arc::clone(by), *takes);
            match self.by_claim.entry(*claim) {
                Entry::Vacant(free) => drop(free.insert(Askers::One(asker))),
                Entry::Occupied(mut askers) => {
                    let place = askers.get_mut().add(asker);
                    younger.extend(ranks(&askers.get().all()[place + 1..]));
                }
            }
        }
        younger
    }

    /// The eldest that would have it, if that one is elder.
    fn holder(&self, claim: Claim, than: &Rank) -> Option<&ObjectName> {
        let elder = self
            .by_claim
            .get(&claim)?
            .all()
            .iter()
            .take_while(|(rank, _)| **rank < *than);
        elder.filter(|(_, takes)| *takes).map(|(rank, _)| &rank.name).next()
    }
}

fn ranks(askers: &[Asker]) -> impl Iterator<Item = Arc<Rank>> {
    askers.iter().map(|(rank, _)| Arc::clone(rank))
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
