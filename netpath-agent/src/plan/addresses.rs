//! The addresses that services may have: an address of a cluster is one service's, those of load balancers and external
//! ones may be shared by port.

use std::{collections::HashMap, net::IpAddr};

use ipnet::IpNet;
use netpath_common::abi::service::{FLAG_ADDRESS, FLAG_OUTSIDE};

use super::{
    NodeFacts,
    claims::{Asking, Claim},
    judge::service_range,
    site::Site,
};
use crate::{
    family::{self, Family},
    model::{ObjectName, Problem, Service},
};

/// The fields that services have addresses in.
const CLUSTER_IPS: &str = "spec.clusterIPs";
const INGRESS_IPS: &str = "status.loadBalancer.ingress";
const EXTERNAL_IPS: &str = "spec.externalIPs";

/// Those of a service's cluster addresses that it may have.
pub(super) fn cluster_ips<F: Family>(
    name: &ObjectName,
    service: &Service,
    (site, facts): (&Site<F>, &NodeFacts),
    asking: &mut Asking<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<F::Address> {
    let mut addresses = Vec::with_capacity(1);
    for address in service.cluster_ips.iter().copied().filter_map(F::address) {
        if addresses.contains(&address) {
            continue;
        }
        let taken = site.taken.by(address);
        let conflict = taken.or_else(|| match asking.take(Claim::ClusterIp(address.into())) {
            Err(other) => Some(format!("service {other}'s already")),
            Ok(()) => None,
        });
        if let Some(conflict) = conflict {
            problems.push(Problem::refused(
                "Service",
                name,
                format!("{CLUSTER_IPS}: {address} is {conflict}"),
                "give the service an address of its own, or leave the field out and let the API server choose",
            ));
            continue;
        }
        let ranges = &facts.service_cidrs;
        if ranges.iter().any(|range| F::net(*range).is_some()) && service_range(address.into(), facts).is_none() {
            let ranges = ranges.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", ");
            problems.push(Problem::not_served(
                "Service",
                name,
                format!("{CLUSTER_IPS}: {address} is outside of the services' range {ranges}: the nodes' own processes do not reach it"),
                "add its range to the cluster (a ServiceCIDR object), or to the agent's --service-cidr",
            ));
        }
        addresses.push(address);
    }
    addresses
}

