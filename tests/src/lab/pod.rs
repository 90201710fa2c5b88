//! What runs in a pod: a small HTTP/1.1 server and a UDP server. Both answer who they are, whom they saw and how much they
//! got, as JSON.
//!
//! HTTP: `GET /` answers; `GET /bytes/N` answers N bytes; a request's body is counted. Connections are kept open.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// What the server prints once all its sockets are open.
pub const READY: &str = "ready";
/// The most bytes that `/bytes/N` gives.
const MOST: u64 = 1 << 30;
/// The longest request or header line.
const LINE: u64 = 8192;

/// What a server tells of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The server's name.
    pub pod: String,
    /// The client's address and port, as the server saw them.
    pub client: SocketAddr,
    /// Bytes of the datagram or of the request's body.
    pub bytes: u64,
    /// The datagram's first bytes, so that an answer can be told from a late one.
    pub mark: String,
}

/// Bytes of a datagram that come back as [`Answer::mark`].
pub const MARK: usize = 32;

/// Serves until the process is killed.
///
/// # Errors
/// A port is taken, or the address is not there.
pub fn serve(name: &str, address: IpAddr, tcp: &[u16], udp: &[u16]) -> Result<()> {
    let mut threads = Vec::new();
    for port in tcp {
        let listener =
            TcpListener::bind((address, *port)).with_context(|| format!("cannot listen on TCP port {port}"))?;
        let name = name.to_owned();
        threads.push(thread::spawn(move || accept(&name, &listener)));
    }
    for port in udp {
        let socket = UdpSocket::bind((address, *port)).with_context(|| format!("cannot open UDP port {port}"))?;
        let name = name.to_owned();
        threads.push(thread::spawn(move || echo(&name, &socket)));
    }
    println!("{READY}");
    for thread in threads {
        if let Ok(result) = thread.join() {
            result?;
        }
    }
    Ok(())
}

fn accept(name: &str, listener: &TcpListener) -> Result<()> {
    loop {
        let (stream, client) = listener.accept()?;
        let name = name.to_owned();
        thread::spawn(move || {
            if let Err(error) = converse(&name, stream, client) {
                eprintln!("{client}: {error:#}");
            }
        });
    }
}

fn echo(name: &str, socket: &UdpSocket) -> Result<()> {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let (length, client) = socket.recv_from(&mut buffer)?;
        let mark = String::from_utf8_lossy(&buffer[..length.min(MARK)]).into_owned();
        let answer = Answer {
            pod: name.to_owned(),
            client,
            bytes: length as u64,
            mark,
        };
        // The client may be gone by now: the next one counts.
        if let Err(error) = socket.send_to(&serde_json::to_vec(&answer)?, client) {
            eprintln!("{client}: {error}");
        }
    }
}

fn converse(name: &str, stream: TcpStream, client: SocketAddr) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader)? {
        let bytes = std::io::copy(&mut (&mut reader).take(request.length), &mut std::io::sink())?;
        let body = match request.path.strip_prefix("/bytes/").map(str::parse::<u64>) {
            Some(Ok(count)) if count <= MOST => Body::Bytes(count),
            Some(_) => Body::Text("400 Bad Request", format!("want /bytes/N with N up to {MOST}\n")),
            None => {
                let answer = Answer {
                    pod: name.to_owned(),
                    client,
                    bytes,
                    mark: String::new(),
                };
                Body::Text("200 OK", serde_json::to_string(&answer)? + "\n")
            }
        };
        body.write(&mut writer, request.close)?;
        if request.close {
            break;
        }
    }
    Ok(())
}

enum Body {
    Text(&'static str, String),
    Bytes(u64),
}

impl Body {
    fn write(&self, writer: &mut impl Write, close: bool) -> Result<()> {
        let (status, kind, length) = match self {
            Self::Text(status, text) => (*status, "application/json", text.len() as u64),
            Self::Bytes(count) => ("200 OK", "application/octet-stream", *count),
        };
        let connection = if close { "close" } else { "keep-alive" };
        let mut message = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n"
        );
        match self {
            Self::Text(_, text) => {
                message.push_str(text);
                writer.write_all(message.as_bytes())?;
            }
            Self::Bytes(count) => {
                writer.write_all(message.as_bytes())?;
                std::io::copy(&mut std::io::repeat(b'.').take(*count), writer)?;
            }
        }
        Ok(writer.flush()?)
    }
}

struct Request {
    path: String,
    length: u64,
    close: bool,
}

impl Request {
    /// The next request on a connection; none when the client has closed it.
    fn read(reader: &mut impl BufRead) -> Result<Option<Self>> {
        let line = line(reader)?;
        if line.is_empty() {
            return Ok(None);
        }
        let mut words = line.split_whitespace();
        let (Some(_method), Some(path), Some(version)) = (words.next(), words.next(), words.next()) else {
            bail!("not an HTTP request: {line:?}");
        };
        let mut request = Self {
            path: path.to_owned(),
            length: 0,
            close: version == "HTTP/1.0",
        };
        loop {
            let line = self::line(reader)?;
            let Some((key, value)) = line.split_once(':') else {
                break;
            };
            match key.to_ascii_lowercase().as_str() {
                "content-length" => request.length = value.trim().parse().context("Content-Length")?,
                "connection" => request.close = value.trim().eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        Ok(Some(request))
    }
}

fn line(reader: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    reader.take(LINE).read_line(&mut line)?;
    if line.len() as u64 == LINE {
        bail!("a line of {LINE} bytes or more");
    }
    Ok(line)
}
