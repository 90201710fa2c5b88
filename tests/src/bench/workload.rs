//! The operations that are timed. One thread holds both ends, writes at one and reads at the other: whatever the packet
//! does in between runs inside these calls, and no wakeup is part of the figure.

use std::{
    io::{
        self,
        ErrorKind::{HostUnreachable, NetworkUnreachable},
        Read as _, Write as _,
    },
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use serde::Serialize;

use super::netns::Namespace;

/// Port servers listen on.
pub const PORT: u16 = 8080;
/// What one write of [`Workload::Stream`] carries.
const CHUNK: usize = 64 * 1024;
/// What one datagram of [`Workload::Udp`] carries.
const DATAGRAM: usize = 64;
/// How often a connection is tried again that nothing is said to lead to.
const TRIES: usize = 3;
/// A path that has not delivered by then does not work.
const PATIENCE: Duration = Duration::from_secs(5);

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// One byte there and one back, on an open TCP connection.
    Rr,
    /// A TCP connection from connect to close at both ends, with one byte there and one back.
    Crr,
    /// 64 KB written and read on an open TCP connection.
    Stream,
    /// A datagram of 64 bytes, one way.
    Udp,
}

impl Workload {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 4] = [Self::Rr, Self::Crr, Self::Stream, Self::Udp];

    /// As netperf calls them, as far as it does.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rr => "TCP_RR",
            Self::Crr => "TCP_CRR",
            Self::Stream => "64KB",
            Self::Udp => "UDP",
        }
    }

    /// How many operations make a batch of about a millisecond: short enough to fit between two interruptions.
    pub const fn batch(self) -> u32 {
        match self {
            Self::Rr => 200,
            Self::Crr => 20,
            Self::Stream => 80,
            Self::Udp => 400,
        }
    }
}

/// Both ends of one path.
pub struct Ends {
    client: Arc<Namespace>,
    target: SocketAddr,
    listener: TcpListener,
    near: TcpStream,
    far: TcpStream,
    sender: UdpSocket,
    receiver: UdpSocket,
    buffer: Vec<u8>,
    /// How many connections were refused with the word that nothing leads there, and were tried again.
    pub unreachable: usize,
}

impl Ends {
    /// Opens the sockets: servers on `port` of any address of the target's family in `server`; a client in `client` that speaks
    /// to `target`.
    ///
    /// # Errors
    /// When the path does not carry a connection within five seconds.
    pub fn open(client: &Arc<Namespace>, server: &Namespace, port: u16, target: SocketAddr) -> Result<Self> {
        let any: IpAddr = match target {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // Each connection is closed by the server first. Without this its namespace keeps every one of them for a minute.
        server.sysctl("ipv4/tcp_max_tw_buckets", "0")?;
        let (listener, receiver) = server.run(|| {
            let listener = TcpListener::bind((any, port)).context("cannot listen on TCP")?;
            let receiver = UdpSocket::bind((any, port)).context("cannot listen on UDP")?;
            receiver.set_read_timeout(Some(PATIENCE))?;
            Ok((listener, receiver))
        })?;
        setsockopt(&listener, sockopt::ReceiveTimeout, &timeval(PATIENCE))?;
        let (near, sender) = client.run(|| {
            let near = TcpStream::connect_timeout(&target, PATIENCE).with_context(|| format!("no way to {target}"))?;
            let sender = UdpSocket::bind((any, 0))?;
            sender.connect(target)?;
            Ok((near, sender))
        })?;
        let (far, _) = listener.accept().context("the connection never came in")?;
        for stream in [&near, &far] {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            // A chunk must fit whole, or the one thread waits for itself.
            setsockopt(stream, sockopt::SndBufForce, &(8 * CHUNK))?;
            setsockopt(stream, sockopt::RcvBufForce, &(8 * CHUNK))?;
        }
        Ok(Self {
            client: client.clone(),
            target,
            listener,
            near,
            far,
            sender,
            receiver,
            buffer: vec![0x5a; CHUNK],
            unreachable: 0,
        })
    }

    /// Makes the calling thread one that may run operations of this path.
    ///
    /// # Errors
    /// As [`Namespace::enter`].
    pub fn enter(&self) -> Result<()> {
        self.client.enter()
    }

    /// One operation.
    ///
    /// # Errors
    /// When bytes are lost, or do not come within five seconds.
    pub fn operate(&mut self, workload: Workload) -> Result<()> {
        match workload {
            Workload::Rr => round_trip(&mut self.near, &mut self.far),
            Workload::Crr => self.connection(),
            Workload::Stream => self.chunk(),
            Workload::Udp => self.datagram(),
        }
        .with_context(|| format!("{} to {}", workload.name(), self.target))
    }

    fn connection(&mut self) -> Result<()> {
        let mut near = self.connect()?;
        let (mut far, _) = self.listener.accept()?;
        round_trip(&mut near, &mut far)?;
        far.shutdown(Shutdown::Write)?;
        let rest = near.read(&mut [0])?;
        ensure!(rest == 0, "the client got {rest} bytes where the end was due");
        drop(near);
        drop(far);
        Ok(())
    }

    /// A connection, tried again where the network says that nothing leads there: some networks do now and then, for a path that
    /// works otherwise. That takes its time, and is told.
    fn connect(&mut self) -> io::Result<TcpStream> {
        for _ in 0..TRIES {
            match TcpStream::connect(self.target) {
                Err(error) if matches!(error.kind(), NetworkUnreachable | HostUnreachable) => self.unreachable += 1,
                result => return result,
            }
        }
        TcpStream::connect(self.target)
    }

    fn chunk(&mut self) -> Result<()> {
        self.near.write_all(&self.buffer)?;
        self.far.read_exact(&mut self.buffer)?;
        Ok(())
    }

    fn datagram(&mut self) -> Result<()> {
        self.sender.send(&self.buffer[..DATAGRAM])?;
        let got = self.receiver.recv(&mut self.buffer)?;
        ensure!(got == DATAGRAM, "{got} bytes arrived of {DATAGRAM}");
        Ok(())
    }
}

fn round_trip(near: &mut TcpStream, far: &mut TcpStream) -> Result<()> {
    let mut byte = [0];
    near.write_all(b"?")?;
    far.read_exact(&mut byte)?;
    far.write_all(b"!")?;
    near.read_exact(&mut byte)?;
    Ok(())
}

fn timeval(time: Duration) -> nix::sys::time::TimeVal {
    nix::sys::time::TimeVal::new(i64::try_from(time.as_secs()).unwrap_or(i64::MAX), 0)
}
