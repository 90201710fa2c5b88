//! Whether the node's agent says that it is ready: one short HTTP request to it.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde::Serialize;

/// How long to wait for the agent, at each step.
const PATIENCE: Duration = Duration::from_secs(2);
/// No answer of an agent's is longer, in bytes.
const LONGEST_ANSWER: u64 = 65_536;

/// The agent, as it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "detail", rename_all = "camelCase")]
pub enum Agent {
    /// Everything is in place; what is to be known nevertheless, a line each.
    Ready(Vec<String>),
    /// Something is missing: the agent's own words, a line each; and what is to be known beside that.
    #[serde(rename_all = "camelCase")]
    NotReady {
        /// What is missing.
        missing: Vec<String>,
        /// What else is wrong.
        remarks: Vec<String>,
    },
    /// Nobody answers, or somebody else does: why.
    Unreachable(String),
}

/// Asks the agent at an address where its objects come from; `None` if it does not say.
pub fn source(address: SocketAddr) -> Option<String> {
    let answer = request(address, "/source").ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200 ").then(|| body.trim_end().to_owned())
}

/// Asks the agent at an address.
pub fn ask(address: SocketAddr) -> Agent {
    match request(address, "/readyz") {
        Ok(answer) => understand(&answer),
        Err(error) => Agent::Unreachable(error.to_string()),
    }
}

fn request(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn understand(answer: &str) -> Agent {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let mut words = head.split_whitespace();
    match (words.next(), words.next()) {
        (Some("HTTP/1.1"), Some("200")) => Agent::Ready(lines(body).skip(1).collect()),
        (Some("HTTP/1.1"), Some("503")) => Agent::NotReady {
            missing: lines(body).take_while(|line| !line.is_empty()).collect(),
            remarks: lines(body).skip_while(|line| !line.is_empty()).skip(1).collect(),
        },
        _ => Agent::Unreachable("what answers there is no netpath-agent".to_owned()),
    }
}

fn lines(body: &str) -> impl Iterator<Item = String> {
    body.lines().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood() {
        assert_eq!(
            understand("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"),
            Agent::Ready(Vec::new())
        );
        assert_eq!(
            understand("HTTP/1.1 200 OK\r\n\r\nok\na map keeps its room\n"),
            Agent::Ready(vec!["a map keeps its room".to_owned()])
        );
        assert_eq!(
            understand("HTTP/1.1 503 Service Unavailable\r\n\r\nsource: none yet\nconflist: not written\n\na device\n"),
            Agent::NotReady {
                missing: vec!["source: none yet".to_owned(), "conflist: not written".to_owned()],
                remarks: vec!["a device".to_owned()],
            }
        );
        for other in ["", "SSH-2.0-x\r\n", "HTTP/1.1 404 Not Found\r\n\r\n", "\r\n\r\n"] {
            assert!(matches!(understand(other), Agent::Unreachable(_)), "{other:?}");
        }
    }

    #[test]
    fn nobody_there_is_no_error() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        assert!(matches!(ask(address), Agent::Unreachable(_)));
    }
}
