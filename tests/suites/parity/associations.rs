//! Frames of SCTP, by name: ports that change, and their checksum with them; ways that other protocols do not go.

use anyhow::Result;
use netpath_common::hook::Hook;
use netpath_ebpf::packet::GSO_BY_FRAGS;
use netpath_tests::{
    frame::Frame,
    sctp::{self, chunk, init},
};

use super::{
    Visit,
    named::{segmented, visit},
};
use crate::logic::node::{
    At, BRIDGE, CLIENT, DATABASE, DIAMETER, EMPTY, FAR, FAR_DIAMETER, GATEWAY, MAC_BRIDGE, MAC_UPLINK, NODE, POD_A,
    POD_B, POD_FAR, PORT_A, SIGNAL, UPLINK, VNI, WEB, from_a, from_wire,
};

/// Those of a family.
pub fn associations<A: At>() -> Result<Vec<(&'static str, Visit)>> {
    let at = |address, port| (A::at(address), port);
    let from_pod = |frame: Vec<u8>| visit(Hook::FromPod, PORT_A, frame);
    let sent = |port, to, chunks: &[u8]| from_a().sctp(at(POD_A, port), to, chunks);
    let data = |length| chunk(sctp::DATA, &vec![0x5c; length]);
    let answer = Frame::new(MAC_BRIDGE, MAC_UPLINK).sctp(
        at(POD_FAR, FAR_DIAMETER),
        at(POD_A, 40_000 - 32_768 + 1_024),
        &chunk(sctp::INIT_ACK, &[7; 301]),
    );
    let large = from_a().sctp_without_checksum(at(POD_A, 5_000), at(DATABASE, DIAMETER), &data(3_000));
    let fragment = |port, to, bytes: &[u8]| {
        let frame = from_a().fragment(11, 0, true);
        from_pod(A::packet(
            &frame,
            A::at(POD_A),
            A::at(to),
            132,
            &sctp::packet(5_000, port, bytes),
        ))
    };
    let tunnelled = from_wire().vxlan((FAR, 51_000), (NODE, 4789), VNI, &answer)?;
    let node_port = from_wire().sctp(at(CLIENT, 33_000), at(NODE, 30_085), &init());
    Ok(vec![
        ("SCTP to a service", from_pod(sent(40_000, at(WEB, SIGNAL), &init()))),
        (
            "SCTP to a service, from a port that stays",
            from_pod(sent(5_000, at(WEB, SIGNAL), &init())),
        ),
        ("SCTP far away", from_pod(sent(40_000, at(DATABASE, DIAMETER), &init()))),
        (
            "SCTP far away, a message",
            from_pod(sent(40_000, at(DATABASE, DIAMETER), &data(1_333))),
        ),
        (
            "SCTP without a checksum",
            from_pod(from_a().sctp_without_checksum(at(POD_A, 40_000), at(DATABASE, DIAMETER), &init())),
        ),
        (
            "SCTP and an answer out of the tunnel",
            visit(Hook::FromWire, UPLINK, tunnelled.clone()),
        ),
        (
            "SCTP out of the tunnel, yet to be segmented",
            segmented(visit(Hook::FromWire, UPLINK, tunnelled), GSO_BY_FRAGS),
        ),
        (
            "SCTP into the tunnel, yet to be segmented",
            segmented(from_pod(large.clone()), GSO_BY_FRAGS),
        ),
        ("SCTP too large for the tunnel", from_pod(large)),
        (
            "SCTP outside, yet to be segmented",
            segmented(from_pod(sent(5_000, at(CLIENT, SIGNAL), &data(3_000))), GSO_BY_FRAGS),
        ),
        ("SCTP outside", from_pod(sent(40_000, at(CLIENT, SIGNAL), &init()))),
        ("SCTP to a pod", from_pod(sent(40_000, at(POD_B, SIGNAL), &init()))),
        (
            "SCTP to a service without endpoints",
            from_pod(sent(40_000, at(EMPTY, SIGNAL), &init())),
        ),
        (
            "a message to a service without endpoints",
            from_pod(sent(40_000, at(EMPTY, SIGNAL), &data(5))),
        ),
        ("a fragment of SCTP", fragment(SIGNAL, WEB, &data(40))),
        (
            "a fragment of SCTP to another port",
            fragment(DIAMETER, DATABASE, &data(40)),
        ),
        ("SCTP without a chunk", from_pod(sent(40_000, at(WEB, SIGNAL), &[]))),
        ("SCTP to a node port", visit(Hook::FromWire, UPLINK, node_port.clone())),
        ("SCTP to a node port, XDP", visit(Hook::FromWireXdp, UPLINK, node_port)),
        (
            "the node to a service, SCTP",
            visit(
                Hook::FromHost,
                BRIDGE,
                Frame::new(MAC_BRIDGE, MAC_BRIDGE).sctp(at(GATEWAY, 45_000), at(DATABASE, DIAMETER), &init()),
            ),
        ),
        (
            "SCTP of the node into the tunnel, yet to be segmented",
            segmented(
                visit(
                    Hook::FromHost,
                    BRIDGE,
                    Frame::new(MAC_BRIDGE, MAC_BRIDGE).sctp(at(GATEWAY, 5_001), at(DATABASE, DIAMETER), &data(3_000)),
                ),
                GSO_BY_FRAGS,
            ),
        ),
    ])
}
