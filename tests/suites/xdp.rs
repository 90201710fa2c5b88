//! XDP on the uplink, over real devices.

use std::{
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result};
use netpath_agent::datapath::tables;
use netpath_common::{
    abi::service::{Backend, BackendKey, Service, v4},
    hook::Hook,
    reason::Reason,
};

use crate::fragments::ground::{Both, CLIENT_PORT, FAR_NODE, Ground, Place, VXLAN};

/// A NodePort whose backend is behind the tunnel.
const PORT: u16 = 30_054;

/// A node that this one has never spoken to: the kernel must ask who it is, and the frame waits for that.
#[test]
fn a_neighbour_that_is_not_known_yet_is_asked_for() -> Result<()> {
    let ground = Ground::new(true)?;
    let place = BackendKey { set: 2, slot: 0 };
    let far: Backend<[u8; 4]> = Backend {
        address: Both::at(Place::Far),
        port: 53,
        reserved: [0; 2],
    };
    tables::backends::<[u8; 4]>(&ground.node.pins)?.insert(&place, &far.into())?;
    let frontend = v4::Frontend {
        address: Both::at(Place::Node),
        port: PORT,
        protocol: 17,
        reserved: 0,
    };
    let service = Service {
        set: 2,
        count: 1,
        outside_set: 2,
        outside_count: 1,
        ..Service::default()
    };
    tables::services::<[u8; 4]>(&ground.node.pins)?.insert(&frontend, &service)?;
    let tunnel = ground.outside.run(|| Ok(UdpSocket::bind((FAR_NODE, VXLAN))?))?;
    tunnel.set_read_timeout(Some(Duration::from_secs(2)))?;
    let outside: [u8; 4] = Both::at(Place::Outside);
    let asks = ground
        .outside
        .run(|| Ok(UdpSocket::bind((Ipv4Addr::from(outside), CLIENT_PORT))?))?;
    asks.send_to(b"who", (Ipv4Addr::from(frontend.address), PORT))?;
    let mut buffer = [0; 256];
    let (length, from) = tunnel.recv_from(&mut buffer).context("nothing arrives")?;
    assert_eq!(from.ip(), Ipv4Addr::from(frontend.address));
    let inner = &buffer[8 + 14..length];
    assert_eq!((&inner[16..20], &inner[28..]), (&far.address[..], &b"who"[..]));
    assert_eq!(ground.counted(Hook::FromWireXdp, Reason::ToTunnel)?, 1);
    assert_eq!(ground.counted(Hook::FromWire, Reason::ToPeer)?, 1);
    Ok(())
}
