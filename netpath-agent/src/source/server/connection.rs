//! A client of one API server, over connections whose silent end is noticed within seconds: a watch only listens, and what it listens
//! to may be gone without a word, for one when the node's own address has changed.

use std::time::Duration;

use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::{Client as Http, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt;
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

/// How long a connection is quiet before the kernel asks the other end whether it is there, and between two such questions.
const QUIET: Duration = Duration::from_secs(5);
/// A connection whose other end acknowledges nothing for so long is over (TCP_USER_TIMEOUT, tcp(7)): what was sent, or a question.
const DEAF: Duration = Duration::from_secs(15);

/// A client for this server, by the limits of time in its configuration and those above.
///
/// # Errors
/// The configuration names files or certificates that cannot be used.
pub fn client(config: &Config) -> kube::Result<Client> {
    // kube says that it has no proxies.
    if config.proxy_url.is_some() {
        return Client::try_from(config.clone());
    }
    let mut tcp = HttpConnector::new();
    // TLS is laid over it.
    tcp.enforce_http(false);
    tcp.set_keepalive(Some(QUIET));
    tcp.set_keepalive_interval(Some(QUIET));
    tcp.set_tcp_user_timeout(Some(DEAF));
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(Http::builder(TokioExecutor::new()).build(connector));
    Ok(Client::new(service, config.default_namespace.clone()))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Instant;

    use futures::TryStreamExt;
    use http::Request;
    use kube::client::Body;
    use nix::sched::{CloneFlags, unshare};
    use rtnetlink::LinkUnspec;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::net::Netlink;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 1);
    const LOOPBACK: u32 = 1;

    /// Both ends are in one namespace, whose address goes away under an answer that has begun: neither end hears of it. Needs root.
    #[tokio::test]
    async fn an_answer_whose_server_is_gone_without_a_word_ends() {
        unshare(CloneFlags::CLONE_NEWNET).expect("root");
        let netlink = Netlink::connect().unwrap();
        let up = LinkUnspec::new_with_index(LOOPBACK).up().build();
        netlink.handle().link().set(up).execute().await.unwrap();
        let addresses = netlink.handle().address();
        addresses.add(LOOPBACK, ADDRESS.into(), 32).execute().await.unwrap();

        let listener = TcpListener::bind((ADDRESS, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            stream.write_all(head).await.unwrap();
            std::future::pending::<()>().await;
        });
        let config = Config::new(url.parse().unwrap());
        let request = Request::get("/").body(Body::empty()).unwrap();
        let answer = client(&config).unwrap().send(request).await.unwrap();

        let all: Vec<_> = netlink.handle().address().get().execute().try_collect().await.unwrap();
        let (length, kind) = (32, rtnetlink::packet_route::AddressFamily::Inet);
        let ours = all
            .into_iter()
            .find(|address| address.header.family == kind && address.header.prefix_len == length);
        netlink.handle().address().del(ours.unwrap()).execute().await.unwrap();

        let since = Instant::now();
        let rest = tokio::time::timeout(3 * DEAF, answer.into_body().collect_bytes()).await;
        assert!(rest.expect("it goes on listening").is_err());
        assert!(since.elapsed() > QUIET, "it did not end because nothing came");
    }
}
