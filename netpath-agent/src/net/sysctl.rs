//! What netpath asks of sysctls: that the node forwards, and that ports of source NAT are kept from its own sockets.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::before::{self, Setting};
use super::ports::Ports;
use super::proc::{file, path, read, sysctl, write};
use super::{Error, Result};
use crate::family::{Family, V4, V6};

/// Ports that the kernel gives no socket by itself.
const RESERVED: &str = "ipv4/ip_local_reserved_ports";
/// The first and the last port that the kernel gives sockets by itself.
const LOCAL_RANGE: &str = "ipv4/ip_local_port_range";
/// The value of a switch that is on.
const ON: &str = "1";
/// Reverse path filters: a packet's source must be routed over the device it came from, or over any.
const STRICT: &str = "1";
const LOOSE: &str = "2";
/// When a device takes router advertisements.
const UNLESS_FORWARDING: &str = "1";
const ALWAYS: &str = "2";

/// Lets the node forward in a family, and lets packets come back another way than the kernel would send them, on each device.
/// What this changes is remembered in the folder `state`, for [`super::before::changed`].
///
/// # Errors
/// [`Error::Sysctl`].
pub fn prepare<F: Family>(devices: &[&str], state: &Path) -> Result<()> {
    let all = format!("{}/conf", F::SYSCTLS);
    let followers = followers::<F>()?;
    // Before the node forwards: it would forget the routes that it has from advertisements.
    let mut settings = advertised(&followers);
    settings.push((F::FORWARD.to_owned(), ON));
    let strict_everywhere = read(&format!("{all}/all/rp_filter")).is_ok_and(|value| value == STRICT);
    for device in devices {
        // Dots in a device's name are no separators in its path; slashes are not allowed in names.
        settings.push((format!("{all}/{device}/forwarding"), ON));
        // The stricter of "all" and the device's own would hold, but 2 (loose) counts as more than 1 (strict). IPv6 has none.
        let own = format!("{all}/{device}/rp_filter");
        if read(&own).is_ok_and(|value| value == STRICT || strict_everywhere) {
            settings.push((own, LOOSE));
        }
        // A device that came later. IPv4 has none.
        let own = format!("{all}/{device}/accept_ra");
        if read(&own).is_ok_and(|value| value == UNLESS_FORWARDING) {
            settings.push((own, ALWAYS));
        }
    }
    before::remember(&settings, &followers, state)?;
    settings.iter().try_for_each(|(name, value)| set(name, value))
}

/// Has the kernel take what comes in by a device under the node's own address. A program there translates packets to it that only
/// the kernel can cut, and hands them on; to the kernel they look forged. Those that are, the program drops.
///
/// # Errors
/// [`Error::Sysctl`].
pub fn accept_own(device: &str, state: &Path) -> Result<()> {
    let name = format!("{}/conf/{device}/accept_local", V4::SYSCTLS);
    before::remember(&[(name.clone(), ON)], &[], state)?;
    set(&name, ON)
}

/// What the kernel sets by itself when it is told to forward: every device does, those to come as well, and redirects are no
/// longer taken in IPv4. Nothing, if it forwards already.
fn followers<F: Family>() -> Result<Vec<Setting>> {
    if read(F::FORWARD)? == ON {
        return Ok(Vec::new());
    }
    let folder = path(&format!("{}/conf", F::SYSCTLS));
    let mut settings: Vec<Setting> = Vec::new();
    if F::SYSCTLS == V4::SYSCTLS {
        settings.push((format!("{}/conf/all/accept_redirects", F::SYSCTLS), "0"));
    }
    for entry in fs::read_dir(&folder).map_err(|source| file(&folder, source))?.flatten() {
        if let Some(device) = entry.file_name().to_str().filter(|name| *name != "all") {
            settings.push((format!("{}/conf/{device}/forwarding", F::SYSCTLS), ON));
        }
    }
    Ok(settings)
}

/// Of devices that are about to forward: those that take a router's word for addresses and routes go on to
/// (`accept_ra` in the kernel's ip-sysctl). IPv4 has nothing of the kind.
fn advertised(followers: &[Setting]) -> Vec<Setting> {
    let devices = followers
        .iter()
        .filter_map(|(name, _)| name.strip_suffix("/forwarding"));
    let devices = devices.filter(|device| !device.ends_with("/default"));
    let settings = devices.map(|device| format!("{device}/accept_ra"));
    settings
        .filter(|name| read(name).is_ok_and(|value| value == UNLESS_FORWARDING))
        .map(|name| (name, ALWAYS))
        .collect()
}

