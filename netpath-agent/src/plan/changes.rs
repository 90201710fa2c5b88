//! Where a plan differs from the one before, so that applying it costs no more than what has changed.

use std::collections::BTreeSet;

use super::{FamilyPlan, Plan};
use crate::family::{Family, V4, V6};

/// The differences between two plans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Whether anything may differ beside the services: configuration, endpoints, routes.
    pub ground: bool,
    /// The services of IPv4.
    pub v4: FamilyChanges<V4>,
    /// The services of IPv6.
    pub v6: FamilyChanges<V6>,
}

/// The differences in a family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FamilyChanges<F: Family> {
    /// The frontends that are new, gone or other than before.
    pub services: BTreeSet<F::Frontend>,
    /// The addresses of services that are new or gone, or whose flags are others.
    pub addresses: BTreeSet<F>,
}

impl Changes {
    /// Those between two plans on different grounds.
    pub(crate) fn between(before: &Plan, now: &Plan) -> Self {
        Self {
            ground: true,
            v4: FamilyChanges::between(&before.v4, &now.v4),
            v6: FamilyChanges::between(&before.v6, &now.v6),
        }
    }

    /// Adds what came after these.
    pub(super) fn then(&mut self, later: Self) {
        self.ground |= later.ground;
        self.v4.then(later.v4);
        self.v6.then(later.v6);
    }
}

impl<F: Family> FamilyChanges<F> {
    fn between(before: &FamilyPlan<F>, now: &FamilyPlan<F>) -> Self {
        let frontends = before.services.keys().chain(now.services.keys()).copied();
        let addresses = before.addresses.keys().chain(now.addresses.keys()).copied();
        Self {
            services: frontends
                .filter(|frontend| before.services.get(frontend) != now.services.get(frontend))
                .collect(),
            addresses: addresses
                .filter(|address| before.addresses.get(address) != now.addresses.get(address))
                .collect(),
        }
    }

    fn then(&mut self, later: Self) {
        self.services.extend(later.services);
        self.addresses.extend(later.addresses);
    }
}
