//! A netlink socket that waits: a question to the kernel, and its whole answer. For protocols of netlink that the asynchronous
//! one does not speak, and for whoever has no runtime.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use bytemuck::{Pod, Zeroable};
use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
            sockopt,
        },
        time::{TimeVal, TimeValLike},
    },
};

/// `NLM_F_REQUEST | NLM_F_DUMP` of `linux/netlink.h`: everything is asked for.
pub(super) const DUMP: u16 = 0x1 | 0x300;
/// `NLM_F_REQUEST | NLM_F_ACK`: something is to be done, and that is answered.
pub(super) const ACT: u16 = 0x1 | 0x4;
/// `NLMSG_ERROR` and `NLMSG_DONE` of `linux/netlink.h`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// How long the kernel may take to answer, in seconds.
const PATIENCE: i64 = 2;

/// `struct nlmsghdr`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Header {
    /// Of the message with its header, in bytes.
    length: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
}

/// The socket, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Exchange(OwnedFd);

impl Exchange {
    /// Opens it.
    ///
    /// # Errors
    /// EPROTONOSUPPORT if the kernel has no such protocol.
    pub(super) fn open(protocol: SockProtocol) -> io::Result<Self> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
        Ok(Self(socket))
    }

    /// Asks with a message of this kind, [`DUMP`] or [`ACT`]. Each message of the answer comes with its kind and what follows its
    /// header.
    ///
    /// # Errors
    /// The kernel's, and EAGAIN if it does not answer. What of an answer has not come is read with the next one, so that nothing more is
    /// to be asked here after the latter.
    pub(super) fn ask(&self, kind: u16, flags: u16, body: &[u8], mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        let header = Header {
            length: (size_of::<Header>() + body.len()) as u32,
            kind,
            flags,
            sequence: 0,
            port: 0,
        };
        let request = [bytemuck::bytes_of(&header), body].concat();
        sendto(self.0.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) if read(&buffer[..length], &mut each)? => return Ok(()),
                // A socket with a patience is interrupted by every signal (signal(7)).
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Takes the messages of a datagram; `true` if it ends the answer.
fn read(mut datagram: &[u8], each: &mut impl FnMut(u16, &[u8])) -> io::Result<bool> {
    while let Some(header) = datagram.first_chunk::<{ size_of::<Header>() }>() {
        let header: Header = bytemuck::pod_read_unaligned(header);
        let length = header.length as usize;
        let Some(message) = datagram.get(size_of::<Header>()..length) else {
            break;
        };
        if let ERROR | DONE = header.kind {
            let code = message.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
            return match code {
                0.. => Ok(true),
                code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
            };
        }
        each(header.kind, message);
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of a kind with a body.
    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let header = Header {
            length: (size_of::<Header>() + body.len()) as u32,
            kind,
            flags: 0,
            sequence: 0,
            port: 0,
        };
        let mut message = [bytemuck::bytes_of(&header), body].concat();
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    fn took(datagram: &[u8]) -> (io::Result<bool>, Vec<(u16, Vec<u8>)>) {
        let mut messages = Vec::new();
        let end = read(datagram, &mut |kind, body: &[u8]| messages.push((kind, body.to_vec())));
        (end, messages)
    }

    #[test]
    fn an_answer_ends_with_its_last_message_or_with_an_error() {
        let two = [message(20, b"first"), message(21, b"")].concat();
        let both = vec![(20, b"first".to_vec()), (21, Vec::new())];
        let (end, messages) = took(&two);
        assert!(!end.unwrap());
        assert_eq!(messages, both);
        for (kind, body) in [(DONE, &[0; 4][..]), (DONE, &[]), (ERROR, &[0; 20])] {
            let (end, messages) = took(&[&two[..], &message(kind, body), &two].concat());
            assert!(end.unwrap());
            assert_eq!(messages, both);
        }
        for kind in [DONE, ERROR] {
            let (end, _) = took(&message(kind, &(-2i32).to_ne_bytes()));
            assert_eq!(end.unwrap_err().raw_os_error(), Some(2));
        }
    }

    #[test]
    fn broken_answers_end_and_do_no_harm() {
        let mut datagram = [message(20, b"first"), message(ERROR, &i32::MIN.to_ne_bytes())].concat();
        for length in 0..datagram.len() {
            let _ = took(&datagram[..length]);
        }
        for position in 0..datagram.len() {
            for value in [0, 1, 0xff] {
                let kept = std::mem::replace(&mut datagram[position], value);
                let _ = took(&datagram);
                datagram[position] = kept;
            }
        }
    }
}
