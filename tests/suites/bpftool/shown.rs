//! The same entries as bpftool is to show them.

use anyhow::{Context as _, Result};
use aya::util::nr_cpus;
use netpath_common::{
    abi::{Layouts, held::FRAME},
    names,
};
use serde_json::{Value, json};

/// The one entry of a map that counts.
pub fn expected(map: &str) -> Result<Value> {
    Ok(match map {
        names::CONFIG => json!({"key": 0, "value": {
            "abi_version": 1, "hash_seed": 2, "netns_cookie": 6, "uplink_ifindex": 3, "overlay_ifindex": 4, "bridge_ifindex": 5, "vni": 78,
            "vxlan_port": 4789, "uplink_mtu": 1500, "pod_mtu": 1450, "nat_port_min": 49152, "nat_port_max": 65535,
            "uplink_mac": [2, 0, 0, 0, 0, 1], "bridge_mac": [2, 0, 0, 0, 0, 2], "overlay_mac": [2, 0, 0, 0, 0, 3],
            "node4": [10, 0, 1, 1], "gateway4": [10, 244, 1, 1],
            "node6": [253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            "gateway6": [253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
            "route_prefixes4": [24, 32, 12, 0], "route_prefixes6": [64, 128, 112, 0],
            "outside_seed": 9, "direct_return": 1, "reserved": [0, 0, 0, 0, 0, 0, 0],
        }}),
        names::BRIDGE => json!({"key": 7, "value": {
            "mac": [2, 0, 0, 0, 0, 4], "reserved": [0, 0], "address4": [10, 244, 1, 2],
            "address6": [253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3],
        }}),
        names::COUNTER => {
            let cpus = nr_cpus().map_err(|(what, error)| anyhow::anyhow!("{what}: {error}"))?;
            let value = |cpu| json!({"cpu": cpu, "value": {"packets": 3 + cpu, "bytes": 1000 + cpu}});
            json!({"key": 1, "values": (0..cpus).map(value).collect::<Vec<_>>()})
        }
        other => expected_of::<[u8; 4]>(other)
            .or_else(|| expected_of::<[u8; 16]>(other))
            .with_context(|| format!("map {other}: nobody has said how it is to be shown"))?,
    })
}

/// The same of a family's maps; `None` for others.
fn expected_of<A: Layouts>(map: &str) -> Option<Value> {
    let bytes = |first: u8| (first..).take(size_of::<A>()).collect::<Vec<_>>();
    let names = A::NAMES;
    Some(match map {
        map if map == names.endpoint => json!({"key": bytes(1), "value": {
            "ifindex": 7, "mac": [2, 0, 0, 0, 0, 4], "kind": 1,
        }}),
        map if map == names.route => json!({"key": {"address": bytes(31), "prefix_len": 24}, "value": {
            "node": bytes(61), "next_hop": bytes(91), "via": 2, "reserved": [0, 0, 0],
        }}),
        map if map == names.service => json!({
            "key": {"address": bytes(121), "port": 80, "protocol": 6, "reserved": 0},
            "value": {
                "set": 9, "count": 2, "outside_set": 10, "outside_count": 1, "affinity": 77, "affinity_timeout": 10800,
                "sources": 55, "flags": 1, "maglev": 8, "reserved": 0,
            },
        }),
        map if map == names.backend => json!({
            "key": {"set": 9, "slot": 1},
            "value": {"address": bytes(1), "port": 8080, "reserved": [0, 0]},
        }),
        map if map == names.maglev => json!({
            "key": {"set": 10, "block": 3},
            "value": {"slots": (0..64).collect::<Vec<_>>()},
        }),
        map if map == names.source => json!({
            "key": {"prefix_len": 56, "data": {"sources": 55, "address": bytes(181)}},
            "value": 1,
        }),
        map if map == names.affinity => json!({
            "key": {"address": bytes(1), "affinity": 77},
            "value": {"address": bytes(151), "port": 8080, "reserved": [0, 0], "last_used": 12345},
        }),
        map if map == names.conntrack => json!({
            "key": {
                "source": bytes(1), "destination": bytes(121), "source_port": 40000, "destination_port": 80,
                "protocol": 6, "reserved": [0, 0, 0],
            },
            "value": {
                "source": bytes(211), "destination": bytes(151), "source_port": 49152, "destination_port": 8080,
                "state": 1, "direction": 1, "ttl": 63, "reserved": 0, "last_seen": 12345, "set": 9,
            },
        }),
        map if map == names.fragment => json!({
            "key": {
                "source": bytes(1), "destination": bytes(121), "identification": 4660, "protocol": 17,
                "reserved": [0, 0, 0],
            },
            "value": {
                "held": 3, "since": 12345, "source_port": 40000, "destination_port": 53, "state": 2,
                "reserved": [0, 0, 0, 0, 0, 0, 0],
            },
        }),
        map if map == names.held => json!({
            "key": {
                "source": bytes(1), "destination": bytes(121), "identification": 4660, "protocol": 17, "place": 5,
                "reserved": [0, 0],
            },
            "value": {"since": 12345, "len": 42, "frame": vec![7; FRAME]},
        }),
        map if map == names.socket => json!({
            "key": {"cookie": [4097, 1], "address": bytes(121), "port": 53, "direction": 1, "reserved": 0},
            "value": {"address": bytes(151), "port": 5353, "reserved": [0, 0], "set": 9},
        }),
        _ => return None,
    })
}