/// Has a device of netpath's take part in IPv6, whatever is the default, and believe nobody behind it who claims to be a
/// router.
///
/// # Errors
/// [`Error::Sysctl`].
pub fn speak_ipv6(device: &str) -> Result<()> {
    let of = |name: &str| format!("{}/conf/{device}/{name}", V6::SYSCTLS);
    set(&of("disable_ipv6"), "0")?;
    set(&of("accept_ra"), "0")
}

/// Keeps the kernel from giving a device an IPv6 link-local address, and from announcing it there. Nothing to do in a kernel
/// without IPv6.
///
/// # Errors
/// [`Error::Sysctl`].
pub fn no_link_local(device: &str) -> Result<()> {
    const NONE: &str = "1";
    match set(&format!("ipv6/conf/{device}/addr_gen_mode"), NONE) {
        Err(Error::Sysctl { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The file that remembers which reserved ports are netpath's.
fn record(state: &Path) -> PathBuf {
    state.join("reserved-ports")
}

/// Keeps the ports of source NAT from the node's own sockets. What this adds to the kernel's list is remembered in the
/// folder `state`, for [`release_ports`]; a range of an earlier start that is no longer wanted is given back.
///
/// # Errors
/// [`Error::Sysctl`].
pub fn reserve_ports(range: &RangeInclusive<u16>, state: &Path) -> Result<()> {
    let wanted = Ports::from(range.clone());
    let present = reserved()?;
    let ours = recorded(state)?;
    let foreign = present.without(&ours);
    let next = foreign.with(&wanted);
    let record = record(state);
    fs::write(&record, wanted.without(&foreign).to_string()).map_err(|source| file(&record, source))?;
    if next == present {
        Ok(())
    } else {
        write(RESERVED, &next.to_string())
    }
}

/// Gives back what [`reserve_ports`] added. Does nothing where nothing is remembered.
///
/// # Errors
/// [`Error::Sysctl`].
pub fn release_ports(state: &Path) -> Result<()> {
    let ours = recorded(state)?;
    if !ours.is_empty() {
        let present = reserved()?;
        let next = present.without(&ours);
        if next != present {
            write(RESERVED, &next.to_string())?;
        }
    }
    let record = record(state);
    match fs::remove_file(&record) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(file(&record, error)),
        _ => Ok(()),
    }
}

/// The least number of ports that the node's own sockets should have.
const LEAST_LOCAL_PORTS: usize = 1024;

/// Warns, with the remedy, where source NAT leaves the node's own sockets next to no ports.
///
/// # Errors
/// [`Error::Sysctl`].
pub fn port_warning(range: &RangeInclusive<u16>) -> Result<Option<String>> {
    let text = read(LOCAL_RANGE)?;
    let local = local_range(&text).ok_or_else(|| malformed(LOCAL_RANGE, &text))?;
    let nat = Ports::from(range.clone());
    let left = Ports::from(local.clone()).without(&nat).without(&reserved()?).len();
    if left >= LEAST_LOCAL_PORTS {
        return Ok(None);
    }
    Ok(Some(format!(
        "net.ipv4.ip_local_port_range {}-{} leaves the node's own sockets {left} ports beside --nat-ports {}-{}: widen it \
         (`sysctl net.ipv4.ip_local_port_range=\"32768 60999\"`) or narrow --nat-ports",
        local.start(),
        local.end(),
        range.start(),
        range.end(),
    )))
}

fn local_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_whitespace().map(str::parse);
    Some(numbers.next()?.ok()?..=numbers.next()?.ok()?)
}

fn reserved() -> Result<Ports> {
    let text = read(RESERVED)?;
    text.parse().map_err(|_| malformed(RESERVED, &text))
}

/// The reserved ports that are netpath's.
///
/// # Errors
/// [`Error::Sysctl`] if the record cannot be read.
pub fn recorded(state: &Path) -> Result<Ports> {
    let record = record(state);
    match fs::read_to_string(&record) {
        Ok(text) => Ok(text.parse().unwrap_or_default()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Ports::default()),
        Err(error) => Err(file(&record, error)),
    }
}

fn set(name: &str, value: &str) -> Result<()> {
    if read(name)? == value {
        Ok(())
    } else {
        write(name, value)
    }
}

fn malformed(name: &str, text: &str) -> Error {
    sysctl(
        name,
        std::io::Error::new(std::io::ErrorKind::InvalidData, format!("{text:?} is not understood")),
    )
}
