//! How the values of settings are read: each of one setting alone. What is wrong is said with what is accepted.

use std::ops::RangeInclusive;

use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

/// Fewer ports than this would make source NAT fail under little load.
const LEAST_NAT_PORTS: usize = 64;

/// A DNS subdomain, as RFC 1123 and the API have it.
pub(super) fn node_name(name: &str) -> Result<String, String> {
    let part = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    if name.len() <= 253 && name.split('.').all(part) {
        Ok(name.to_owned())
    } else {
        Err("expected a Node's name: lower case letters, digits, '-' and '.', at most 253 of them".into())
    }
}

/// A device's name, as the kernel has it.
pub(super) fn device(name: &str) -> Result<String, String> {
    let odd = |character: char| character == '/' || character == ':' || character.is_whitespace();
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.contains(odd) {
        return Err("expected a device's name: 1 to 15 bytes without '/', ':' and spaces".into());
    }
    Ok(name.to_owned())
}

pub(super) fn cidr(text: &str) -> Result<IpNet, String> {
    let net: IpNet = text
        .trim()
        .parse()
        .map_err(|_| "expected a subnet such as 10.96.0.0/12".to_owned())?;
    if net != net.trunc() {
        return Err(format!("bits beyond the prefix are set; did you mean {}?", net.trunc()));
    }
    Ok(net)
}

pub(super) fn nat_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let expected = || format!("expected FIRST-LAST, both from 1024 to 65535, at least {LEAST_NAT_PORTS} ports");
    let range = ports(text).ok_or_else(expected)?;
    if *range.start() < 1024 || range.len() < LEAST_NAT_PORTS {
        return Err(expected());
    }
    Ok(range)
}

pub(super) fn node_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let range = ports(text).filter(|range| *range.start() > 0);
    range.ok_or_else(|| "expected FIRST-LAST, both from 1 to 65535, as the API server has it".into())
}

fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-')?;
    let range = first.trim().parse().ok()?..=last.trim().parse().ok()?;
    (!range.is_empty()).then_some(range)
}

pub(super) fn log_filter(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!(
            "{error}; expected a level (error, warn, info, debug, trace) or \"info,module=debug\""
        )),
    }
}
