//! The ways without a service: same node, direct, through the tunnel, and what belongs to the stack.

use anyhow::Result;
use netpath_common::reason::Reason;
use netpath_ebpf::{path, scratch::Scratch, verdict::NextHop};
use netpath_tests::{
    frame::{Frame, TcpFlags},
    packet::HostPacket,
    verdict::Verdict,
};

use super::node::*;

#[test]
fn same_node_changes_no_byte() -> Result<()> {
    let frame = Frame::new(MAC_A, MAC_B).tcp((POD_A, 40_000), (POD_B, 8080), TcpFlags::SYN, b"")?;
    let mut tables = tables();
    assert_eq!(
        pod_a_sends(&mut tables, frame.clone()),
        (Verdict::Endpoint { ifindex: PORT_B }, frame)
    );
    assert!(tables.v4.connections.is_empty());
    Ok(())
}

#[test]
fn a_node_on_the_segment_directly() -> Result<()> {
    for (to, port) in [(POD_PEER, 8080), (PEER, 22)] {
        let (verdict, frame) = pod_a_sends(
            &mut tables(),
            from_a().tcp((POD_A, 40_000), (to, port), TcpFlags::SYN, b"")?,
        );
        assert_eq!(
            verdict,
            Verdict::Wire {
                next_hop: NextHop::v4(PEER),
                reason: Reason::ToPeer
            }
        );
        // One hop older; the kernel's neighbour gives the MAC addresses.
        assert_eq!(
            frame,
            from_a().ttl(63).tcp((POD_A, 40_000), (to, port), TcpFlags::SYN, b"")?
        );
    }
    Ok(())
}

/// The outer source port spreads flows; all else of the outer headers is told by the configuration.
fn tunnelled(frame: &[u8], inner: &[u8]) -> Result<()> {
    let source_port = u16::from_be_bytes([frame[34], frame[35]]);
    assert!(source_port >= 49_152, "{source_port} is not in the dynamic range");
    let outer = Frame::new([0; 6], [0; 6]).vxlan((NODE, source_port), (FAR, 4789), VNI, inner)?;
    assert_eq!(frame, outer);
    Ok(())
}

#[test]
fn a_node_behind_a_router_through_the_tunnel() -> Result<()> {
    let (verdict, frame) = pod_a_sends(
        &mut tables(),
        from_a().tcp((POD_A, 40_000), (POD_FAR, 8080), TcpFlags::SYN, b"hello")?,
    );
    assert_eq!(
        verdict,
        Verdict::Wire {
            next_hop: NextHop::v4(ROUTER),
            reason: Reason::ToTunnel
        }
    );
    let inner = Frame::new(MAC_OVERLAY, netpath_ebpf::encap::PEER_MAC).ttl(63);
    tunnelled(
        &frame,
        &inner.tcp((POD_A, 40_000), (POD_FAR, 8080), TcpFlags::SYN, b"hello")?,
    )
}

#[test]
fn flows_of_one_pod_spread_over_source_ports() -> Result<()> {
    let mut ports = std::collections::BTreeSet::new();
    for port in 40_000..40_064 {
        let (_, frame) = pod_a_sends(&mut tables(), from_a().udp((POD_A, port), (POD_FAR, 53), b"")?);
        ports.insert(u16::from_be_bytes([frame[34], frame[35]]));
    }
    assert!(ports.len() > 55, "64 flows have only {} source ports", ports.len());
    Ok(())
}

#[test]
fn out_of_the_tunnel_into_the_pod() -> Result<()> {
    let inner = Frame::new([9; 6], [8; 6]).ttl(63);
    let inner = inner.tcp((POD_FAR, 8080), (POD_A, 40_000), TcpFlags::SYN_ACK, b"")?;
    let (verdict, frame) = wire_brings(
        &mut tables(),
        from_wire().vxlan((FAR, 50_123), (NODE, 4789), VNI, &inner)?,
    );
    assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_A });
    let expected = Frame::new(MAC_BRIDGE, MAC_A).ttl(63);
    assert_eq!(
        frame,
        expected.tcp((POD_FAR, 8080), (POD_A, 40_000), TcpFlags::SYN_ACK, b"")?
    );
    Ok(())
}

#[test]
fn out_of_the_tunnel_to_the_node() -> Result<()> {
    let inner = Frame::new([9; 6], [8; 6])
        .ttl(63)
        .tcp((POD_FAR, 40_000), (NODE, 22), TcpFlags::SYN, b"")?;
    let (verdict, frame) = wire_brings(
        &mut tables(),
        from_wire().vxlan((FAR, 50_123), (NODE, 4789), VNI, &inner)?,
    );
    assert_eq!(verdict, Verdict::Pass(Reason::ToHost));
    assert_eq!(
        frame,
        from_wire()
            .ttl(63)
            .tcp((POD_FAR, 40_000), (NODE, 22), TcpFlags::SYN, b"")?
    );
    Ok(())
}

#[test]
fn another_network_on_the_same_port_is_left_alone() -> Result<()> {
    let inner = Frame::new(MAC_B, MAC_A).udp((POD_FAR, 1), (POD_A, 2), b"x")?;
    let frame = from_wire().vxlan((FAR, 50_000), (NODE, 4789), VNI + 1, &inner)?;
    assert_eq!(
        wire_brings(&mut tables(), frame.clone()),
        (Verdict::Pass(Reason::ToStack), frame)
    );
    Ok(())
}

