//! The answers, over real HTTP on the loopback.

use super::*;

async fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn server() -> (SocketAddr, Health) {
    let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (address, health) = (listener.local_addr().unwrap(), Health::default());
    tokio::spawn(serve(listener, health.clone()));
    (address, health)
}

fn response(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn readiness_says_what_is_missing_until_nothing_is() {
    let (address, health) = server().await;
    let ready = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n";
    health.set(Part::Datapath, Ok(()));
    health.set(Part::Source, Ok(()));
    health.set(Part::Applied, Err("Node n1: it has no podCIDR".into()));
    assert_eq!(
        ask(address, ready).await,
        response(
            "503 Service Unavailable",
            "applied: Node n1: it has no podCIDR\nattached: programs are not attached yet\n\
             conflist: the CNI configuration is not written yet\n"
        )
    );
    for part in Part::ALL {
        health.set(part, Ok(()));
    }
    assert_eq!(ask(address, ready).await, response("200 OK", "ok\n"));
    assert_eq!(
        ask(address, b"GET /readyz?verbose HTTP/1.0\r\n\r\n").await,
        response("200 OK", "ok\n")
    );
    assert_eq!(
        ask(address, b"GET /source HTTP/1.1\r\n\r\n").await,
        response("200 OK", "not known yet\n")
    );
    health.source("the API server".into(), vec!["away".into()]);
    health.set(Part::Conflist, Err("no room".into()));
    let both = "conflist: no room\n\naway\n";
    assert_eq!(ask(address, ready).await, response("503 Service Unavailable", both));
    health.set(Part::Conflist, Ok(()));
    assert_eq!(ask(address, ready).await, response("200 OK", "ok\naway\n"));
    health.source("the API server".into(), Vec::new());
    assert_eq!(
        ask(address, b"GET /source HTTP/1.1\r\n\r\n").await,
        response("200 OK", "the API server\n")
    );
    health.note(vec!["one".into(), "two".into()]);
    assert_eq!(ask(address, ready).await, response("200 OK", "ok\none\ntwo\n"));

    let many: Vec<_> = (0..WARNINGS + 2).map(|number| format!("object {number}")).collect();
    health.warn(many.iter());
    let some = many[..WARNINGS].join("\n");
    let all = format!("ok\none\ntwo\n{some}\nand 2 more: see the log of netpath-agent\n");
    assert_eq!(ask(address, ready).await, response("200 OK", &all));
    health.warn([].iter());
    assert_eq!(ask(address, ready).await, response("200 OK", "ok\none\ntwo\n"));
}

#[tokio::test]
async fn health_is_the_loops() {
    let (address, health) = server().await;
    let alive = b"GET /healthz HTTP/1.1\r\n\r\n";
    assert_eq!(ask(address, alive).await, response("200 OK", "ok\n"));
    health.state().beat = Instant::now().checked_sub(STALLED + Duration::from_secs(2)).unwrap();
    assert_eq!(
        ask(address, alive).await,
        response(
            "503 Service Unavailable",
            "the loop has not come round for 182 s: see the agent's log\n"
        )
    );
    health.beat();
    assert_eq!(ask(address, alive).await, response("200 OK", "ok\n"));
}

#[tokio::test]
async fn what_is_no_request_for_us_is_refused() {
    let (address, _) = server().await;
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

#[tokio::test]
async fn a_port_in_use_is_named_with_its_flag() {
    let (address, _) = server().await;
    let error = listen(address).await.unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("cannot answer on --health-address {address}: ")),
        "{error}"
    );
}
