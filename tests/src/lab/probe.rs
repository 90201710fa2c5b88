//! Questions to [`super::pod`]'s servers, asked from inside a namespace: HTTP, UDP, ICMP echo, each with its latency.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type};
use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recvfrom, sendto, setsockopt,
            socket,
            sockopt::{ReceiveTimeout, UdpGsoSegment},
        },
        time::{TimeVal, TimeValLike},
    },
};

use super::{namespace::Namespace, pod::Answer};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// An answer and how long it took.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The answer.
    pub answer: Answer,
    /// From the first packet sent to the whole answer.
    pub latency: Duration,
}

/// `GET /` on a connection of its own.
///
/// # Errors
/// No connection, no answer in time, or one that is no [`Answer`].
pub fn http(from: &Namespace, to: SocketAddr) -> Result<Heard> {
    from.run(|| get(to))
}

/// [`http`] from the calling thread's namespace.
///
/// # Errors
/// As [`http`].
pub fn get(to: SocketAddr) -> Result<Heard> {
    let start = Instant::now();
    let body = exchange(to, "/", b"", PATIENCE)?;
    Ok(Heard {
        answer: serde_json::from_slice(&body).context("the answer")?,
        latency: start.elapsed(),
    })
}

/// The body of what a server answers to `GET` of a path, on a connection of its own from the calling thread's namespace.
///
/// # Errors
/// No connection, no answer in time, or another status than 200.
pub fn get_path(to: SocketAddr, path: &str, patience: Duration) -> Result<Vec<u8>> {
    exchange(to, path, b"", patience)
}

/// Sends `bytes` in a request's body.
///
/// # Errors
/// As [`http`], or the server got another number of bytes.
pub fn upload(from: &Namespace, to: SocketAddr, bytes: usize) -> Result<Duration> {
    from.run(|| {
        let start = Instant::now();
        let answer: Answer = serde_json::from_slice(&exchange(to, "/", &vec![b'.'; bytes], PATIENCE)?)?;
        if answer.bytes != bytes as u64 {
            bail!("sent {bytes} bytes, the server got {}", answer.bytes);
        }
        Ok(start.elapsed())
    })
}

/// Asks for `bytes` of answer.
///
/// # Errors
/// As [`http`], or another number of bytes came.
pub fn download(from: &Namespace, to: SocketAddr, bytes: usize) -> Result<Duration> {
    from.run(|| {
        let start = Instant::now();
        let got = exchange(to, &format!("/bytes/{bytes}"), b"", PATIENCE)?.len();
        if got != bytes {
            bail!("asked for {bytes} bytes, got {got}");
        }
        Ok(start.elapsed())
    })
}

/// One datagram, one answer. A lost datagram is an error: nothing is sent twice.
///
/// # Errors
/// No answer in time, a refusal, or an answer that is none.
pub fn udp(from: &Namespace, to: SocketAddr) -> Result<Heard> {
    from.run(|| {
        let start = Instant::now();
        let answer = datagram(to, b"probe")?;
        Ok(Heard {
            answer,
            latency: start.elapsed(),
        })
    })
}

/// Hands the kernel one buffer that it sends as `count` datagrams of `size` bytes each (UDP_SEGMENT): the length of each that
/// the server got, as it answered.
///
/// # Errors
/// The kernel refuses, or fewer answers than datagrams came.
pub fn segmented(from: &Namespace, to: SocketAddr, count: usize, size: usize) -> Result<Vec<u64>> {
    from.run(|| {
        let socket = UdpSocket::bind(any(to))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        setsockopt(&socket, UdpGsoSegment, &i32::try_from(size)?)?;
        socket.send(&vec![b'.'; count * size])?;
        let mut lengths = Vec::new();
        let mut buffer = [0; 2048];
        for _ in 0..count {
            let length = socket
                .recv(&mut buffer)
                .map_err(|error| told(error, PATIENCE, &format!("{} of {count} answers", lengths.len())))?;
            lengths.push(serde_json::from_slice::<Answer>(&buffer[..length])?.bytes);
        }
        Ok(lengths)
    })
}