#[test]
fn from_the_wire_into_the_pod() -> Result<()> {
    let (verdict, frame) = wire_brings(
        &mut tables(),
        from_wire()
            .ttl(63)
            .tcp((POD_PEER, 8080), (POD_A, 40_000), TcpFlags::SYN_ACK, b"")?,
    );
    assert_eq!(verdict, Verdict::Endpoint { ifindex: PORT_A });
    let expected = Frame::new(MAC_BRIDGE, MAC_A).ttl(63);
    assert_eq!(
        frame,
        expected.tcp((POD_PEER, 8080), (POD_A, 40_000), TcpFlags::SYN_ACK, b"")?
    );
    Ok(())
}

#[test]
fn what_is_not_ours_passes_untouched() -> Result<()> {
    let to_node = from_wire().tcp((CLIENT, 50_000), (NODE, 22), TcpFlags::SYN, b"")?;
    assert_eq!(
        wire_brings(&mut tables(), to_node.clone()),
        (Verdict::Pass(Reason::ToHost), to_node)
    );
    let routed = from_wire().tcp((CLIENT, 50_000), ([198, 51, 100, 1], 22), TcpFlags::SYN, b"")?;
    assert_eq!(
        wire_brings(&mut tables(), routed.clone()),
        (Verdict::Pass(Reason::ToStack), routed)
    );
    let others = Frame::new(MAC_ROUTER, [2, 0, 0, 0, 50, 99]).udp((CLIENT, 1), (POD_A, 2), b"")?;
    assert_eq!(
        wire_brings(&mut tables(), others.clone()),
        (Verdict::Pass(Reason::ToStack), others)
    );
    Ok(())
}

#[test]
fn an_address_of_ours_that_nobody_has_goes_nowhere() -> Result<()> {
    for (to, reason) in [
        ([10, 244, 1, 77], Reason::NoEndpoint),
        ([10, 96, 7, 7], Reason::NoFrontend),
    ] {
        let frame = from_a().tcp((POD_A, 40_000), (to, 80), TcpFlags::SYN, b"")?;
        assert_eq!(
            pod_a_sends(&mut tables(), frame.clone()),
            (Verdict::Drop(reason), frame)
        );
    }
    Ok(())
}

#[test]
fn pod_to_its_node_and_to_groups_through_the_stack() -> Result<()> {
    let to_node = from_a().tcp((POD_A, 40_000), (NODE, 22), TcpFlags::SYN, b"")?;
    assert_eq!(
        pod_a_sends(&mut tables(), to_node.clone()),
        (Verdict::Pass(Reason::ToHost), to_node)
    );
    let group = Frame::new(MAC_A, [1, 0, 0x5e, 0, 0, 1]).udp((POD_A, 1), ([224, 0, 0, 1], 2), b"")?;
    assert_eq!(
        pod_a_sends(&mut tables(), group.clone()),
        (Verdict::Pass(Reason::ToStack), group)
    );
    Ok(())
}

#[test]
fn ipv6_of_a_pod_that_has_none_is_named_and_dropped() {
    let mut tables = tables();
    for port in tables.bridge.values_mut() {
        port.address6 = [0; 16];
    }
    let all_routers = [0x33, 0x33, 0, 0, 0, 2];
    for (destination, reason) in [(MAC_BRIDGE, Reason::FamilyNotServed), (all_routers, Reason::Ipv6Noise)] {
        let mut frame = vec![0; 54];
        frame[..6].copy_from_slice(&destination);
        frame[6..12].copy_from_slice(&MAC_A);
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        assert_eq!(pod_a_sends(&mut tables, frame.clone()), (Verdict::Drop(reason), frame));
    }
}

/// Behind the uplink's MAC address another network may be, with NodePorts' numbers of its own.
#[test]
fn what_is_of_a_vlan_passes_by_at_the_uplink() -> Result<()> {
    let asks = from_wire().tcp((CLIENT, 40_000), (NODE, 30_080), TcpFlags::SYN, b"")?;
    // As the stack sends it, for a pod on the node's own network.
    let answers = Frame::new(MAC_UPLINK, MAC_ROUTER).tcp((POD_B, 8080), (CLIENT, 40_000), TcpFlags::SYN_ACK, b"")?;
    let (mut tables, mut scratch) = (tables(), Scratch::default());
    let of_vlan = |frame: &[u8]| HostPacket {
        vlan: 100,
        ..HostPacket::new(frame.to_vec(), UPLINK)
    };
    let mut packet = of_vlan(&asks);
    let verdict = path::from_wire::run(&mut packet, &mut tables, &config(), &mut scratch);
    assert_eq!(Verdict::new(verdict, &scratch), Verdict::Pass(Reason::ToStack));
    assert_eq!((&packet.bytes, tables.v4.connections.len()), (&asks, 0));
    // The same without a tag, and what answers it: with one that is left alone as well.
    wire_brings(&mut tables, asks);
    assert_eq!(tables.v4.connections.len(), 2);
    let mut packet = of_vlan(&answers);
    path::to_wire::run(&mut packet, &mut tables, &mut scratch);
    assert_eq!(packet.bytes, answers);
    assert_ne!(stack_sends_out(&mut tables, answers.clone()).1, answers);
    Ok(())
}