/// Those of a service's load balancer that may be answered on.
pub(super) fn ingress_ips<F: Family>(
    name: &ObjectName,
    service: &Service,
    place: (&Site<F>, &NodeFacts),
    asking: &mut Asking<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<F::Address> {
    let remedy = "have load balancers' addresses assigned from a range of their own";
    let written = (INGRESS_IPS, service.ingress_ips.as_slice());
    shared(name, written, remedy, place, asking, problems)
}

/// Those of a service's external addresses that it may have, of those that the operator lets services have.
pub(super) fn external_ips<F: Family>(
    name: &ObjectName,
    allowed: &[IpAddr],
    place: (&Site<F>, &NodeFacts),
    asking: &mut Asking<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<F::Address> {
    let remedy = "use an address that nobody else has";
    shared(name, (EXTERNAL_IPS, allowed), remedy, place, asking, problems)
}

/// Addresses that services may share by port: also a node's own, which some balancers assign, but no pod's and no other
/// service's cluster address.
fn shared<F: Family>(
    name: &ObjectName,
    (field, written): (&str, &[IpAddr]),
    remedy: &str,
    (site, facts): (&Site<F>, &NodeFacts),
    asking: &mut Asking<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<F::Address> {
    let mut addresses = Vec::new();
    for address in written.iter().copied().filter_map(F::address) {
        let conflict = match asking.look(Claim::ClusterIp(address.into())) {
            Some(other) => Some(format!("the cluster address of service {other}")),
            None => site.taken.by_pods(address).or_else(|| {
                service_range(address.into(), facts).map(|range| format!("in the services' range {range}"))
            }),
        };
        match conflict {
            Some(conflict) => problems.push(Problem::refused(
                "Service",
                name,
                format!("{field}: {address} is {conflict}"),
                remedy,
            )),
            None if addresses.contains(&address) => {}
            None => addresses.push(address),
        }
    }
    addresses
}

/// The addresses that services have in a family, each with how many have it as their own, and how many share it.
#[derive(Default)]
pub(super) struct Addresses<F: Family>(HashMap<F, (usize, usize)>);

impl<F: Family> Addresses<F> {
    /// Adds the address of a service, with what the map would hold of it alone.
    pub fn add(&mut self, address: F, flags: u16) {
        *self.count(address, flags) += 1;
    }

    /// Takes it away.
    pub fn remove(&mut self, address: F, flags: u16) {
        *self.count(address, flags) -= 1;
        if self.0.get(&address) == Some(&(0, 0)) {
            self.0.remove(&address);
        }
    }

    /// What the map holds of an address; `None` if no service has it.
    pub fn flags(&self, address: F) -> Option<u16> {
        let (own, _) = self.0.get(&address)?;
        Some(if *own > 0 {
            FLAG_ADDRESS
        } else {
            FLAG_ADDRESS | FLAG_OUTSIDE
        })
    }

    fn count(&mut self, address: F, flags: u16) -> &mut usize {
        let (own, shared) = self.0.entry(address).or_default();
        if flags & FLAG_OUTSIDE == 0 { own } else { shared }
    }
}

/// Whether a service is one of a family: it has a cluster address of it.
pub(super) fn is_of<F: Family>(service: &Service) -> bool {
    service.cluster_ips.iter().any(|address| F::address(*address).is_some())
}

/// Those of a service's external addresses that the operator lets services have.
pub(super) fn allowed(
    name: &ObjectName,
    service: &Service,
    facts: &NodeFacts,
    problems: &mut Vec<Problem>,
) -> Vec<IpAddr> {
    let ranges = &facts.external_ip_cidrs;
    if !service.external_ips.is_empty() && ranges.is_empty() {
        problems.push(Problem::not_served(
            "Service",
            name,
            format!(
                "{EXTERNAL_IPS} is not served: no range is allowed, since who writes a service could take any address with it \
                 (CVE-2020-8554)"
            ),
            "leave the field out, or allow the addresses' range with the agents' --external-ip-cidr",
        ));
        return Vec::new();
    }
    let (inside, outside): (Vec<_>, Vec<_>) = service
        .external_ips
        .iter()
        .partition(|address| ranges.iter().any(|range| range.contains(*address)));
    for address in outside {
        problems.push(Problem::refused(
            "Service",
            name,
            format!("{EXTERNAL_IPS}: {address} is in no range that is allowed"),
            "use an address of one, or allow another with the agents' --external-ip-cidr",
        ));
    }
    inside
}

/// Tells of the addresses that no family of the node answers on: `is_served` says which families that are, `external` which
/// external addresses are allowed.
pub(super) fn tell_unserved(
    name: &ObjectName,
    service: &Service,
    external: &[IpAddr],
    is_served: impl Fn(IpAddr) -> bool,
    problems: &mut Vec<Problem>,
) {
    let has_family = |address: IpAddr| service.cluster_ips.iter().any(|own| own.is_ipv4() == address.is_ipv4());
    for (field, addresses) in [
        (CLUSTER_IPS, service.cluster_ips.as_slice()),
        (INGRESS_IPS, &service.ingress_ips),
        (EXTERNAL_IPS, external),
    ] {
        for address in addresses {
            let (why, remedy) = if !is_served(*address) {
                (
                    "the node has no pods of",
                    "give the nodes a pod subnet of it (--cluster-cidr of the controller manager), or leave the address out",
                )
            } else if !has_family(*address) {
                (
                    "the service is not",
                    "have the service use it (spec.ipFamilies and spec.ipFamilyPolicy), or leave the address out",
                )
            } else {
                continue;
            };
            let family = family::name(*address);
            let what = format!("{field}: {address} is {family}, which {why}");
            problems.push(Problem::not_served("Service", name, what, remedy));
        }
    }
}
