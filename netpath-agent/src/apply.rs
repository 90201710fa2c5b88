//! The last step of an event's way: the maps brought to a plan, by the difference to what the kernel holds.
//!
//! The order keeps every packet between two whole states: a set of backends with its table, or a list of clients, is written before a
//! frontend names it, and goes when no program can hold its number any more; routes are added before others go; the configuration names a prefix
//! length for as long as a route has it. On a fresh node the configuration comes last: until then the programs let
//! everything pass.

mod concerned;
mod config;
mod endpoints;
mod family;
pub mod forget;
mod maglev;
mod mirror;
mod report;
mod sets;
pub mod sockets;
#[cfg(test)]
mod tests;

use netpath_common::{abi::config::Config, names};

use crate::{
    datapath::{config::NodeConfig, error::Result, pins::Pins, tables},
    family::{V4, V6},
    plan::{self, Plan},
};

pub use report::{Changes, Failure, Report};

use family::Tables;

/// The maps that the agent owns, and what they hold.
pub struct Applier {
    config: NodeConfig,
    held: Config,
    v4: Tables<V4>,
    v6: Tables<V6>,
    /// Whether the maps hold the last plan, but for the frontends that were refused.
    settled: bool,
}

impl Applier {
    /// Reads what the pinned maps hold. Nothing is changed.
    ///
    /// # Errors
    /// [`crate::datapath::error::Error::MapMissing`], [`crate::datapath::error::Error::Map`].
    pub fn adopt(pins: &Pins) -> Result<Self> {
        let config = tables::config(pins)?;
        Ok(Self {
            held: config.get()?,
            config,
            v4: Tables::adopt(pins)?,
            v6: Tables::adopt(pins)?,
            settled: false,
        })
    }

    /// Reads anew what the pinned maps hold, which others may have changed.
    ///
    /// # Errors
    /// As [`Self::adopt`]; this one stays as it is then.
    pub fn adopt_again(&mut self, pins: &Pins) -> Result<()> {
        let mut adopted = Self::adopt(pins)?;
        adopted.v4.remember(&mut self.v4);
        adopted.v6.remember(&mut self.v6);
        *self = adopted;
        Ok(())
    }

    /// Brings the maps to a plan. What one object is refused does not keep the others from theirs: errors stand in the
    /// report, and the next call tries again.
    pub fn apply(&mut self, plan: &Plan) -> Report {
        let mut report = Report::default();
        if self.held.abi_version != 0 {
            self.configure(config::between(&self.held, &plan.config), &mut report);
        }
        self.v4.apply(&plan.v4, &mut report);
        self.v6.apply(&plan.v6, &mut report);
        self.configure(plan.config, &mut report);
        self.settle(&report);
        report
    }

    /// Brings the maps to a plan that differs from the one before it in these `changes`; what was refused then is tried again
    /// too. If the maps were not brought to that one, or are to be looked at anew, it is [`Self::apply`].
    pub fn follow(&mut self, plan: &Plan, changes: &plan::Changes) -> Report {
        if changes.ground || !self.settled {
            return self.apply(plan);
        }
        let mut report = Report::default();
        self.v4.follow(&plan.v4, &changes.v4, &mut report);
        self.v6.follow(&plan.v6, &changes.v6, &mut report);
        self.settle(&report);
        report
    }

    /// Removes what [`Self::follow`] left that no frontend needs any more. It waits for the programs that run, so that it is best
    /// called when nothing else is to be done.
    pub fn tidy(&mut self, plan: &Plan) -> Report {
        let mut report = Report::default();
        self.v4.tidy(&plan.v4, &mut report);
        self.v6.tidy(&plan.v6, &mut report);
        self.settled &= report.errors.is_empty();
        report
    }

    /// A refusal of a frontend is remembered where it was made; after any other failure all is looked at.
    fn settle(&mut self, report: &Report) {
        self.settled = report.errors.len() == self.v4.refused() + self.v6.refused();
    }

    fn configure(&mut self, wanted: Config, report: &mut Report) {
        if wanted == self.held {
            return;
        }
        match self.config.set(&wanted) {
            Ok(()) => {
                self.held = wanted;
                report.table(names::CONFIG).changed = 1;
            }
            Err(error) => report.fail("the node's configuration".to_owned(), &error),
        }
    }
}
