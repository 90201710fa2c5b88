//! On which of a node's addresses NodePorts answer: a setting, as kube-proxy has it in its `--nodeport-addresses`.

use std::{collections::BTreeSet, fmt, str::FromStr};

use ipnet::IpNet;
use netpath_common::abi::service::{FLAG_NODE_PORT, FLAG_NODE_PORT_HERE};

use crate::family::Family;

/// The addresses that are chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// All of the node's, and for its own processes the loopback addresses.
    #[default]
    All,
    /// The node's InternalIP of each family.
    Primary,
    /// Those in one of these ranges; all of a family that no range is of. A range that has 127.0.0.1 or ::1 is one of the node's
    /// own processes'.
    In(Vec<IpNet>),
}

impl NodePortAddresses {
    /// The addresses of a node in a family, `primary` among them, on which NodePorts answer, and the flag that says of such a
    /// frontend whether all others answer too.
    pub(super) fn of<F: Family>(
        &self,
        own: &BTreeSet<F::Address>,
        primary: Option<F::Address>,
    ) -> (Vec<F::Address>, u16) {
        let every = || own.iter().copied();
        match self {
            Self::All => (every().collect(), FLAG_NODE_PORT),
            Self::Primary => (primary.into_iter().collect(), FLAG_NODE_PORT_HERE),
            Self::In(ranges) if !ranges.iter().any(|range| F::net(*range).is_some()) => {
                (every().collect(), FLAG_NODE_PORT)
            }
            Self::In(ranges) => {
                let is_in = |address: &F::Address| ranges.iter().any(|range| range.contains(&(*address).into()));
                let with_loopback = every().chain([F::LOOPBACK]);
                let chosen: Vec<F::Address> = with_loopback.filter(is_in).collect();
                match chosen.len() > own.len() {
                    true => (every().collect(), FLAG_NODE_PORT),
                    false => (chosen, FLAG_NODE_PORT_HERE),
                }
            }
        }
    }
}

impl FromStr for NodePortAddresses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "all" => return Ok(Self::All),
            "primary" => return Ok(Self::Primary),
            _ => {}
        }
        let read = |range: &str| {
            let net: IpNet = range.trim().parse().ok()?;
            (net == net.trunc()).then_some(net)
        };
        let ranges = text.split(',').map(read).collect::<Option<Vec<_>>>();
        let expected = "expected all, primary, or subnets such as 192.168.0.0/16,127.0.0.0/8";
        ranges.map(Self::In).ok_or_else(|| expected.to_owned())
    }
}

impl fmt::Display for NodePortAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Primary => f.write_str("primary"),
            Self::In(ranges) => {
                let ranges: Vec<String> = ranges.iter().map(IpNet::to_string).collect();
                f.write_str(&ranges.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_read_as_it_is_written() {
        for text in ["all", "primary", "10.0.0.0/8", "10.0.0.0/8,127.0.0.0/8,fd00::/8"] {
            assert_eq!(text.parse::<NodePortAddresses>().unwrap().to_string(), text);
        }
        for text in ["", "none", "10.0.0.1/8", "10.0.0.0/8,", "all,primary"] {
            let error = text.parse::<NodePortAddresses>().unwrap_err();
            assert!(
                error.starts_with("expected all, primary, or subnets"),
                "{text}: {error}"
            );
        }
    }
}
