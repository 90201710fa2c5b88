//! Datagrams larger than their way, over real devices: cut where they may be.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result};
use netpath_tests::lab::{home::Home, services, start::Start};
use serde_json::Value;

use crate::example;

const NODE_PORT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 168, 50, 11), 30_053));
const OBJECTS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: far, labels: {app: far}}
spec: {nodeName: node-3, containers: [{name: c, ports: [{containerPort: 53, protocol: UDP}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: far}
spec:
  {type: NodePort, clusterIP: 10.96.0.3, selector: {app: far},
   ports: [{protocol: UDP, port: 53, targetPort: 53, nodePort: 30053}]}
";

/// The node translates it and leaves it to its stack to cut, to which it looks as if the node itself had sent it.
#[test]
fn what_may_be_cut_reaches_a_backend_behind_a_tunnel() -> Result<()> {
    let folder = example::nodes_with(OBJECTS)?;
    let cluster = Start::of(folder.path()).run(Home::unique()?)?;
    services::settle(&cluster)?;
    let outside = &cluster.topology.client;
    // Linux forbids it otherwise, and sends less the next time.
    outside.set("ipv4/ip_no_pmtu_disc", "1")?;
    // The tunnel takes 1,450 bytes of IP, the client's wire 1,500.
    for size in [1_422, 1_423, 1_472, 1_473, 4_000] {
        let socket = outside.run(|| Ok(UdpSocket::bind("0.0.0.0:0")?))?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.send_to(&vec![b'x'; size], NODE_PORT)?;
        let mut buffer = [0; 2048];
        let (length, from) = socket.recv_from(&mut buffer).with_context(|| format!("{size} bytes"))?;
        let answer: Value = serde_json::from_slice(&buffer[..length])?;
        assert_eq!(
            (from, &answer["bytes"], &answer["pod"]),
            (NODE_PORT, &size.into(), &"far".into())
        );
    }
    cluster.stop()
}
