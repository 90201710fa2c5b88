//! A node, from `v1.Node`: its addresses and its pod subnets.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;

use super::Problem;

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// When it was created, in seconds since 1970. Where two nodes claim the same, the elder keeps it.
    pub created: Option<i64>,
    /// `status.addresses` of type InternalIP, in their order, of either family.
    pub internal_ips: Vec<IpAddr>,
    /// `spec.podCIDRs` (or `spec.podCIDR` where the list is empty), with the bits beyond the prefix cleared.
    pub pod_cidrs: Vec<IpNet>,
}

impl Node {
    /// Reduces a node; the name is its key.
    ///
    /// # Errors
    /// A name, an address or a subnet that cannot be read.
    pub fn convert(object: &core::Node) -> Result<(String, Self), Problem> {
        let name = object.metadata.name.clone().unwrap_or_default();
        let refused = |what: String, remedy: &str| Problem::refused_global("Node", name.clone(), what, remedy);
        if name.is_empty() {
            return Err(refused("metadata.name is missing".into(), "give the node a name"));
        }
        let addresses = object
            .status
            .as_ref()
            .and_then(|status| status.addresses.as_deref())
            .unwrap_or_default();
        let internal_ips = addresses
            .iter()
            .filter(|address| address.type_ == "InternalIP")
            .map(|address| {
                address.address.parse().map_err(|_| {
                    refused(
                        format!(
                            "status.addresses: InternalIP {:?} is not an IP address",
                            address.address
                        ),
                        "correct the address (the kubelet's --node-ip)",
                    )
                })
            })
            .collect::<Result<_, _>>()?;
        let spec = object.spec.clone().unwrap_or_default();
        let written = match spec.pod_cidrs.unwrap_or_default() {
            list if list.is_empty() => spec.pod_cidr.into_iter().collect(),
            list => list,
        };
        let pod_cidrs = written
            .iter()
            .map(|cidr| {
                cidr.parse::<IpNet>().map(|net| net.trunc()).map_err(|_| {
                    refused(
                        format!("spec.podCIDRs: {cidr:?} is not a subnet"),
                        "write it as address/length, for example 10.244.1.0/24",
                    )
                })
            })
            .collect::<Result<_, _>>()?;
        let created = object
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0.as_second());
        Ok((
            name,
            Self {
                created,
                internal_ips,
                pod_cidrs,
            },
        ))
    }
}
