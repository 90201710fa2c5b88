//! `netpath-lab ask`: flows to the servers of a real cluster, from the network namespace that it is started in, until a file appears.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};

use super::traffic::{Manner, Server, Tally, from_here};

/// Between two exchanges of a flow.
const PACE: Duration = Duration::from_millis(20);
/// A flow with fewer answers has seen nothing.
const FEWEST: u64 = 20;

/// What to ask, and how long
#[derive(clap::Args)]
pub struct Arguments {
    /// Who asks, at the beginning of each line
    #[arg(long)]
    name: String,
    /// The file at whose appearance the flows end
    #[arg(long, value_name = "FILE")]
    until: PathBuf,
    /// `agnhost netexec` servers: `kept`, `fresh` or `datagrams`, its address and port, and what to call it, joined by `,`
    #[arg(required = true, value_name = "MANNER,ADDRESS:PORT,NAME")]
    flows: Vec<Asked>,
}

/// One flow of the command line.
#[derive(Clone)]
struct Asked {
    manner: Manner,
    to: SocketAddr,
    name: String,
}

impl FromStr for Asked {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.splitn(3, ',');
        let (Some(manner), Some(to), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            bail!("want MANNER,ADDRESS:PORT,NAME");
        };
        Ok(Self {
            manner: match manner {
                "kept" => Manner::Kept,
                "fresh" => Manner::Fresh,
                "datagrams" => Manner::Datagrams,
                other => bail!("{other:?} is not kept, fresh or datagrams"),
            },
            to: to.parse().with_context(|| format!("{to:?} is not ADDRESS:PORT"))?,
            name: format!("{name}, {manner}"),
        })
    }
}

/// Keeps the flows up and prints a line for each, `ok …` or `FAIL …`, and one with the segments that the kernel sent again: some may be
/// repeats after a busy machine's delay, so that datagrams, which nobody repeats, are what counts losses. Tells whether all are well.
///
/// # Errors
/// A flow panicked, or the kernel's counters cannot be read.
pub fn run(arguments: &Arguments) -> Result<bool> {
    let before = sent_again()?;
    let tallies = thread::scope(|scope| {
        let threads: Vec<_> = arguments
            .flows
            .iter()
            .map(|flow| scope.spawn(|| keep_up(flow, &arguments.until)))
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .map(|tally| tally.map_err(|_| anyhow!("a flow panicked")))
            .collect::<Result<Vec<_>>>()
    })?;
    println!(
        "ok   {}: {} TCP segments sent again",
        arguments.name,
        sent_again()? - before
    );
    let lines = tallies.iter().map(|tally| line(&arguments.name, tally));
    Ok(lines.fold(true, |all, (ok, line)| {
        println!("{line}");
        all && ok
    }))
}

fn keep_up(flow: &Asked, until: &Path) -> Tally {
    from_here(&flow.name, flow.to, flow.manner, Server::Agnhost, PACE, &|| {
        until.exists()
    })
}

/// Segments that TCP has sent again in this network namespace: RetransSegs of RFC 4022.
fn sent_again() -> Result<u64> {
    // Of the thread's own namespace.
    let path = "/proc/thread-self/net/snmp";
    let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let mut tcp = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (tcp.next().unwrap_or_default(), tcp.next().unwrap_or_default());
    let found = names
        .split(' ')
        .zip(values.split(' '))
        .find(|(name, _)| *name == "RetransSegs");
    let (_, value) = found.with_context(|| format!("{path} has no RetransSegs"))?;
    Ok(value.parse()?)
}

fn line(from: &str, tally: &Tally) -> (bool, String) {
    let Tally {
        name,
        answered,
        longest,
        failure,
    } = tally;
    match failure {
        Some(failure) => (false, format!("FAIL {from} -> {name}: {failure}")),
        None if *answered < FEWEST => (false, format!("FAIL {from} -> {name}: {answered} answers only")),
        None => (
            true,
            format!("ok   {from} -> {name}: all of {answered} answered, the slowest in {longest:.0?}"),
        ),
    }
}
