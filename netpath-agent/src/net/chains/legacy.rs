//! The chains of `iptables-legacy`, by the socket options that it uses itself. Only tables that are there are asked for: the
//! kernel would make any other for the question.

use std::fs;
use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::{Chain, text, u16_at, u32_at};
use crate::datapath::sys;

/// The tables of the reader's network namespace, a line each.
const TABLES: &str = "/proc/thread-self/net/ip_tables_names";
/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES` of `linux/netfilter_ipv4/ip_tables.h`.
const GET_INFO: i32 = 64;
const GET_ENTRIES: i32 = 65;
/// Room for a table's name, in bytes (`XT_TABLE_MAXNAMELEN`).
const TABLE_NAME: usize = 32;
/// `struct ipt_getinfo`: its length, and where it has the length of all entries.
const INFO: usize = 84;
const INFO_SIZE: usize = 80;
/// `struct ipt_get_entries` without the entries, and where it has their length.
const ENTRIES: usize = 40;
const ENTRIES_SIZE: usize = 32;
/// `struct ipt_entry`: where it has the offset of its target, and that of the next entry.
const TARGET_OFFSET: usize = 88;
const NEXT_OFFSET: usize = 90;
/// `struct xt_error_target`: the target's name, and that of the chain which begins with it.
const TARGET_NAME: usize = 2;
const CHAIN_NAME: usize = 32;
/// The target of an entry that begins a chain, or ends the table.
const ERROR: &str = "ERROR";

/// Every chain. None where no such table is in use.
///
/// # Errors
/// The kernel refuses, as without CAP_NET_ADMIN.
pub(super) fn chains() -> io::Result<Vec<Chain>> {
    let tables = match fs::read_to_string(TABLES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        tables => tables?,
    };
    let mut chains = Vec::new();
    for table in tables.lines().filter(|table| table.len() < TABLE_NAME) {
        let names = names(&entries(table)?);
        chains.extend(names.into_iter().map(|name| Chain {
            table: format!("{table} of iptables-legacy,"),
            name,
        }));
    }
    Ok(chains)
}

/// A table's entries, as the kernel lays them out.
fn entries(table: &str) -> io::Result<Vec<u8>> {
    // Any socket of the family will do for the question.
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut info = [0; INFO];
    info[..table.len()].copy_from_slice(table.as_bytes());
    sys::ip_option(socket.as_fd(), GET_INFO, &mut info)?;
    let length = u32_at(&info, INFO_SIZE).unwrap_or_default();
    let mut answer = vec![0; ENTRIES + length as usize];
    answer[..table.len()].copy_from_slice(table.as_bytes());
    answer[ENTRIES_SIZE..ENTRIES_SIZE + 4].copy_from_slice(&length.to_ne_bytes());
    // A table that changed in between is not of the length that was said: looked at again in the next round.
    sys::ip_option(socket.as_fd(), GET_ENTRIES, &mut answer)?;
    answer.drain(..ENTRIES);
    Ok(answer)
}

/// The chains that begin in a table's entries.
fn names(mut entries: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    while let (Some(target), Some(next)) = (u16_at(entries, TARGET_OFFSET), u16_at(entries, NEXT_OFFSET)) {
        let target = entries.get(usize::from(target)..).unwrap_or_default();
        if text(target.get(TARGET_NAME..).unwrap_or_default()) == ERROR {
            let name = text(target.get(CHAIN_NAME..).unwrap_or_default());
            // The last entry of all, after the chains, has the target's name for its own.
            if name != ERROR {
                names.push(name);
            }
        }
        match entries.get(usize::from(next)..) {
            Some(rest) if next > 0 => entries = rest,
            _ => break,
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_entries_end() {
        // An entry whose target begins right after it, and names a chain.
        let mut entry = vec![0; 176];
        entry[TARGET_OFFSET] = 112;
        entry[NEXT_OFFSET] = 176;
        entry[112 + TARGET_NAME..][..5].copy_from_slice(b"ERROR");
        entry[112 + CHAIN_NAME..][..13].copy_from_slice(b"KUBE-SERVICES");
        assert_eq!(names(&entry), ["KUBE-SERVICES"]);
        for length in 0..entry.len() {
            names(&entry[..length]);
        }
        for value in [0, 1, 90, 0xff] {
            for offset in [TARGET_OFFSET, TARGET_OFFSET + 1, NEXT_OFFSET, NEXT_OFFSET + 1] {
                let kept = std::mem::replace(&mut entry[offset], value);
                names(&entry);
                entry[offset] = kept;
            }
        }
    }
}