/// An ICMP echo with `size` bytes of payload.
///
/// # Errors
/// No reply in time, or no route.
pub fn icmp(from: &Namespace, to: impl Into<IpAddr>, size: usize) -> Result<Duration> {
    static SEQUENCE: AtomicU16 = AtomicU16::new(1);
    let to = to.into();
    let echo = IcmpEchoHeader {
        id: u16::try_from(std::process::id() & 0xffff)?,
        seq: SEQUENCE.fetch_add(1, Ordering::Relaxed),
    };
    let payload = vec![b'.'; size];
    let (family, protocol, header) = match to {
        IpAddr::V4(_) => {
            let header = Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), &payload);
            (AddressFamily::Inet, SockProtocol::Icmp, header.to_bytes().to_vec())
        }
        // The kernel sums these itself.
        IpAddr::V6(_) => {
            let header = Icmpv6Header::new(Icmpv6Type::EchoRequest(echo));
            (AddressFamily::Inet6, SockProtocol::IcmpV6, header.to_bytes().to_vec())
        }
    };
    from.run(|| {
        let raw = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        let patience = TimeVal::milliseconds(PATIENCE.as_millis().try_into()?);
        setsockopt(&raw, ReceiveTimeout, &patience)?;
        let packet = [&header[..], &payload].concat();
        let start = Instant::now();
        let address = SockaddrStorage::from(SocketAddr::new(to, 0));
        sendto(raw.as_raw_fd(), &packet, &address, MsgFlags::empty())?;
        let mut buffer = vec![0; usize::from(u16::MAX)];
        // A raw socket hears every ICMP packet of its namespace.
        while start.elapsed() < PATIENCE {
            let (length, sender) = match recvfrom::<SockaddrStorage>(raw.as_raw_fd(), &mut buffer) {
                Ok(heard) => heard,
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let sender = sender.and_then(|sender| ip_of(&sender));
            match Message::read(to, &buffer[..length]) {
                Some(Message::Reply(reply, rest)) if reply == echo && sender == Some(to) => {
                    if rest != payload {
                        bail!("the reply's {} bytes are not the request's {size}", rest.len());
                    }
                    return Ok(start.elapsed());
                }
                Some(Message::Unreachable(why)) => bail!("{sender:?}: {why}"),
                _ => {}
            }
        }
        bail!("no reply in {PATIENCE:?}")
    })
}

/// What a raw socket hears.
enum Message<'a> {
    Reply(IcmpEchoHeader, &'a [u8]),
    Unreachable(String),
}

impl<'a> Message<'a> {
    /// A packet of the family of `to`, which over IPv4 alone comes with its header.
    fn read(to: IpAddr, packet: &'a [u8]) -> Option<Self> {
        match to {
            IpAddr::V4(_) => {
                let header_len = usize::from(packet.first()? & 0x0f) * 4;
                let (icmp, rest) = Icmpv4Header::from_slice(packet.get(header_len..)?).ok()?;
                match icmp.icmp_type {
                    Icmpv4Type::EchoReply(reply) => Some(Self::Reply(reply, rest)),
                    Icmpv4Type::DestinationUnreachable(why) => Some(Self::Unreachable(format!("{why:?}"))),
                    _ => None,
                }
            }
            IpAddr::V6(_) => {
                let (icmp, rest) = Icmpv6Header::from_slice(packet).ok()?;
                match icmp.icmp_type {
                    Icmpv6Type::EchoReply(reply) => Some(Self::Reply(reply, rest)),
                    Icmpv6Type::DestinationUnreachable(why) => Some(Self::Unreachable(format!("{why:?}"))),
                    _ => None,
                }
            }
        }
    }
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
}

/// Sends one datagram from the calling thread's namespace and waits for its answer.
///
/// # Errors
/// As [`udp`].
pub fn datagram(to: SocketAddr, payload: &[u8]) -> Result<Answer> {
    let socket = UdpSocket::bind(any(to))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // Connected: only this peer is heard, and its ICMP errors are.
    socket.connect(to)?;
    socket.send(payload)?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    let length = socket
        .recv(&mut buffer)
        .map_err(|error| told(error, PATIENCE, "no answer"))?;
    serde_json::from_slice(&buffer[..length]).context("the answer")
}

/// Any address of the family of another, and any port.
fn any(to: SocketAddr) -> SocketAddr {
    match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

fn exchange(to: SocketAddr, path: &str, body: &[u8], patience: Duration) -> Result<Vec<u8>> {
    let mut stream =
        TcpStream::connect_timeout(&to, patience).map_err(|error| told(error, patience, "no connection"))?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.set_nodelay(true)?;
    let method = if body.is_empty() { "GET" } else { "POST" };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream
        .write_all(&[head.as_bytes(), body].concat())
        .map_err(|error| told(error, patience, "the request did not get through"))?;
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .map_err(|error| told(error, patience, "no answer"))?;
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .ok_or_else(|| anyhow!("no HTTP answer"))?;
    let body = answer.split_off(end + 4);
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        bail!(
            "answered {:?}",
            String::from_utf8_lossy(&answer).lines().next().unwrap_or_default()
        );
    }
    Ok(body)
}

fn told(error: std::io::Error, patience: Duration, what: &str) -> anyhow::Error {
    match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => anyhow!("{what} in {patience:?}"),
        _ => error.into(),
    }
}
