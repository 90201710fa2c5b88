//! The frames of tunnels over IPv6, by name.

use anyhow::Result;
use netpath_common::hook::Hook;
use netpath_tests::frame::{Frame, TcpFlags};

use super::{Visit, named::visit};
use crate::logic::node::{
    CLIENT, FAR, LONE, MAC_BRIDGE, MAC_UPLINK, NODE, POD_A, POD_FAR, POD_LONE, PORT_A, UPLINK, VNI, from_a, from_wire,
    six,
};

/// The frames.
pub fn frames() -> Result<Vec<(&'static str, Visit)>> {
    let at = |address, port| (six(address), port);
    let from_pod = |frame: Vec<u8>| visit(Hook::FromPod, PORT_A, frame);
    let sent = |to, payload: &[u8]| from_a().udp(at(POD_A, 40_000), to, payload);
    let inner = Frame::new(MAC_BRIDGE, MAC_UPLINK);
    let answer = inner.tcp(at(POD_LONE, 5432), at(POD_A, 40_000), TcpFlags::SYN_ACK, &[7; 33])?;
    let asks = |port| inner.tcp(at(POD_LONE, 33_000), at(NODE, port), TcpFlags::SYN, &[]);
    let vxlan = |from, inner: &[u8]| from_wire().vxlan(at(from, 51_000), at(NODE, 4789), VNI, inner);
    let behind_options = from_wire().ipv6_behind(
        six(LONE),
        six(NODE),
        60,
        &[17, 0, 1, 4, 0, 0, 0, 0],
        &vxlan(LONE, &answer)?[54..],
    );
    let mut visits = vec![
        ("pod into a tunnel of IPv6", from_pod(sent(at(POD_LONE, 80), &[3; 9])?)),
        ("to the node at its end", from_pod(sent(at(LONE, 80), &[3; 9])?)),
        ("the largest", from_pod(sent(at(POD_LONE, 80), &[3; 1430 - 48])?)),
        ("one byte more", from_pod(sent(at(POD_LONE, 80), &[3; 1431 - 48])?)),
        ("a tunnel of a pod's own", from_pod(sent(at(LONE, 4789), &[3; 60])?)),
        ("the same through one of IPv4", from_pod(sent(at(FAR, 4789), &[3; 60])?)),
        ("the same to a pod", from_pod(sent(at(POD_LONE, 4789), &[3; 60])?)),
    ];
    for (hook, frames) in [
        (
            Hook::FromWire,
            ["out", "stranger", "node", "pod", "far", "options", "IPv4"],
        ),
        (
            Hook::FromWireXdp,
            [
                "out, XDP",
                "stranger, XDP",
                "node, XDP",
                "pod, XDP",
                "far, XDP",
                "options, XDP",
                "IPv4, XDP",
            ],
        ),
    ] {
        let carried = [
            vxlan(LONE, &answer)?,
            vxlan(CLIENT, &answer)?,
            vxlan(LONE, &asks(22)?)?,
            vxlan(LONE, &asks(30_080)?)?,
            vxlan(LONE, &asks(30_054)?)?,
            behind_options.clone(),
            vxlan(LONE, &inner.udp((POD_FAR, 80), (POD_A, 40_000), b"four in six")?)?,
        ];
        visits.extend(frames.into_iter().zip(carried.map(|frame| visit(hook, UPLINK, frame))));
    }
    Ok(visits)
}
