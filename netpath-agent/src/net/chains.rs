//! The packet filter's chains, by name: all that netpath looks at of it, and never changes.

mod legacy;
mod nftables;

use std::io;

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chain {
    /// The name of its table.
    pub table: String,
    /// Its own.
    pub name: String,
}

/// Every chain of the calling thread's network namespace: of nf_tables, all families; of iptables' older tables, IPv4 alone.
///
/// # Errors
/// The kernel refuses, as without CAP_NET_ADMIN.
pub fn chains() -> io::Result<Vec<Chain>> {
    let mut chains = nftables::chains()?;
    chains.extend(legacy::chains()?);
    Ok(chains)
}
