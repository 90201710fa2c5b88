//! Steady traffic that counts what it loses, to be kept up while something is done to the network under it.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};

use super::{kept::Kept, namespace::Namespace, pod::Answer, probe};

/// Between two exchanges of a flow of [`during`].
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

/// Who answers.
#[derive(Clone, Copy, Debug)]
pub enum Server {
    /// [`super::pod`].
    Pod,
    /// `agnhost netexec`, the server of Kubernetes' own tests: `/hostname`, and by datagram `echo …`.
    Agnhost,
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
    let mut tally = Tally::of(&flow.name);
    let result = flow.from.run(|| {
        let asker = Asker::new(flow.to, flow.manner, Server::Pod)?;
        tally.count(asker, PACE, &|| stop.load(Ordering::SeqCst))
    });
    tally.end(result)
}

/// Keeps one flow up from the calling thread's namespace until `stop` says so, or to its first loss, reset or refusal.
pub fn from_here(
    name: &str,
    to: SocketAddr,
    manner: Manner,
    server: Server,
    pace: Duration,
    stop: &impl Fn() -> bool,
) -> Tally {
    let mut tally = Tally::of(name);
    let result = Asker::new(to, manner, server).and_then(|asker| tally.count(asker, pace, stop));
    tally.end(result)
}

impl Tally {
    fn of(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            answered: 0,
            longest: Duration::ZERO,
            failure: None,
        }
    }

    fn count(&mut self, mut asker: Asker, pace: Duration, stop: &impl Fn() -> bool) -> Result<()> {
        while !stop() {
            let start = Instant::now();
            asker.ask(self.answered)?;
            self.answered += 1;
            self.longest = self.longest.max(start.elapsed());
            thread::sleep(pace);
        }
        Ok(())
    }

    fn end(mut self, result: Result<()>) -> Self {
        self.failure = result
            .err()
            .map(|error| format!("after {} answers: {error:#}", self.answered));
        self
    }
}

struct Asker {
    server: Server,
    way: Way,
}

enum Way {
    Kept(Kept),
    Fresh(SocketAddr),
    Datagrams(UdpSocket),
}

impl Server {
    fn path(self) -> &'static str {
        match self {
            Self::Pod => "/",
            Self::Agnhost => "/hostname",
        }
    }

    /// How long an HTTP answer may take. TCP repeats what is lost; a real cluster on a busy machine stands still for seconds.
    fn patience(self) -> Duration {
        match self {
            Self::Pod => LOST,
            Self::Agnhost => Duration::from_secs(15),
        }
    }

    /// Whether the body of an HTTP answer is one of this server's.
    fn check(self, body: &[u8]) -> Result<()> {
        match self {
            Self::Pod => drop(serde_json::from_slice::<Answer>(body).context("the answer")?),
            Self::Agnhost if body.is_empty() => bail!("an empty answer"),
            Self::Agnhost => {}
        }
        Ok(())
    }

    /// The datagram that has `mark` sent back.
    fn datagram(self, mark: &str) -> String {
        match self {
            Self::Pod => mark.to_owned(),
            Self::Agnhost => format!("echo {mark}"),
        }
    }

    fn mark(self, answer: &[u8]) -> Result<String> {
        Ok(match self {
            Self::Pod => serde_json::from_slice::<Answer>(answer)?.mark,
            Self::Agnhost => String::from_utf8_lossy(answer).into_owned(),
        })
    }
}

impl Asker {
    fn new(to: SocketAddr, manner: Manner, server: Server) -> Result<Self> {
        let way = match manner {
            Manner::Kept => Way::Kept(Kept::open(to, server.patience())?),
            Manner::Fresh => Way::Fresh(to),
            Manner::Datagrams => {
                let socket = UdpSocket::bind(("0.0.0.0", 0))?;
                socket.connect(to)?;
                socket.set_read_timeout(Some(LOST))?;
                Way::Datagrams(socket)
            }
        };
        Ok(Self { server, way })
    }

    fn ask(&mut self, number: u64) -> Result<()> {
        let server = self.server;
        match &mut self.way {
            Way::Kept(kept) => server.check(&kept.get(server.path())?)?,
            Way::Fresh(to) => server.check(&probe::get_path(*to, server.path(), server.patience())?)?,
            Way::Datagrams(socket) => {
                let mark = format!("number {number}");
                socket.send(server.datagram(&mark).as_bytes())?;
                let mut buffer = [0; 2048];
                let length = socket.recv(&mut buffer)?;
                let answer = server.mark(&buffer[..length])?;
                if answer != mark {
                    bail!("asked {mark:?}, was answered {answer:?}");
                }
            }
        }
        Ok(())
    }
}
