//! The chains of nf_tables, over netlink. The iptables that most systems have (`iptables-nft`) keeps its chains here too.

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::{Chain, text, u16_at, u32_at};

/// `NLM_F_REQUEST | NLM_F_DUMP` of `linux/netlink.h`.
const DUMP: u16 = 0x1 | 0x300;
/// `NLMSG_ERROR` and `NLMSG_DONE` of `linux/netlink.h`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN` of `linux/netfilter/nfnetlink.h` and `nf_tables.h`.
const GET_CHAIN: u16 = 10 << 8 | 4;
/// The same with `NFT_MSG_NEWCHAIN`, as a chain is answered.
const CHAIN: u16 = 10 << 8 | 3;
/// `NFTA_CHAIN_TABLE` and `NFTA_CHAIN_NAME` of `linux/netfilter/nf_tables.h`.
const TABLE: u16 = 1;
const NAME: u16 = 3;
/// The bits of an attribute's type that are not its number.
const TYPE_MASK: u16 = 0x3fff;
/// Lengths of `struct nlmsghdr` and `struct nfgenmsg`, in bytes.
const HEADER: usize = 16;
const GENERIC: usize = 4;
/// How long the kernel may take to answer, in seconds.
const PATIENCE: i64 = 2;

/// Every chain of the calling thread's network namespace, of all families. None where the kernel has no nf_tables.
///
/// # Errors
/// The kernel refuses, as without CAP_NET_ADMIN.
pub(super) fn chains() -> io::Result<Vec<Chain>> {
    let socket = match socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    ) {
        Err(nix::Error::EPROTONOSUPPORT) => return Ok(Vec::new()),
        socket => socket?,
    };
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
    sendto(
        socket.as_raw_fd(),
        &request(),
        &NetlinkAddr::new(0, 0),
        MsgFlags::empty(),
    )?;
    let mut chains = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        match read(&buffer[..length], &mut chains) {
            Ok(true) => return Ok(chains),
            Ok(false) => {}
            // The module is not there, and so is no chain.
            Err(error) if matches!(error.raw_os_error(), Some(nix::libc::EINVAL | nix::libc::EOPNOTSUPP)) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        }
    }
}

/// All chains of all families (`NFPROTO_UNSPEC`).
fn request() -> Vec<u8> {
    let mut request = Vec::with_capacity(HEADER + GENERIC);
    request.extend_from_slice(&((HEADER + GENERIC) as u32).to_ne_bytes());
    request.extend_from_slice(&GET_CHAIN.to_ne_bytes());
    request.extend_from_slice(&DUMP.to_ne_bytes());
    // Sequence number and port, then family, version and resource: all zero.
    request.resize(HEADER + GENERIC, 0);
    request
}

/// Takes the chains of a datagram; `true` if it ends the answer.
fn read(mut datagram: &[u8], chains: &mut Vec<Chain>) -> io::Result<bool> {
    while let (Some(length), Some(kind)) = (u32_at(datagram, 0), u16_at(datagram, 4)) {
        let length = length as usize;
        let Some(message) = datagram.get(HEADER..length) else {
            break;
        };
        match kind {
            DONE => return Ok(true),
            ERROR => match u32_at(message, 0).map(|code| code as i32) {
                Some(0) | None => {}
                Some(code) => return Err(io::Error::from_raw_os_error(-code)),
            },
            CHAIN => chains.extend(chain(message.get(GENERIC..).unwrap_or_default())),
            _ => {}
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
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
        // A chain in a message, as the kernel of the machine that this was written on sent it.
        let mut message = vec![
            0x3c, 0, 0, 0, 3, 10, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, // header
            2, 0, 0, 0, // family, version, resource
            8, 0, 1, 0, b'n', b'a', b't', 0, // table
            18, 0, 3, 0, b'K', b'U', b'B', b'E', b'-', b'S', b'E', b'R', b'V', b'I', b'C', b'E', b'S', 0, 0,
            0, // name
            12, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, // handle
        ];
        let mut chains = Vec::new();
        assert!(!read(&message, &mut chains).unwrap());
        let expected = Chain {
            table: "nat".into(),
            name: "KUBE-SERVICES".into(),
        };
        assert_eq!(chains, [expected]);
        for length in 0..message.len() {
            let _ = read(&message[..length], &mut Vec::new());
        }
        for position in 0..message.len() {
            for value in [0, 1, 0xff] {
                let kept = std::mem::replace(&mut message[position], value);
                let _ = read(&message, &mut Vec::new());
                message[position] = kept;
            }
        }
        let error = [
            20u8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
        ];
        assert_eq!(read(&error, &mut chains).unwrap_err().raw_os_error(), Some(1));
    }
}
