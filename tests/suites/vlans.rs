//! Frames with VLAN tags, from a pod over real devices: a tag is no way around the checks of who a pod is. The kernel takes the
//! first one off before a program sees the frame, and whoever gets the frame takes off the next.

use std::{net::UdpSocket, os::fd::AsRawFd, time::Duration};

use anyhow::{Context, Result};
use netpath_agent::datapath::maps::Counters;
use netpath_common::{hook::Hook, reason::Reason};
use netpath_tests::{frame::Frame, lab::namespace::Namespace};
use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, sendto, socket},
};
use serde_json::json;

use crate::cni::{
    families::{dual, node},
    link,
};

const OWN: [u8; 4] = [10, 244, 1, 2];
const FORGED: [u8; 4] = [10, 244, 1, 77];
const SERVER: [u8; 4] = [10, 244, 1, 3];
const PORT: u16 = 4_789;

/// Sends a frame, as it is, by a device.
fn send(from: &Namespace, device: &str, frame: &[u8]) -> Result<()> {
    from.run(|| {
        let mut links = getifaddrs()?.filter(|found| found.interface_name == device);
        let link = links.find_map(|found| found.address?.as_link_addr().copied());
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
        sendto(
            socket.as_raw_fd(),
            frame,
            &link.context("no such device")?,
            MsgFlags::empty(),
        )?;
        Ok(())
    })
}

#[test]
fn tags_are_no_way_around_the_checks() -> Result<()> {
    let node = node()?;
    let [client, server] = ["client", "server"].map(|name| {
        let pod = node.pod(name)?;
        node.call("ADD", name, Some(&pod), dual(json!({})))?.ok()?;
        anyhow::Ok(pod)
    });
    let (client, server) = (client?, server?);
    let hears = server.run(|| Ok(UdpSocket::bind(("0.0.0.0", PORT))?))?;
    hears.set_read_timeout(Some(Duration::from_millis(200)))?;
    let (from, to) = (link(&client, "eth0")?.mac, link(&server, "eth0")?.mac);
    for (tags, source, reason) in [
        (&[][..], OWN, None),
        (&[], FORGED, Some(Reason::SpoofedAddress)),
        (&[0], OWN, None),
        (&[0], FORGED, Some(Reason::SpoofedAddress)),
        (&[0, 0], OWN, Some(Reason::NotIp)),
        (&[0, 0], FORGED, Some(Reason::NotIp)),
        (&[5], OWN, Some(Reason::VlanFromPod)),
        (&[5, 0], OWN, Some(Reason::VlanFromPod)),
    ] {
        let plain = Frame::new(from, to).udp((source, 7_000), (SERVER, PORT), b"who")?;
        let tags: Vec<u8> = tags.iter().flat_map(|tag: &u8| [0x81, 0, 0, *tag]).collect();
        let frame = [&plain[..12], &tags, &plain[12..]].concat();
        let counted = || -> Result<u64> {
            let counters = Counters::open(&node.pins)?;
            let of = |reason| anyhow::Ok(counters.get(Hook::FromPod, reason)?.packets);
            reason.map_or(Ok(0), of)
        };
        let before = counted()?;
        send(&client, "eth0", &frame)?;
        let heard = hears.recv_from(&mut [0; 64]).ok();
        assert_eq!(heard.is_some(), reason.is_none(), "{frame:02x?}: {heard:?}");
        assert_eq!(counted()? - before, u64::from(reason.is_some()), "{frame:02x?}");
    }
    Ok(())
}
