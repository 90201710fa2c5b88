//! A connection of HTTP that is kept, and asked again and again.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, bail};

/// How long a connection may take to open.
const OPEN: Duration = Duration::from_secs(3);

/// The connection.
pub struct Kept(BufReader<TcpStream>);

impl Kept {
    /// Opens it from the calling thread's namespace. Each answer may take so long.
    ///
    /// # Errors
    /// Nobody answers in three seconds.
    pub fn open(to: SocketAddr, patience: Duration) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&to, OPEN)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// The body of what the server answers to `GET` of a path.
    ///
    /// # Errors
    /// The connection is gone, no answer comes in time, or one without a length.
    pub fn get(&mut self, path: &str) -> Result<Vec<u8>> {
        let stream = &mut self.0;
        let request = format!("GET {path} HTTP/1.1\r\nHost: kept\r\n\r\n");
        stream.get_mut().write_all(request.as_bytes())?;
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
        Ok(body)
    }
}
