//! How soon packets follow a change: a service's only endpoint is moved from a pod to another, and its address is asked all the while
//! which of them answers.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{
    Row,
    services::{address_of, create},
    site::Site,
};
use crate::bench::{measure, netns::Namespace};

/// The port of the servers that tell who they are.
pub const ANSWERING: u16 = 9090;
/// The service.
const NAME: &str = "follow";
/// Between two questions.
const PACE: Duration = Duration::from_millis(1);
/// How long a question may take.
const ATTEMPT: Duration = Duration::from_millis(250);
/// Between two changes: longer than kube-proxy waits between two of its own.
const PAUSE: Duration = Duration::from_millis(1_700);
/// How long a change may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The pod at the near end says this, that at the far one the next.
const LETTERS: [u8; 2] = *b"nf";

/// Servers in both pods, and the service that leads to one of them.
pub struct Follow<'a> {
    site: &'a Site,
    target: SocketAddrV4,
    _servers: Vec<Server>,
}

impl<'a> Follow<'a> {
    /// Starts the servers and makes the service, which leads to the near one.
    ///
    /// # Errors
    /// A port is taken, or the API server refuses an object.
    pub fn start(site: &'a Site) -> Result<Self> {
        let servers = [&site.near, &site.far]
            .into_iter()
            .zip(LETTERS)
            .map(|(seat, letter)| Server::start(&seat.namespace, letter))
            .collect::<Result<Vec<_>>>()?;
        let (services, slices) = (site.api::<Service>(), site.api::<EndpointSlice>());
        let made = site.ask(create(&services, &slices, NAME.to_owned(), [site.near.address]))?;
        let target = SocketAddrV4::new(address_of(&made)?, 80);
        let follow = Self {
            site,
            target,
            _servers: servers,
        };
        follow.answered(target, PATIENCE)?;
        Ok(follow)
    }

    /// Waits until a server answers at an address, to the asking pod.
    ///
    /// # Errors
    /// None does in time.
    pub fn answered(&self, target: SocketAddrV4, patience: Duration) -> Result<()> {
        self.site.asking.namespace.run(|| {
            let end = Instant::now() + patience;
            while question(target).is_none() {
                if Instant::now() >= end {
                    bail!("the service at {target} does not answer after {patience:?}");
                }
                thread::sleep(PACE);
            }
            Ok(())
        })
    }

    /// Moves the endpoint back and forth, and tells how long the middle change took from its request to the first answer that follows it.
    ///
    /// # Errors
    /// A change is refused, or not followed within two minutes.
    pub fn measure(&self, changes: usize, services: usize) -> Result<Row> {
        let (answers, came) = channel();
        let stop = AtomicBool::new(false);
        let times = thread::scope(|scope| {
            let asking = scope.spawn(|| self.site.asking.namespace.run(|| ask(self.target, &stop, &answers)));
            let times = self.change(changes, &came);
            stop.store(true, Ordering::Relaxed);
            asking
                .join()
                .map_err(|_| anyhow::anyhow!("the thread that asks panicked"))??;
            times
        })?;
        let what = format!("an endpoint changes: the first packet that follows, {services} services");
        Ok(Row::middle(what, times, "changes"))
    }

    fn change(&self, changes: usize, came: &Receiver<(u8, Instant)>) -> Result<Vec<Duration>> {
        let places = [self.site.far.address, self.site.near.address];
        let mut times = Vec::new();
        for number in 0..changes {
            thread::sleep(PAUSE);
            let (address, letter) = (places[number % 2], LETTERS[(number + 1) % 2]);
            let patch = json!({ "endpoints": [{ "addresses": [address] }] });
            let since = Instant::now();
            self.site.ask(async {
                self.site
                    .api::<EndpointSlice>()
                    .patch(NAME, &PatchParams::default(), &Patch::Merge(&patch))
                    .await
                    .context("changing the endpoint")
            })?;
            times.push(followed(came, letter, since)?);
        }
        Ok(times)
    }
}

/// When the first answer of a pod came.
fn followed(came: &Receiver<(u8, Instant)>, letter: u8, since: Instant) -> Result<Duration> {
    loop {
        match came.recv_timeout(PATIENCE) {
            Ok((from, at)) if from == letter => return Ok(at.saturating_duration_since(since)),
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) => bail!("no packet followed the endpoint's change within {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("the thread that asks has ended"),
        }
    }
}

/// Asks until told to stop, and tells of every change of who answers.
fn ask(target: SocketAddrV4, stop: &AtomicBool, answers: &Sender<(u8, Instant)>) -> Result<()> {
    measure::pin()?;
    let mut last = None;
    while !stop.load(Ordering::Relaxed) {
        if let Some(letter) = question(target)
            && last.replace(letter) != Some(letter)
        {
            answers
                .send((letter, Instant::now()))
                .context("nobody waits for answers")?;
        }
        thread::sleep(PACE);
    }
    Ok(())
}

/// Who answers a fresh connection, if anyone does.
fn question(target: SocketAddrV4) -> Option<u8> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::V4(target), ATTEMPT).ok()?;
    stream.set_read_timeout(Some(ATTEMPT)).ok()?;
    let mut answer = Vec::new();
    // To the end: the server closes first, so that the client keeps no port for it.
    stream.read_to_end(&mut answer).ok()?;
    answer.first().copied()
}

/// A server in a pod that says a letter to whoever connects.
struct Server {
    stop: Arc<AtomicBool>,
    address: SocketAddr,
    namespace: Arc<Namespace>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(namespace: &Arc<Namespace>, letter: u8) -> Result<Self> {
        namespace.sysctl("ipv4/tcp_max_tw_buckets", "0")?;
        let listener = namespace.run(|| {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, ANSWERING))
                .with_context(|| format!("listening on port {ANSWERING}"))
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                if until.load(Ordering::Relaxed) {
                    return;
                }
                // Who does not listen to the answer asks again.
                let _ = stream.write_all(&[letter]);
            }
        });
        Ok(Self {
            stop,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, ANSWERING)),
            namespace: Arc::clone(namespace),
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It waits for a connection: this is one.
        let _ = self
            .namespace
            .run(|| Ok(TcpStream::connect_timeout(&self.address, ATTEMPT)?));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
