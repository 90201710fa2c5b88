//! EndpointSlices: of services that are there or not, with endpoints in usual and in odd places.

use k8s_openapi::api::discovery::v1 as discovery;

use super::{Family, meta, port_name, protocol};
use crate::{model::ObjectName, plan::tests::model::chance::Chance};

/// A slice of this name.
pub fn slice(chance: &mut Chance, name: &ObjectName) -> discovery::EndpointSlice {
    let of = chance.of(&["x", "x", "y", "z", "nobody"]);
    let label = (!chance.one_in(15)).then_some(("kubernetes.io/service-name", of));
    let family = chance.of(&[Family::V4, Family::V6]);
    // Some have another type than their addresses.
    let address_type = match chance.one_in(15) {
        true => chance.of(&["IPv4", "IPv6", "FQDN"]),
        false => family.address_type(),
    };
    let plain = chance.one_in(2);
    let endpoints = (0..chance.below(5)).map(|_| endpoint(chance, family, plain)).collect();
    let ports = (0..chance.below(4)).map(|_| discovery::EndpointPort {
        name: port_name(chance),
        protocol: protocol(chance),
        port: chance.of(&[Some(8080), Some(8080), Some(8081), Some(53), None]),
        ..discovery::EndpointPort::default()
    });
    let ports = ports.collect();
    discovery::EndpointSlice {
        metadata: meta(chance, name, label),
        address_type: address_type.to_owned(),
        endpoints: Some(endpoints),
        ports: Some(ports),
    }
}

/// An endpoint; where it is to be a plain one, ready, with hints and in a usual place.
fn endpoint(chance: &mut Chance, family: Family, plain: bool) -> discovery::Endpoint {
    let (usual, odd) = match family {
        Family::V4 => (
            ["10.244.1.5", "10.244.1.6", "10.244.2.5", "10.244.3.5", "192.168.1.11"],
            [
                "10.244.1.1",
                "10.244.2.1",
                "10.96.0.11",
                "127.0.0.1",
                "169.254.1.1",
                "8.8.8.8",
            ],
        ),
        Family::V6 => (
            [
                "fd00:244:1::5",
                "fd00:244:1::6",
                "fd00:244:2::5",
                "fd00:244:3::5",
                "2001:db8:1::11",
            ],
            [
                "fd00:244:1::1",
                "fd00:244:2::1",
                "fd00:96::11",
                "::1",
                "fe80::1",
                "2001:4860::8888",
            ],
        ),
    };
    let addresses = match chance.below(if plain { 1 } else { 6 }) {
        0..=3 => vec![chance.of(&usual)],
        4 => vec![chance.of(&odd)],
        _ => chance.some(&usual, 2),
    };
    let condition = |chance: &mut Chance| match plain {
        true => None,
        false => chance.of(&[None, Some(true), Some(false), Some(false)]),
    };
    let conditions = discovery::EndpointConditions {
        ready: condition(chance),
        serving: condition(chance),
        terminating: condition(chance),
    };
    let zones = chance
        .some(&["z1", "z2"], 2)
        .into_iter()
        .map(|name| discovery::ForZone { name: name.to_owned() });
    let zones = zones.collect();
    let nodes = chance
        .some(&["a", "b"], 1)
        .into_iter()
        .map(|name| discovery::ForNode { name: name.to_owned() });
    let hints = discovery::EndpointHints {
        for_nodes: Some(nodes.collect()),
        for_zones: Some(zones),
    };
    discovery::Endpoint {
        addresses: addresses.into_iter().map(str::to_owned).collect(),
        conditions: Some(conditions),
        hints: (plain || chance.one_in(2)).then_some(hints),
        node_name: chance.of(&[None, Some("a"), Some("b")]).map(str::to_owned),
        ..discovery::Endpoint::default()
    }
}
