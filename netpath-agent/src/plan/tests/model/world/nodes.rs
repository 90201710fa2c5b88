//! Nodes: where they are, and what the API has of them.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::{Family, Settings, net4, net6, v4, v6};
use crate::plan::tests::model::chance::Chance;

const BOTH: &[Family] = &[Family::V4, Family::V6];

/// The networks that nodes have addresses in: the segment of node `a`, and one behind routers.
#[derive(Clone, Copy)]
enum Network {
    Segment = 1,
    Behind = 2,
}

fn number(name: &str) -> u8 {
    match name {
        "a" => 1,
        "b" => 2,
        _ => 3,
    }
}

fn address(name: &str, family: Family, network: Network) -> IpAddr {
    let (number, network) = (number(name), network as u8);
    match family {
        Family::V4 => v4([192, 168, network, 10 + number]),
        Family::V6 => v6([0x2001, 0xdb8, network.into(), 0, 0, 0, 0, 0x10 + u16::from(number)]),
    }
}

/// The subnet of a node's pods.
fn subnet(name: &str, family: Family) -> IpNet {
    let number = number(name);
    match family {
        Family::V4 => net4([10, 244, number, 0], 24),
        Family::V6 => net6([0xfd00, 0x244, number.into(), 0, 0, 0, 0, 0], 64),
    }
}

/// The addresses of a node other than `a`, in any order: of both families or of one, on the segment or behind routers, some in both.
fn addresses(chance: &mut Chance, name: &str) -> Vec<IpAddr> {
    let families = chance.mostly(&[BOTH, &BOTH[..1], &BOTH[1..]]);
    let networks = chance.mostly(&[
        &[Network::Segment][..],
        &[Network::Behind],
        &[Network::Behind],
        &[Network::Behind, Network::Segment],
        &[Network::Segment, Network::Behind],
    ]);
    let mut addresses = Vec::new();
    for family in families {
        // The families may be in different networks.
        let networks = if chance.one_in(4) {
            &[Network::Behind][..]
        } else {
            networks
        };
        addresses.extend(networks.iter().map(|network| address(name, *family, *network)));
    }
    if chance.one_in(4) {
        addresses.reverse();
    }
    addresses
}

/// A node with pods. Node `a` has its addresses on the segment, any other anywhere.
pub fn node(chance: &mut Chance, name: &str, settings: &Settings) -> core::Node {
    let addresses = match name {
        "a" => {
            let own = settings
                .own
                .iter()
                .map(|family| address(name, *family, Network::Segment));
            own.collect()
        }
        _ => addresses(chance, name),
    };
    let subnets = settings.families.iter().map(|family| subnet(name, *family));
    let zone = chance.of(&[Some("z1"), Some("z2"), None]);
    let labels = zone.map(|zone| [("topology.kubernetes.io/zone".to_owned(), zone.to_owned())].into());
    let addresses = addresses.into_iter().map(|address| core::NodeAddress {
        address: address.to_string(),
        type_: "InternalIP".to_owned(),
    });
    core::Node {
        metadata: ObjectMeta {
            labels,
            ..ObjectMeta::default()
        },
        spec: Some(core::NodeSpec {
            pod_cidrs: Some(subnets.map(|subnet| subnet.to_string()).collect()),
            ..core::NodeSpec::default()
        }),
        status: Some(core::NodeStatus {
            addresses: Some(addresses.collect()),
            ..core::NodeStatus::default()
        }),
    }
}
