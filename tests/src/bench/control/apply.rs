//! Ten thousand services with two backends each, from empty maps to the last entry, and one service changed among them:
//! the agent's own apply on maps under a root of their own.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use netpath_agent::{
    apply::Applier,
    datapath::{load, pins::Pins, sizes::Sizes},
    family::V4,
    plan::{Plan, ServicePlan},
};
use netpath_common::abi::service::v4::{Backend, Frontend};

use super::{APPLY, CHANGE};
use crate::{bench::report::Control, lab::home::Home};

/// Services.
const SERVICES: u16 = 10_000;
/// Times of which the shortest counts.
const TIMES: usize = 3;

/// Programs them.
///
/// # Errors
/// When the maps cannot be made, or refuse an entry.
pub fn measure() -> Result<Vec<Control>> {
    let home = Home::unique()?;
    let (mut all, mut one) = (Duration::MAX, Duration::MAX);
    let mut entries = 0;
    for time in 0..TIMES {
        let pins = Pins::new(home.bpf_root().join(format!("apply{time}")));
        load::load(&pins, &Sizes::default())?;
        let mut applier = Applier::adopt(&pins)?;
        let mut plan = Plan::default();
        plan.v4.services = services();
        let (spent, added) = apply(&mut applier, &plan)?;
        (all, entries) = (all.min(spent), added);
        // A rolling update: one backend leaves.
        let changed = plan
            .v4
            .services
            .values_mut()
            .nth(usize::from(SERVICES) / 2)
            .context("no services")?;
        *changed = ServicePlan::alike(changed.flags, &changed.backends[..1]);
        one = one.min(apply(&mut applier, &plan)?.0);
    }
    Ok(vec![
        Control {
            what: APPLY,
            value: all.as_secs_f64(),
            unit: "s",
            how: format!("{entries} entries; shortest of {TIMES}"),
        },
        Control {
            what: CHANGE,
            value: one.as_secs_f64() * 1e3,
            unit: "ms",
            how: format!("the whole plan compared; shortest of {TIMES}"),
        },
    ])
}

/// Brings the maps to a plan; how long that took, and how many entries are new.
fn apply(applier: &mut Applier, plan: &Plan) -> Result<(Duration, usize)> {
    let start = Instant::now();
    let report = applier.apply(plan);
    let spent = start.elapsed();
    let refused = report
        .errors
        .first()
        .map(|failure| format!("{}: {}", failure.object, failure.reason));
    ensure!(refused.is_none(), "{}", refused.unwrap_or_default());
    Ok((spent, report.total().added))
}

fn services() -> BTreeMap<Frontend, ServicePlan<V4>> {
    let service = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let frontend = Frontend {
            address: [10, 96, high, low],
            port: 80,
            protocol: 6,
            ..Frontend::default()
        };
        // No two services share their backends.
        let backend = |node: u8| Backend {
            address: Ipv4Addr::new(10, 100 + node, high, low).octets(),
            port: 8080,
            ..Backend::default()
        };
        (frontend, ServicePlan::alike(0, [backend(0), backend(1)]))
    };
    (0..SERVICES).map(service).collect()
}
