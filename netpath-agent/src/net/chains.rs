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

/// A name that the kernel ends with a zero.
fn text(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next();
    String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let bytes = bytes.get(offset..offset + 2)?;
    bytes.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset + 4)?;
    bytes.try_into().ok().map(u32::from_ne_bytes)
}
