//! Nodes: where they are, and what the API has of them.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::{Family, net4, net6, v4, v6};
use crate::plan::tests::model::chance::Chance;

/// A node's address and its pods' subnet, in a family.
pub fn place(name: &str, family: Family) -> (IpAddr, IpNet) {
    let number = match name {
        "a" => 1,
        "b" => 2,
        _ => 3,
    };
    let wide = u16::from(number);
    match family {
        Family::V4 => (v4([192, 168, 1, 10 + number]), net4([10, 244, number, 0], 24)),
        Family::V6 => (
            v6([0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10 + wide]),
            net6([0xfd00, 0x244, wide, 0, 0, 0, 0, 0], 64),
        ),
    }
}

/// A node in its place.
pub fn node(chance: &mut Chance, name: &str, families: &[Family]) -> core::Node {
    let places = families.iter().map(|family| place(name, *family));
    let zone = chance.of(&[Some("z1"), Some("z2"), None]);
    let labels = zone.map(|zone| [("topology.kubernetes.io/zone".to_owned(), zone.to_owned())].into());
    let addresses = places.clone().map(|(address, _)| core::NodeAddress {
        address: address.to_string(),
        type_: "InternalIP".to_owned(),
    });
    core::Node {
        metadata: ObjectMeta {
            labels,
            ..ObjectMeta::default()
        },
        spec: Some(core::NodeSpec {
            pod_cidrs: Some(places.clone().map(|(_, subnet)| subnet.to_string()).collect()),
            ..core::NodeSpec::default()
        }),
        status: Some(core::NodeStatus {
            addresses: Some(addresses.collect()),
            ..core::NodeStatus::default()
        }),
    }
}
