//! Fragments of which the first comes last, by name.

use anyhow::Result;
use netpath_common::hook::Hook;
use netpath_tests::frame::{Frame, TcpFlags};

use super::{Visit, named::visit};
use crate::logic::node::{At, CLIENT, FAR, MAC_BRIDGE, MAC_UPLINK, NODE, POD_FAR, UPLINK, VNI, from_wire, six};

/// Fragments from outside, as they are and in a tunnel, of which the first comes last.
pub fn reversed<A: At>() -> Result<Vec<(&'static str, Visit)>> {
    let (client, far, node) = (A::at(CLIENT), A::at(POD_FAR), (A::at(NODE), 30_080));
    let later = |frame: Frame, source| A::packet(&frame.fragment(12, 9, false), source, node.0, 6, &[2; 1_203]);
    let first = |frame: Frame, source| {
        frame
            .fragment(12, 0, true)
            .tcp((source, 33_010), node, TcpFlags::SYN, &[1; 52])
    };
    let inner = Frame::new(MAC_BRIDGE, MAC_UPLINK);
    let tunnel = |inner: &[u8]| from_wire().vxlan((FAR, 51_000), (NODE, 4789), VNI, inner);
    let behind_options = |frame: Vec<u8>| match frame[12] {
        // The fragment's header is not the first that IPv6 has: it is looked for behind the tunnel alone.
        0x86 => {
            let options = [44, 0, 1, 4, 0, 0, 0, 0];
            inner.ipv6_behind(six(POD_FAR), six(NODE), 0, &options, &frame[54..])
        }
        _ => frame,
    };
    let mut visits = Vec::new();
    for (name, hook, frame) in [
        (
            "a fragment before its first",
            Hook::FromWireXdp,
            later(from_wire(), client),
        ),
        ("the same at tc", Hook::FromWire, later(from_wire(), client)),
        ("its first", Hook::FromWireXdp, first(from_wire(), client)?),
        ("its first at tc", Hook::FromWire, first(from_wire(), client)?),
        ("the first anew", Hook::FromWire, first(from_wire(), client)?),
        ("the other anew", Hook::FromWire, later(from_wire(), client)),
        ("a tunnelled fragment", Hook::FromWireXdp, tunnel(&later(inner, far))?),
        ("the same at tc", Hook::FromWire, tunnel(&later(inner, far))?),
        (
            "behind options",
            Hook::FromWire,
            tunnel(&behind_options(later(inner, far)))?,
        ),
        ("its first", Hook::FromWireXdp, tunnel(&first(inner, far)?)?),
        ("its first at tc", Hook::FromWire, tunnel(&first(inner, far)?)?),
        ("the first anew", Hook::FromWire, tunnel(&first(inner, far)?)?),
        ("the other anew", Hook::FromWire, tunnel(&later(inner, far))?),
    ] {
        visits.push((name, visit(hook, UPLINK, frame)));
    }
    Ok(visits)
}
