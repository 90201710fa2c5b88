//! The addresses that services may have: an address of a cluster is one service's, those of load balancers and external
//! ones may be shared by port.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;

use super::{NodeFacts, judge::service_range, occupied::Occupied};
use crate::model::{ObjectName, Problem, Service};

/// What the services that came before have.
pub(super) struct Claims<'a> {
    facts: &'a NodeFacts,
    taken: Occupied<'a>,
    cluster_ips: HashMap<Ipv4Addr, &'a ObjectName>,
}

impl<'a> Claims<'a> {
    /// No service has any yet.
    pub fn new(facts: &'a NodeFacts, taken: Occupied<'a>) -> Self {
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
    ) -> Vec<Ipv4Addr> {
        let mut addresses = Vec::with_capacity(1);
        for address in &service.cluster_ips {
            let Some(v4) = of_family(name, "spec.clusterIPs", *address, problems) else {
                continue;
            };
            let conflict = match self.cluster_ips.get(&v4) {
                Some(other) if *other == name => continue,
                Some(other) => Some(format!("service {other}'s already")),
                None => self.taken.by(v4),
            };
            if let Some(conflict) = conflict {
                problems.push(Problem::refused(
                    "Service",
                    name,
                    format!("spec.clusterIPs: {v4} is {conflict}"),
                    "give the service an address of its own, or leave the field out and let the API server choose",
                ));
                continue;
            }
            let ranges = &self.facts.service_cidrs;
            if ranges.iter().any(|range| matches!(range, IpNet::V4(_))) && service_range(*address, self.facts).is_none()
            {
                let ranges = ranges.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", ");
                problems.push(Problem::not_served(
                    "Service",
                    name,
                    format!("spec.clusterIPs: {v4} is outside of the services' range {ranges}: the nodes' own processes do not reach it"),
                    "add its range to the cluster (a ServiceCIDR object), or to the agent's --service-cidr",
                ));
            }
            self.cluster_ips.insert(v4, name);
            addresses.push(v4);
        }
        addresses
    }

    /// Those of a service's load balancer that may be answered on.
    pub fn ingress_ips(&self, name: &ObjectName, service: &Service, problems: &mut Vec<Problem>) -> Vec<Ipv4Addr> {
        let remedy = "have load balancers' addresses assigned from a range of their own";
        self.shared(
            name,
            ("status.loadBalancer.ingress", &service.ingress_ips),
            remedy,
            problems,
        )
    }

    /// Those of a service's external addresses that it may have, and that the operator lets services have.
    pub fn external_ips(&self, name: &ObjectName, service: &Service, problems: &mut Vec<Problem>) -> Vec<Ipv4Addr> {
        const FIELD: &str = "spec.externalIPs";
        let allowed = &self.facts.external_ip_cidrs;
        if !service.external_ips.is_empty() && allowed.is_empty() {
            problems.push(Problem::not_served(
                "Service",
                name,
                format!(
                    "{FIELD} is not served: no range is allowed, since who writes a service could take any address with it \
                     (CVE-2020-8554)"
                ),
                "leave the field out, or allow the addresses' range with the agents' --external-ip-cidr",
            ));
            return Vec::new();
        }
        let (inside, outside): (Vec<_>, Vec<_>) = service
            .external_ips
            .iter()
            .partition(|address| allowed.iter().any(|range| range.contains(*address)));
        for address in outside {
            problems.push(Problem::refused(
                "Service",
                name,
                format!("{FIELD}: {address} is in no range that is allowed"),
                "use an address of one, or allow another with the agents' --external-ip-cidr",
            ));
        }
        self.shared(name, (FIELD, &inside), "use an address that nobody else has", problems)
    }

    /// Addresses that services may share by port: also a node's own, which some balancers assign, but no pod's and no other
    /// service's cluster address.
    fn shared(
        &self,
        name: &ObjectName,
        (field, written): (&str, &[IpAddr]),
        remedy: &str,
        problems: &mut Vec<Problem>,
    ) -> Vec<Ipv4Addr> {
        let mut addresses = Vec::new();
        for address in written {
            let Some(v4) = of_family(name, field, *address, problems) else {
                continue;
            };
            let conflict = match self.cluster_ips.get(&v4) {
                Some(other) => Some(format!("the cluster address of service {other}")),
                None => self.taken.by_pods(v4).or_else(|| {
                    service_range(*address, self.facts).map(|range| format!("in the services' range {range}"))
                }),
            };
            match conflict {
                Some(conflict) => problems.push(Problem::refused(
                    "Service",
                    name,
                    format!("{field}: {v4} is {conflict}"),
                    remedy,
                )),
                None if addresses.contains(&v4) => {}
                None => addresses.push(v4),
            }
        }
        addresses
    }
}

/// The address, if its family is served.
fn of_family(name: &ObjectName, field: &str, address: IpAddr, problems: &mut Vec<Problem>) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => {
            problems.push(Problem::not_served(
                "Service",
                name,
                format!("{field}: {address} is IPv6, which is not served yet"),
                "use an IPv4 address until then (spec.ipFamilies)",
            ));
            None
        }
    }
}
