//! The memory of an agent that serves many services: what `/proc` says of a running one, once its maps have them all and it has
//! nothing more to do.

use std::{fmt::Write as _, net::Ipv4Addr, thread, time::Duration};

use anyhow::Result;

use super::{MEMORY, MEMORY_MOST};
use crate::bench::{
    process::mebibytes,
    report::Control,
    site::{self, Site, services::service_object},
};

/// How many services there are, and of how many backends of its own each. Each has a TCP and a UDP port.
const SOME: (u16, u8) = (1_000, 2);
const MOST: (u16, u8) = (30_000, 4);

/// How long the memory must stay the same to be that of an agent at rest.
const REST: Duration = Duration::from_secs(5);

/// Gives the site's agents ever more services, and reads the memory of the first.
///
/// # Errors
/// When the services do not arrive in the maps.
pub fn measure(site: &Site) -> Result<Vec<Control>> {
    Ok(vec![with(site, MEMORY, SOME)?, with(site, MEMORY_MOST, MOST)?])
}

fn with(site: &Site, what: &'static str, (services, backends): (u16, u8)) -> Result<Control> {
    let id = site.agent(0)?;
    let before = mebibytes(id, "VmRSS")?;
    let mut text = String::new();
    for number in 0..services {
        let [high, low] = number.to_be_bytes();
        let backends: Vec<Ipv4Addr> = (0..backends)
            .map(|place| Ipv4Addr::new(10, 200 + place, high, low))
            .collect();
        let object = service_object(&format!("many-{number}"), Ipv4Addr::new(10, 97, high, low), &backends);
        // Writing to a string does not fail.
        let _ = write!(text, "{object}");
    }
    site::write(&site.objects(), "many.yaml", &text)?;
    site.await_services(usize::from(services) * 2)?;
    let now = at_rest(id)?;
    let (most, anonymous) = (mebibytes(id, "VmHWM")?, mebibytes(id, "RssAnon")?);
    Ok(Control {
        what,
        value: now,
        unit: "MiB",
        how: format!("resident, {anonymous:.1} of it not the program file's; {most:.1} at most, {before:.1} before"),
    })
}

/// The memory that a process keeps: what it has once that no longer changes.
fn at_rest(id: u32) -> Result<f64> {
    let mut before = mebibytes(id, "VmRSS")?;
    loop {
        thread::sleep(REST);
        let now = mebibytes(id, "VmRSS")?;
        if (now - before).abs() < 0.5 {
            return Ok(now);
        }
        before = now;
    }
}
