//! The memory of an agent that serves many services: what `/proc` says of a running one, once its maps have them all.

use std::{fmt::Write as _, net::Ipv4Addr};

use anyhow::Result;

use super::MEMORY;
use crate::bench::{
    process::mebibytes,
    report::Control,
    site::{self, Site},
};

/// Services, each with a TCP and a UDP port and two backends of its own.
const SERVICES: u16 = 1_000;

/// Gives the site's agents a thousand services and reads the memory of the first.
///
/// # Errors
/// When the services do not arrive in the maps.
pub fn measure(site: &Site) -> Result<Control> {
    let id = site.agent(0)?;
    let before = mebibytes(id, "VmRSS")?;
    let mut text = String::new();
    for number in 0..SERVICES {
        let [high, low] = number.to_be_bytes();
        let (column, row) = ((number % 200) as u8, (number / 200) as u8);
        let backends = [
            Ipv4Addr::new(10, 244, 1, 10 + column),
            Ipv4Addr::new(10, 244, 2, 10 + row),
        ];
        let object = site::service_object(&format!("many-{number}"), Ipv4Addr::new(10, 97, high, low), &backends);
        // Writing to a string does not fail.
        let _ = write!(text, "{object}");
    }
    site::write(&site.objects(), "many.yaml", &text)?;
    site.await_services(usize::from(SERVICES) * 2)?;
    let (now, most, anonymous) = (
        mebibytes(id, "VmRSS")?,
        mebibytes(id, "VmHWM")?,
        mebibytes(id, "RssAnon")?,
    );
    Ok(Control {
        what: MEMORY,
        value: now,
        unit: "MiB",
        how: format!(
            "resident, {anonymous:.1} of it not the program file's; {most:.1} at most, {before:.1} with two services"
        ),
    })
}
