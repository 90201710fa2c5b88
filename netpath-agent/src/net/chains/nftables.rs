//! The chains of nf_tables, over netlink. The iptables that most systems have (`iptables-nft`) keeps its chains here too.

use std::io;

use nix::{libc, sys::socket::SockProtocol};

use super::{Chain, text, u16_at};
use crate::net::exchange::{DUMP, Exchange};

/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN` of `linux/netfilter/nfnetlink.h` and `nf_tables.h`.
const GET_CHAIN: u16 = 10 << 8 | 4;
/// The same with `NFT_MSG_NEWCHAIN`, as a chain is answered.
const CHAIN: u16 = 10 << 8 | 3;
/// `NFTA_CHAIN_TABLE` and `NFTA_CHAIN_NAME` of `linux/netfilter/nf_tables.h`.
const TABLE: u16 = 1;
const NAME: u16 = 3;
/// The bits of an attribute's type that are not its number.
const TYPE_MASK: u16 = 0x3fff;
/// Length of `struct nfgenmsg`, in bytes: family, version and resource. All zero it stands for all families (`NFPROTO_UNSPEC`).
const GENERIC: usize = 4;

/// Every chain of the calling thread's network namespace, of all families. None where the kernel has no nf_tables.
///
/// # Errors
/// The kernel refuses, as without CAP_NET_ADMIN.
pub(super) fn chains() -> io::Result<Vec<Chain>> {
    let mut chains = Vec::new();
    let asked = Exchange::open(SockProtocol::NetlinkNetFilter).and_then(|socket| {
        socket.ask(GET_CHAIN, DUMP, &[0; GENERIC], |kind, message| {
            if kind == CHAIN {
                chains.extend(chain(message.get(GENERIC..).unwrap_or_default()));
            }
        })
    });
    match asked {
        Ok(()) => Ok(chains),
        // The module is not there, and so is no chain.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EPROTONOSUPPORT | libc::EINVAL | libc::EOPNOTSUPP)
            ) =>
        {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

fn chain(mut attributes: &[u8]) -> Option<Chain> {
    let (mut table, mut name) = (None, None);
    while let (Some(length), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let length = usize::from(length);
        let value = attributes.get(4..length)?;
        match kind & TYPE_MASK {
            TABLE => table = Some(text(value)),
            NAME => name = Some(text(value)),
            _ => {}
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(Chain {
        table: table?,
        name: name?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_answers_end_and_do_no_harm() {
        // A chain's attributes, as the kernel of the machine that this was written on sent them.
        let mut attributes = vec![
            8, 0, 1, 0, b'n', b'a', b't', 0, // table
            18, 0, 3, 0, b'K', b'U', b'B', b'E', b'-', b'S', b'E', b'R', b'V', b'I', b'C', b'E', b'S', 0, 0,
            0, // name
            12, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, // handle
        ];
        let expected = Chain {
            table: "nat".into(),
            name: "KUBE-SERVICES".into(),
        };
        assert_eq!(chain(&attributes), Some(expected));
        for length in 0..attributes.len() {
            let _ = chain(&attributes[..length]);
        }
        for position in 0..attributes.len() {
            for value in [0, 1, 0xff] {
                let kept = std::mem::replace(&mut attributes[position], value);
                let _ = chain(&attributes);
                attributes[position] = kept;
            }
        }
    }
}
