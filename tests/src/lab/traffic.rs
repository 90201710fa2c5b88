//! Steady traffic that counts what it loses, to be kept up while something is done to the network under it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};

use super::{namespace::Namespace, pod::Answer, probe};

/// Between two exchanges of a flow.
const PACE: Duration = Duration::from_millis(2);
/// A datagram that is not answered by then is lost. Long, so that a busy machine is not taken for a lossy network.
const LOST: Duration = Duration::from_secs(3);

/// How a flow asks.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// One TCP connection, kept for all requests.
    Kept,
    /// A TCP connection for each request.
    Fresh,
    /// Datagrams from one socket, each numbered and sent once.
    Datagrams,
}

/// A flow of requests.
#[derive(Clone, Debug)]
pub struct Flow<'a> {
    /// For a person.
    pub name: String,
    /// From where.
    pub from: &'a Namespace,
    /// To whom.
    pub to: SocketAddr,
    /// How.
    pub manner: Manner,
}

/// What became of a flow.
#[derive(Debug)]
pub struct Tally {
    /// The flow's name.
    pub name: String,
    /// Requests that were answered.
    pub answered: u64,
    /// The longest that one took.
    pub longest: Duration,
    /// What ended the flow early.
    pub failure: Option<String>,
}

/// Keeps all flows up while `body` runs. A flow ends at its first loss, reset or refusal.
///
/// # Errors
/// Those of `body`; what befalls the flows is in the tallies.
pub fn during<T>(flows: &[Flow], body: impl FnOnce() -> Result<T>) -> Result<(T, Vec<Tally>)> {
    let stop = AtomicBool::new(false);
    let (result, tallies) = thread::scope(|scope| {
        let threads: Vec<_> = flows.iter().map(|flow| scope.spawn(|| keep_up(flow, &stop))).collect();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        stop.store(true, Ordering::SeqCst);
        let tallies = threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a flow panicked")));
        (result, tallies.collect::<Result<Vec<_>>>())
    });
    match result {
        Ok(result) => Ok((result?, tallies?)),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn keep_up(flow: &Flow, stop: &AtomicBool) -> Tally {
    let mut tally = Tally {
        name: flow.name.clone(),
        answered: 0,
        longest: Duration::ZERO,
        failure: None,
    };
    let result = flow.from.run(|| {
        let mut asker = Asker::new(flow)?;
        while !stop.load(Ordering::SeqCst) {
            let start = Instant::now();
            asker.ask(tally.answered)?;
            tally.answered += 1;
            tally.longest = tally.longest.max(start.elapsed());
            thread::sleep(PACE);
        }
        Ok(())
    });
    tally.failure = result
        .err()
        .map(|error| format!("after {} answers: {error:#}", tally.answered));
    tally
}

enum Asker {
    Kept(BufReader<TcpStream>),
    Fresh(SocketAddr),
    Datagrams(UdpSocket),
}

impl Asker {
    fn new(flow: &Flow) -> Result<Self> {
        Ok(match flow.manner {
            Manner::Kept => {
                let stream = TcpStream::connect_timeout(&flow.to, LOST)?;
                stream.set_read_timeout(Some(LOST))?;
                stream.set_nodelay(true)?;
                Self::Kept(BufReader::new(stream))
            }
            Manner::Fresh => Self::Fresh(flow.to),
            Manner::Datagrams => {
                let socket = UdpSocket::bind(("0.0.0.0", 0))?;
                socket.connect(flow.to)?;
                socket.set_read_timeout(Some(LOST))?;
                Self::Datagrams(socket)
            }
        })
    }

    fn ask(&mut self, number: u64) -> Result<()> {
        match self {
            Self::Kept(stream) => {
                stream.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: kept\r\n\r\n")?;
                let mut length = None;
                loop {
                    let mut line = String::new();
                    if stream.read_line(&mut line)? == 0 {
                        bail!("the server closed the connection");
                    }
                    if let Some(value) = line.strip_prefix("Content-Length:") {
                        length = Some(value.trim().parse()?);
                    }
                    if line.trim().is_empty() {
                        break;
                    }
                }
                let mut body = vec![0; length.context("an answer without a length")?];
                stream.read_exact(&mut body)?;
                serde_json::from_slice::<Answer>(&body)?;
            }
            Self::Fresh(to) => {
                probe::get(*to)?;
            }
            Self::Datagrams(socket) => {
                let mark = format!("number {number}");
                socket.send(mark.as_bytes())?;
                let mut buffer = [0; 2048];
                let length = socket.recv(&mut buffer)?;
                let answer: Answer = serde_json::from_slice(&buffer[..length])?;
                if answer.mark != mark {
                    bail!("asked {mark:?}, was answered {:?}", answer.mark);
                }
            }
        }
        Ok(())
    }
}
