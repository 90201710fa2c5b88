//! Services without a backend whose frontend a socket may keep for its peer, and those that it may not.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket},
};

use anyhow::{Context as _, Result, ensure};
use netpath_agent::datapath::tables as maps;
use netpath_common::{
    abi::{
        route::{
            VIA_SERVICE,
            v4::{Route, RouteKey},
        },
        service::FLAG_NODE_PORT,
    },
    hook::Hook,
    reason::Reason,
};

use super::{NODE_PORT, Node, TCP, UDP};

/// In a range of services that the kernel has a route for, as `connect` wants it: the loopback device's.
const EMPTY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 96, 0, 99), 80);

#[test]
fn a_connected_socket_of_udp_keeps_the_service_where_its_packets_pass_the_bridge() -> Result<()> {
    let mut node = Node::new()?;
    node.config.route_prefixes4 = [16, 0, 0, 0];
    maps::config(&node.pins)?.set(&node.config)?;
    let range = RouteKey {
        address: [127, 96, 0, 0],
        prefix_len: 16,
    };
    let route = Route {
        via: VIA_SERVICE,
        ..Route::default()
    };
    maps::routes::<[u8; 4]>(&node.pins)?.insert(&range, &route)?;
    node.serve(EMPTY, TCP, 0, 0, &[])?;
    node.serve(EMPTY, UDP, 0, 0, &[])?;
    node.serve(NODE_PORT, UDP, FLAG_NODE_PORT, 0, &[])?;
    node.namespace.run(|| {
        let udp = UdpSocket::bind("0.0.0.0:0")?;
        udp.connect(EMPTY)?;
        ensure!(udp.peer_addr()? == EMPTY.into(), "{:?}", udp.peer_addr());
        for result in [
            TcpStream::connect(EMPTY).map(drop),
            udp.connect(NODE_PORT),
            UdpSocket::bind("0.0.0.0:0")?.send_to(b"?", EMPTY).map(drop),
        ] {
            let error = result.err().context("it was let go")?;
            ensure!(error.kind() == ErrorKind::ConnectionRefused, "{error}");
        }
        Ok(())
    })?;
    ensure!(node.counted(Hook::Connect4, Reason::SocketLeft)? >= 1);
    ensure!(node.counted(Hook::Connect4, Reason::Refused)? == 2);
    ensure!(node.counted(Hook::Sendmsg4, Reason::Refused)? == 1);
    ensure!(node.remembered()?.is_empty());
    Ok(())
}
