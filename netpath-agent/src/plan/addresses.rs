//! The addresses that services may have: an address of a cluster is one service's, those of load balancers and external
//! ones may be shared by port.

use std::{collections::HashMap, net::IpAddr};

use ipnet::IpNet;

use super::{NodeFacts, judge::service_range, occupied::Occupied};
use crate::{
    family::{self, Family},
    model::{ObjectName, Problem, Service},
};

/// The fields that services have addresses in.
const CLUSTER_IPS: &str = "spec.clusterIPs";
const INGRESS_IPS: &str = "status.loadBalancer.ingress";
const EXTERNAL_IPS: &str = "spec.externalIPs";

/// What the services that came before have in a family.
pub(super) struct Claims<'a, F: Family> {
    facts: &'a NodeFacts,
    taken: Occupied<'a, F>,
    cluster_ips: HashMap<F::Address, &'a ObjectName>,
}

impl<'a, F: Family> Claims<'a, F> {
    /// No service has any yet.
    pub fn new(facts: &'a NodeFacts, taken: Occupied<'a, F>) -> Self {
        Self {
            facts,
            taken,
            cluster_ips: HashMap::new(),
        }
    }

    /// Those of a service's cluster addresses that it may have.
    pub fn cluster_ips(
        &mut self,
        name: &'a ObjectName,
        service: &Service,
        problems: &mut Vec<Problem>,
    ) -> Vec<F::Address> {
        let mut addresses = Vec::with_capacity(1);
        for address in service.cluster_ips.iter().copied().filter_map(F::address) {
            let conflict = match self.cluster_ips.get(&address) {
                Some(other) if *other == name => continue,
                Some(other) => Some(format!("service {other}'s already")),
                None => self.taken.by(address),
            };
            if let Some(conflict) = conflict {
                problems.push(Problem::refused(
                    "Service",
                    name,
                    format!("{CLUSTER_IPS}: {address} is {conflict}"),
                    "give the service an address of its own, or leave the field out and let the API server choose",
                ));
                continue;
            }
            let ranges = &self.facts.service_cidrs;
            if ranges.iter().any(|range| F::net(*range).is_some())
                && service_range(address.into(), self.facts).is_none()
            {
                let ranges = ranges.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", ");
                problems.push(Problem::not_served(
                    "Service",
                    name,
                    format!("{CLUSTER_IPS}: {address} is outside of the services' range {ranges}: the nodes' own processes do not reach it"),
                    "add its range to the cluster (a ServiceCIDR object), or to the agent's --service-cidr",
                ));
            }
            self.cluster_ips.insert(address, name);
            addresses.push(address);
        }
        addresses
    }

    /// Those of a service's load balancer that may be answered on.
    pub fn ingress_ips(&self, name: &ObjectName, service: &Service, problems: &mut Vec<Problem>) -> Vec<F::Address> {
        let remedy = "have load balancers' addresses assigned from a range of their own";
        self.shared(name, (INGRESS_IPS, &service.ingress_ips), remedy, problems)
    }

    /// Those of a service's external addresses that it may have, of those that the operator lets services have.
    pub fn external_ips(&self, name: &ObjectName, allowed: &[IpAddr], problems: &mut Vec<Problem>) -> Vec<F::Address> {
        let remedy = "use an address that nobody else has";
        self.shared(name, (EXTERNAL_IPS, allowed), remedy, problems)
    }

    /// Addresses that services may share by port: also a node's own, which some balancers assign, but no pod's and no other
    /// service's cluster address.
    fn shared(
        &self,
        name: &ObjectName,
        (field, written): (&str, &[IpAddr]),
        remedy: &str,
        problems: &mut Vec<Problem>,
    ) -> Vec<F::Address> {
        let mut addresses = Vec::new();
        for address in written.iter().copied().filter_map(F::address) {
            let conflict = match self.cluster_ips.get(&address) {
                Some(other) => Some(format!("the cluster address of service {other}")),
                None => self.taken.by_pods(address).or_else(|| {
                    service_range(address.into(), self.facts).map(|range| format!("in the services' range {range}"))
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
