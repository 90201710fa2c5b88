//! A pod is who it says, or goes nowhere.

use anyhow::Result;
use netpath_common::reason::Reason;
use netpath_tests::{frame::Frame, verdict::Verdict};

use super::node::*;

fn dropped(frame: Vec<u8>, reason: Reason) {
    assert_eq!(
        pod_a_sends(&mut tables(), frame.clone()),
        (Verdict::Drop(reason), frame)
    );
}

#[test]
fn anothers_mac() -> Result<()> {
    dropped(
        Frame::new(MAC_B, MAC_BRIDGE).udp((POD_A, 1), (POD_B, 2), b"x")?,
        Reason::SpoofedMac,
    );
    Ok(())
}

#[test]
fn anothers_address() -> Result<()> {
    for address in [POD_B, GATEWAY, NODE, [0; 4], POD_FAR] {
        dropped(from_a().udp((address, 1), (POD_B, 2), b"x")?, Reason::SpoofedAddress);
    }
    Ok(())
}

#[test]
fn vxlan_of_its_own() -> Result<()> {
    let inner = Frame::new(MAC_A, MAC_B).udp((POD_B, 1), (POD_FAR, 2), b"x")?;
    for node in [NODE, PEER, FAR] {
        dropped(
            from_a().vxlan((POD_A, 50_000), (node, 4789), VNI, &inner)?,
            Reason::TunnelFromPod,
        );
    }
    // A node has none to itself by its other address either, whichever way that is reached.
    for node in [NODE, PEER, FAR, LONE] {
        dropped(
            from_a().vxlan((six(POD_A), 50_000), (six(node), 4789), VNI, &inner)?,
            Reason::TunnelFromPod,
        );
    }
    // To another pod it is a datagram as any other.
    let frame = Frame::new(MAC_A, MAC_B).vxlan((POD_A, 50_000), (POD_B, 4789), VNI, &inner)?;
    let (verdict, after) = pod_a_sends(&mut tables(), frame.clone());
    assert_eq!((verdict, after), (Verdict::Endpoint { ifindex: PORT_B }, frame));
    Ok(())
}

#[test]
fn a_port_that_no_pod_is_on() -> Result<()> {
    let mut tables = tables();
    tables.bridge.remove(&PORT_A);
    let frame = from_a().udp((POD_A, 1), (POD_B, 2), b"x")?;
    assert_eq!(
        pod_a_sends(&mut tables, frame.clone()),
        (Verdict::Drop(Reason::UnknownPort), frame)
    );
    Ok(())
}

#[test]
fn headers_that_contradict_themselves() -> Result<()> {
    let good = from_a().udp((POD_A, 1), (POD_B, 2), b"hello")?;
    let mut version = good.clone();
    version[14] = 0x65;
    let mut header_len = good.clone();
    header_len[14] = 0x44;
    let mut total_len = good.clone();
    total_len[16..18].copy_from_slice(&2000u16.to_be_bytes());
    for bad in [version, header_len, total_len, good[..30].to_vec(), good[..38].to_vec()] {
        dropped(bad, Reason::Malformed);
    }
    assert_eq!(
        pod_a_sends(&mut tables(), vec![0; 5]),
        (Verdict::Drop(Reason::Malformed), vec![0; 5])
    );
    Ok(())
}

#[test]
fn vxlan_from_a_stranger() -> Result<()> {
    let inner = Frame::new(MAC_B, MAC_A).udp((POD_FAR, 1), (POD_A, 2), b"x")?;
    let frame = from_wire().vxlan((CLIENT, 50_000), (NODE, 4789), VNI, &inner)?;
    assert_eq!(
        wire_brings(&mut tables(), frame.clone()),
        (Verdict::Drop(Reason::TunnelFromStranger), frame)
    );
    let pod = from_wire().vxlan((POD_PEER, 50_000), (NODE, 4789), VNI, &inner)?;
    assert_eq!(
        wire_brings(&mut tables(), pod.clone()),
        (Verdict::Drop(Reason::TunnelFromStranger), pod)
    );
    Ok(())
}

/// At the uplink nobody else has the node's address: the kernel, which would say so, is told to take what was translated to it.
#[test]
fn the_node_s_own_address_on_the_wire() -> Result<()> {
    for destination in [NODE, POD_B, CLIENT] {
        let sent = from_wire().udp((NODE, 1), (destination, 53), b"x")?;
        let outcome = wire_brings(&mut tables(), sent.clone());
        assert_eq!(outcome, (Verdict::Drop(Reason::OwnAddress), sent));
    }
    // Nor has anybody one that the node has on another device, when it speaks to the node.
    let sent = from_wire().udp((GATEWAY, 1), (NODE, 53), b"x")?;
    let outcome = wire_brings(&mut tables(), sent.clone());
    assert_eq!(outcome, (Verdict::Drop(Reason::OwnAddress), sent));
    Ok(())
}
