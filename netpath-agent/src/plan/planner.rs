//! The planner: it follows a cluster from event to event, and plans again what an event concerns. What it says is what
//! [`plan`](super::plan) would say of the same cluster, whatever came before.

use std::{collections::BTreeSet, mem, sync::Arc};

use imbl::{OrdMap, ordmap::DiffItem};

use super::{Changes, NodeFacts, Plan, Problem, ground::Ground, services::Services};
use crate::model::{Cluster, ObjectName, Service, Slice};

/// What has been planned, and from what.
#[derive(Default)]
pub struct Planner {
    /// `None` until a node could be planned.
    ground: Option<Ground>,
    services: OrdMap<ObjectName, Arc<Service>>,
    slices: OrdMap<ObjectName, Arc<Slice>>,
    planned: Services,
    plan: Plan,
    changes: Changes,
}

impl Planner {
    /// Plans the node named in the facts.
    ///
    /// # Errors
    /// As those of [`plan`](super::plan).
    pub fn plan(&mut self, cluster: &Cluster, facts: &NodeFacts) -> Result<&Plan, Vec<Problem>> {
        let ground = match self.ground.take().filter(|ground| ground.holds(cluster, facts)) {
            Some(ground) => {
                self.follow(cluster, &ground);
                ground
            }
            None => self.begin(cluster, facts)?,
        };
        let problems = ground.problems.iter().chain(&cluster.problems);
        self.plan.problems = problems.chain(self.planned.problems()).cloned().collect();
        self.plan.problems.sort_unstable();
        self.plan.problems.dedup();
        self.ground = Some(ground);
        Ok(&self.plan)
    }

    /// The last plan that was made.
    pub fn last(&self) -> &Plan {
        &self.plan
    }

    /// Where the last plan differs from the one that was last when this was called before.
    pub fn take_changes(&mut self) -> Changes {
        mem::take(&mut self.changes)
    }

    /// Plans all services, on a ground that is new.
    fn begin(&mut self, cluster: &Cluster, facts: &NodeFacts) -> Result<Ground, Vec<Problem>> {
        let (ground, mut plan) = Ground::find(cluster, facts)?;
        self.planned = Services::default();
        for (name, slice) in &cluster.slices {
            self.planned.slices.add(name, slice);
        }
        let all = cluster.services.keys().cloned();
        self.planned.plan(all, &cluster.services, &ground, &mut plan);
        self.changes.then(Changes::between(&self.plan, &plan));
        self.plan = plan;
        self.services = cluster.services.clone();
        self.slices = cluster.slices.clone();
        Ok(ground)
    }

    /// Plans what has changed since the last plan.
    fn follow(&mut self, cluster: &Cluster, ground: &Ground) {
        let mut named = BTreeSet::new();
        let before = mem::replace(&mut self.slices, cluster.slices.clone());
        for item in before.diff(&self.slices) {
            let (old, new) = sides(item);
            if let Some((name, slice)) = old {
                self.planned.slices.remove(name, slice);
                named.insert(slice.service.clone());
            }
            if let Some((name, slice)) = new {
                self.planned.slices.add(name, slice);
                named.insert(slice.service.clone());
            }
        }
        let before = mem::replace(&mut self.services, cluster.services.clone());
        for item in before.diff(&self.services) {
            let (old, new) = sides(item);
            named.extend(old.or(new).map(|(name, _)| name.clone()));
        }
        let changes = self.planned.plan(named, &self.services, ground, &mut self.plan);
        self.changes.then(changes);
    }
}

/// An entry before and after.
type Sides<'a, 'b, V> = (Option<(&'a ObjectName, &'a V)>, Option<(&'b ObjectName, &'b V)>);

fn sides<'a, 'b, V>(item: DiffItem<'a, 'b, ObjectName, V>) -> Sides<'a, 'b, V> {
    match item {
        DiffItem::Add(name, new) => (None, Some((name, new))),
        DiffItem::Update { old, new } => (Some(old), Some(new)),
        DiffItem::Remove(name, old) => (Some((name, old)), None),
    }
}
