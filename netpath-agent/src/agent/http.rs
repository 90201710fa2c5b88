//! A responder of fixed answers over HTTP, which need no server: small limits, one short request a connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// No request that matters here is longer, in bytes.
const LONGEST_REQUEST: usize = 4096;
/// How long a client may take to ask, and again to read the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections that are served at a time; more wait in the listener's queue.
const CONNECTIONS: usize = 16;

/// `Content-Type` of text.
pub const TEXT: &str = "text/plain; charset=utf-8";
/// `Content-Type` of JSON.
pub const JSON: &str = "application/json";
/// The status of an answer that says yes.
pub const OK: &str = "200 OK";
/// The status of an answer that says no.
pub const UNAVAILABLE: &str = "503 Service Unavailable";
/// The status of an answer to a path that is not there.
pub const NOT_FOUND: &str = "404 Not Found";

/// What a path is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Code and reason.
    pub status: &'static str,
    /// `Content-Type`.
    pub content: &'static str,
    /// Headers that not every answer has.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// A line or more of text.
    pub fn text(status: &'static str, body: impl Into<String>) -> Self {
        Self {
            status,
            content: TEXT,
            headers: Vec::new(),
            body: body.into(),
        }
    }
}

/// Answers for ever; `answers` gives the answer to a path without its query.
pub async fn serve<F>(listener: TcpListener, answers: F)
where
    F: Fn(&str) -> Answer + Clone + Send + Sync + 'static,
{
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    // The semaphore is never closed.
    while let Ok(slot) = slots.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let answers = answers.clone();
                tokio::spawn(async move {
                    // A client that goes away, or is too slow, has no answer coming.
                    let _ = answer(stream, &answers).await;
                    drop(slot);
                });
            }
            // Out of descriptors, for example: others may close some meanwhile.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn answer<F: Fn(&str) -> Answer>(mut stream: TcpStream, answers: &F) -> io::Result<()> {
    let request = timeout(PATIENCE, request(&mut stream)).await??;
    let (answer, with_body) = match parse(&request) {
        Ok((method, path)) => (answers(path), method == "GET"),
        Err(status) => (Answer::text(status, format!("{status}\n")), true),
    };
    let Answer {
        status,
        content,
        headers,
        body,
    } = answer;
    let length = body.len();
    let mut response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content}\r\nX-Content-Type-Options: nosniff\r\nContent-Length: {length}\r\n\
         Connection: close\r\n"
    );
    for (name, value) in headers {
        response.push_str(&format!("{name}: {value}\r\n"));
    }
    response.push_str("\r\n");
    if with_body {
        response.push_str(&body);
    }
    timeout(PATIENCE, stream.write_all(response.as_bytes())).await??;
    stream.shutdown().await
}

/// Reads up to the end of the request's head, the limit, or the end of the stream.
async fn request(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(512);
    while !head.ends_with(b"\r\n\r\n") && head.len() < LONGEST_REQUEST {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    Ok(head)
}

/// Method and path of a request, without its query; otherwise the status that says what is wrong.
fn parse(request: &[u8]) -> Result<(&str, &str), &'static str> {
    const BAD: &str = "400 Bad Request";
    if request.len() >= LONGEST_REQUEST {
        return Err("431 Request Header Fields Too Large");
    }
    let head = std::str::from_utf8(request).map_err(|_| BAD)?;
    if !head.contains("\r\n\r\n") {
        return Err(BAD);
    }
    let mut words = head.lines().next().ok_or(BAD)?.split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(BAD);
    };
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return Err(BAD);
    }
    if method != "GET" && method != "HEAD" {
        return Err("405 Method Not Allowed");
    }
    Ok((method, target.split('?').next().unwrap_or(target)))
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::SocketAddr;

    use super::*;

    /// What the responder at an address sends back for a request.
    pub async fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// A whole response, without further headers.
    pub fn response(status: &str, content: &str, body: &str) -> String {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content}\r\nX-Content-Type-Options: nosniff\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        )
    }

    async fn server<F: Fn(&str) -> Answer + Clone + Send + Sync + 'static>(answers: F) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, answers));
        address
    }

    #[tokio::test]
    async fn what_is_no_request_for_us_is_refused() {
        let address = server(|path| match path {
            "/healthz" => Answer::text(OK, "ok\n"),
            _ => Answer::text(NOT_FOUND, "nothing\n"),
        })
        .await;
        for (request, status) in [
            (b"GET /metrics HTTP/1.1\r\n\r\n".to_vec(), "404 Not Found"),
            (b"POST /readyz HTTP/1.1\r\n\r\n".to_vec(), "405 Method Not Allowed"),
            (b"GET /readyz\r\n\r\n".to_vec(), "400 Bad Request"),
            (b"GET readyz HTTP/1.1\r\n\r\n".to_vec(), "400 Bad Request"),
            (b"\xff\xfe\r\n\r\n".to_vec(), "400 Bad Request"),
            (b"".to_vec(), "400 Bad Request"),
            (vec![b'a'; LONGEST_REQUEST], "431 Request Header Fields Too Large"),
        ] {
            let answer = ask(address, &request).await;
            assert_eq!(
                answer.lines().next().unwrap(),
                format!("HTTP/1.1 {status}"),
                "{}",
                request.escape_ascii()
            );
        }
        let head = ask(address, b"HEAD /healthz HTTP/1.1\r\n\r\n").await;
        assert!(
            head.ends_with("\r\n\r\n") && head.contains("Content-Length: 3"),
            "{head}"
        );
    }
}
