//! What the server answers on one connection: objects, lists page by page, changes, and watches that go on.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::watch,
};

use super::{
    Asked, Script,
    answer::{chunk, failure, respond},
    path,
};

/// Answers requests until the client goes.
pub async fn connection(stream: TcpStream, script: Arc<Mutex<Script>>, mut news: watch::Receiver<u64>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut target = String::new();
        let mut method = String::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            if !matches!(stream.read_line(&mut line).await, Ok(length) if length > 0) {
                return;
            }
            if target.is_empty() {
                let mut words = line.split(' ').map(str::to_owned);
                (method, target) = (words.next().unwrap(), words.next().unwrap());
            }
            if let Some((name, value)) = line.split_once(": ") {
                match name.to_lowercase().as_str() {
                    "content-length" => length = value.trim().parse().unwrap(),
                    "authorization" => script.lock().unwrap().authorization = Some(value.trim().to_owned()),
                    _ => {}
                }
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let query: BTreeMap<_, _> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let (failing, object) = {
            let watch = query.get("watch") == Some(&"true");
            script.lock().unwrap().rights.extend(path::right(&method, path, watch));
            let script = script.lock().unwrap();
            (script.failing, single(path, &script))
        };
        let sent = if let Some(status) = failing {
            respond(&mut stream, status, &failure(status, "Failing")).await
        } else if method != "GET" {
            let (status, answer) = change(&method, path, &body, &mut script.lock().unwrap());
            respond(&mut stream, status, &answer).await
        } else if let Some((status, object)) = object {
            respond(&mut stream, status, &object).await
        } else if query.get("watch") == Some(&"true") {
            let from = query["resourceVersion"].parse().unwrap();
            stream_events(&mut stream, path, from, &script, &mut news).await
        } else {
            while script.lock().unwrap().withheld == Some(path) {
                news.changed().await.unwrap();
            }
            let (status, body) = list(path, query.get("continue").copied(), &mut script.lock().unwrap());
            respond(&mut stream, status, &body).await
        };
        if sent.is_err() {
            return;
        }
    }
}

/// One object, if the path is that of one of a kind that the script knows.
fn single(path: &str, script: &Script) -> Option<(u16, Value)> {
    let found = script.objects.get(&path::object(path)?);
    Some(found.map_or_else(|| (404, failure(404, "NotFound")), |object| (200, object.clone())))
}

/// Takes down what was to be changed. An object that is made twice is there already.
fn change(method: &str, path: &str, body: &[u8], script: &mut Script) -> (u16, Value) {
    let body: Value = serde_json::from_slice(body).unwrap();
    let asked = Asked {
        method: method.to_owned(),
        path: path.to_owned(),
        body: body.clone(),
    };
    let made = |other: &Asked| (&other.method, &other.path) == (&asked.method, &asked.path);
    let name = |body: &Value| body["metadata"]["name"].clone();
    let twice = method == "POST"
        && script
            .changes
            .iter()
            .any(|other| made(other) && name(&other.body) == name(&body));
    if twice {
        script.changes.push(asked);
        return (409, failure(409, "AlreadyExists"));
    }
    // A patch is answered with the object: one that the script knows as it is, another as it was made and patched.
    let object = path.trim_end_matches("/status");
    let mut answer = body;
    if method == "PATCH" {
        let (folder, last) = object.rsplit_once('/').unwrap_or_default();
        let of = |other: &Asked| {
            other.path == asked.path || (other.path == folder && other.body["metadata"]["name"] == last)
        };
        let mut whole = json!({});
        for part in script.changes.iter().filter(|other| of(other)).chain([&asked]) {
            whole
                .as_object_mut()
                .unwrap()
                .extend(part.body.as_object().cloned().unwrap_or_default());
        }
        answer = whole;
    }
    script.changes.push(asked);
    single(object, script).unwrap_or((200, answer))
}

fn list(path: &str, token: Option<&str>, script: &mut Script) -> (u16, Value) {
    if script.forbidden == Some(path) {
        return (403, failure(403, "Forbidden"));
    }
    let start: usize = token.map_or(0, |token| token.parse().unwrap());
    if start == 0 {
        *script.lists.entry(path.to_owned()).or_default() += 1;
    }
    if script.lacking == Some(path) {
        return (404, failure(404, "NotFound"));
    }
    if start > 0 && script.later_pages_fail {
        return (500, failure(500, "InternalError"));
    }
    let all: Vec<_> = script
        .objects
        .iter()
        .filter(|((kind, _), _)| kind == path)
        .map(|(_, object)| object)
        .collect();
    let end = script.page.map_or(all.len(), |page| all.len().min(start + page));
    let mut meta = json!({"resourceVersion": script.version.to_string()});
    if end < all.len() {
        meta["continue"] = json!(end.to_string());
    }
    (
        200,
        json!({"kind": "List", "apiVersion": "v1", "metadata": meta, "items": &all[start..end]}),
    )
}

async fn stream_events(
    stream: &mut BufReader<TcpStream>,
    path: &str,
    mut from: u64,
    script: &Mutex<Script>,
    news: &mut watch::Receiver<u64>,
) -> std::io::Result<()> {
    let refused = {
        let script = script.lock().unwrap();
        script.gone_by_status && from < script.oldest
    };
    if refused {
        return respond(stream, 410, &failure(410, "Expired")).await;
    }
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head).await?;
    loop {
        news.mark_unchanged();
        let (events, gone) = {
            let script = script.lock().unwrap();
            let events: Vec<_> = script
                .log
                .iter()
                .filter(|(version, kind, _)| *version > from && kind == path)
                .cloned()
                .collect();
            (events, from < script.oldest)
        };
        if gone {
            chunk(stream, &json!({"type": "ERROR", "object": failure(410, "Expired")})).await?;
            return stream.write_all(b"0\r\n\r\n").await;
        }
        for (version, _, event) in events {
            from = version;
            chunk(stream, &event).await?;
        }
        if news.changed().await.is_err() {
            return stream.write_all(b"0\r\n\r\n").await;
        }
    }
}
