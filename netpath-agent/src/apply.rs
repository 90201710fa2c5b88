//! The last step of an event's way: the maps brought to a plan, by the difference to what the kernel holds.
//!
//! The order keeps every packet between two whole states: a set of backends, or a list of clients, is written before a
//! frontend names it, and goes when no program can hold its number any more; routes are added before others go; the configuration names a prefix
//! length for as long as a route has it. On a fresh node the configuration comes last: until then the programs let
//! everything pass.

mod config;
mod family;
pub mod forget;
mod mirror;
mod report;
mod sets;
#[cfg(test)]
mod tests;

use netpath_common::{abi::config::Config, names};

use crate::{
    datapath::{config::NodeConfig, error::Result, pins::Pins, tables},
    family::{V4, V6},
    plan::Plan,
};

pub use report::{Changes, Failure, Report};

use family::Tables;

/// The maps that the agent owns, and what they hold.
pub struct Applier {
    config: NodeConfig,
    held: Config,
    v4: Tables<V4>,
    v6: Tables<V6>,
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
        report
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
