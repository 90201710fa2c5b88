//! Which of a family's services are looked at: all of them, or those that have changed and those that were refused before.

use std::collections::{BTreeMap, BTreeSet};

use netpath_common::abi::service::{Frontend, Service};

use super::mirror::Mirror;
use crate::{
    family::Family,
    plan::{FamilyChanges, FamilyPlan, ServicePlan},
};

/// The services that are looked at.
pub enum Concerned<F: Family> {
    /// All that are planned, and all that the map holds.
    All,
    /// The entries of these, whether planned, held or both.
    These {
        /// Frontends.
        services: BTreeSet<F::Frontend>,
        /// Services' addresses.
        addresses: BTreeSet<F>,
    },
}

impl<F: Family> Concerned<F> {
    /// Those that have changed, and others.
    pub fn changed(changes: &FamilyChanges<F>, others: &BTreeSet<F::Frontend>) -> Self {
        Self::These {
            services: changes.services.union(others).copied().collect(),
            addresses: changes.addresses.clone(),
        }
    }

    /// Their frontends, as planned.
    pub fn services<'a>(
        &'a self,
        plan: &'a FamilyPlan<F>,
    ) -> Box<dyn Iterator<Item = (&'a F::Frontend, &'a ServicePlan<F>)> + 'a> {
        match self {
            Self::All => Box::new(plan.services.iter()),
            Self::These { services, .. } => {
                let planned = services.iter();
                Box::new(planned.filter_map(|frontend| plan.services.get_key_value(frontend)))
            }
        }
    }

    /// The entries that say which addresses services have, as planned.
    pub fn addresses(&self, plan: &FamilyPlan<F>) -> BTreeMap<F::Frontend, Service> {
        match self {
            Self::All => plan.addresses.iter().map(address::<F>).collect(),
            Self::These { addresses, .. } => {
                let planned = addresses.iter();
                let planned = planned.filter_map(|address| plan.addresses.get_key_value(address));
                planned.map(address::<F>).collect()
            }
        }
    }

    /// What the map holds of them, and no plan wants.
    pub fn gone(&self, plan: &FamilyPlan<F>, held: &Mirror<F::Frontend, Service>) -> Vec<F::Frontend> {
        let is_planned = |frontend: &F::Frontend| {
            let at: Frontend<F> = (*frontend).into();
            let is_address = at.port == 0 && plan.addresses.contains_key(&at.address);
            is_address || plan.services.contains_key(frontend)
        };
        let held = held.held();
        let mut gone = match self {
            Self::All => held.keys().copied().collect(),
            Self::These { services, addresses } => {
                let addresses = addresses.iter().map(of_address::<F>);
                let mut both: Vec<_> = services.iter().copied().chain(addresses).collect();
                both.retain(|frontend| held.contains_key(frontend));
                both
            }
        };
        gone.retain(|frontend| !is_planned(frontend));
        gone
    }

    /// What the map holds of their frontends; `None` if they are all that it holds.
    pub fn held(&self, held: &Mirror<F::Frontend, Service>) -> Option<Vec<Service>> {
        let Self::These { services, .. } = self else {
            return None;
        };
        let held = services.iter().filter_map(|frontend| held.held().get(frontend));
        Some(held.copied().collect())
    }
}

/// The entry that says that a service has an address.
fn address<F: Family>((address, flags): (&F, &u16)) -> (F::Frontend, Service) {
    let service = Service {
        flags: *flags,
        ..Service::default()
    };
    (of_address::<F>(address), service)
}

fn of_address<F: Family>(address: &F) -> F::Frontend {
    let frontend = Frontend {
        address: *address,
        ..Frontend::default()
    };
    frontend.into()
}
