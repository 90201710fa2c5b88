//! A node, from `v1.Node`: its addresses and its pod subnets.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;
use serde::{Deserialize, Serialize};

use super::{ObjectName, Problem, Reduce, created};

/// The taint of a node that the cluster's autoscaler is about to delete.
const DELETION_TAINT: &str = "ToBeDeletedByClusterAutoscaler";
/// The label that says in which zone a node is.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// The field of a node's pod subnets, as problems with them name it first.
pub const POD_CIDRS: &str = "spec.podCIDRs";

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// When it was created, in seconds since 1970. Where two nodes claim the same, the elder keeps it.
    pub created: Option<i64>,
    /// `status.addresses` of type InternalIP, in their order, of either family.
    pub internal_ips: Vec<IpAddr>,
    /// `spec.podCIDRs` (or `spec.podCIDR` where the list is empty), with the bits beyond the prefix cleared.
    pub pod_cidrs: Vec<IpNet>,
    /// The zone it is in, where its label says so: endpoints that are meant for that zone are meant for it.
    pub zone: Option<String>,
    /// Is being deleted, or about to be by the autoscaler: load balancers are to send it nothing new.
    pub leaving: bool,
}

impl Reduce for Node {
    type Object = core::Node;
    type Key = String;
    const KIND: &'static str = "Node";

    fn key(name: &ObjectName) -> String {
        name.name().to_owned()
    }

    fn convert(name: &ObjectName, object: &core::Node) -> Result<Option<Self>, Problem> {
        let refused = |what: String, remedy: &str| Problem::refused("Node", name, what, remedy);
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
        let written = match object.spec.as_ref() {
            None => &[],
            Some(spec) => match spec.pod_cidrs.as_deref().unwrap_or_default() {
                [] => spec.pod_cidr.as_slice(),
                list => list,
            },
        };
        let pod_cidrs = written
            .iter()
            .map(|cidr| {
                cidr.parse::<IpNet>().map(|net| net.trunc()).map_err(|_| {
                    refused(
                        format!("{POD_CIDRS}: {cidr:?} is not a subnet"),
                        "write it as address/length, for example 10.244.1.0/24",
                    )
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Some(Self {
            created: created(&object.metadata),
            internal_ips,
            pod_cidrs,
            zone: zone(object),
            leaving: is_leaving(object),
        }))
    }
}

fn zone(object: &core::Node) -> Option<String> {
    let zone = object.metadata.labels.as_ref()?.get(ZONE_LABEL)?;
    (!zone.is_empty()).then(|| zone.clone())
}

fn is_leaving(object: &core::Node) -> bool {
    let taints = object
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    object.metadata.deletion_timestamp.is_some() || taints.iter().any(|taint| taint.key == DELETION_TAINT)
}
