//! What a service asks for beyond addresses and ports: session affinity, traffic policies, load balancers. What cannot be
//! given is said, and the rest of the service goes on.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;

use super::{ObjectName, Problem, unusable};

/// What `timeoutSeconds` is where it is missing, as the API has it, and at most.
const AFFINITY_TIMEOUT: u32 = 10_800;
const LONGEST_AFFINITY: i32 = 86_400;

/// A reader of one service's wishes; what it cannot understand, or cannot give, is among the problems.
pub(super) struct Wishes<'a> {
    pub name: &'a ObjectName,
    pub spec: &'a core::ServiceSpec,
    pub problems: Vec<Problem>,
}

impl Wishes<'_> {
    fn refuse(&mut self, what: String, remedy: &str) {
        self.problems.push(Problem::refused("Service", self.name, what, remedy));
    }

    fn notice(&mut self, what: impl Into<String>, remedy: &str) {
        self.problems
            .push(Problem::not_served("Service", self.name, what, remedy));
    }

    /// For how long a client keeps its backend, in seconds.
    pub fn affinity_timeout(&mut self) -> Option<u32> {
        match self.spec.session_affinity.as_deref() {
            None | Some("" | "None") => return None,
            Some("ClientIP") => {}
            Some(other) => {
                let what = format!("spec.sessionAffinity: {other:?} is not known");
                self.refuse(what, "use ClientIP or None; until then there is none");
                return None;
            }
        }
        let config = self.spec.session_affinity_config.as_ref();
        let written = config.and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
        match written {
            None => Some(AFFINITY_TIMEOUT),
            Some(seconds) if (1..=LONGEST_AFFINITY).contains(&seconds) => Some(seconds.unsigned_abs()),
            Some(other) => {
                let what =
                    format!("spec.sessionAffinityConfig.clientIP.timeoutSeconds: {other} is not from 1 to 86400");
                self.refuse(what, "use a number of seconds in that range; until then it is 10800");
                Some(AFFINITY_TIMEOUT)
            }
        }
    }

    /// Whether a traffic policy is `Local`.
    pub fn is_local(&mut self, field: &str, written: Option<&str>) -> bool {
        match written {
            None | Some("" | "Cluster") => false,
            Some("Local") => true,
            Some(other) => {
                let what = format!("spec.{field}: {other:?} is not known");
                self.refuse(what, "use Cluster or Local; until then it is Cluster");
                false
            }
        }
    }

    /// The port on which a load balancer asks for a node's endpoints.
    pub fn health_check_node_port(&mut self) -> Option<u16> {
        let written = self.spec.health_check_node_port.filter(|port| *port != 0)?;
        let port = super::port_number(written);
        if port.is_none() {
            let what = format!("spec.healthCheckNodePort: {written} is not a port number");
            self.refuse(what, "use a number of the cluster's NodePort range");
        }
        port
    }

    /// The addresses whose packets a load balancer hands to the nodes as they are; a proxy sends to NodePorts instead.
    pub fn ingress_ips(&mut self, status: Option<&core::ServiceStatus>) -> Vec<IpAddr> {
        let balancer = status.and_then(|status| status.load_balancer.as_ref());
        let ingress = balancer
            .and_then(|balancer| balancer.ingress.as_deref())
            .unwrap_or_default();
        let mut addresses = Vec::new();
        for entry in ingress {
            let Some(written) = entry.ip.as_deref().filter(|ip| !ip.is_empty()) else {
                continue;
            };
            if let Some("Proxy") = entry.ip_mode.as_deref() {
                continue;
            }
            let remedy = "correct what assigns the load balancers' addresses";
            addresses.extend(self.address("status.loadBalancer.ingress", written, remedy));
        }
        addresses
    }

    /// The addresses that whoever wrote the service says lead to the nodes.
    pub fn external_ips(&mut self) -> Vec<IpAddr> {
        let written = self.spec.external_ips.as_deref().unwrap_or_default().iter();
        let remedy = "give an address that is routed to the nodes, or leave it out";
        written
            .filter_map(|written| self.address("spec.externalIPs", written, remedy))
            .collect()
    }

    /// An address of a field's.
    fn address(&mut self, field: &str, written: &str, remedy: &str) -> Option<IpAddr> {
        let read = written.parse().map_err(|_| "is not an IP address");
        match read.and_then(|address| unusable(address).map_or(Ok(address), Err)) {
            Ok(address) => Some(address),
            Err(why) => {
                self.refuse(format!("{field}: {written:?} {why}"), remedy);
                None
            }
        }
    }

    /// Who may connect to the load balancer's addresses. A range that is none admits nobody, rather than everybody.
    pub fn sources(&mut self) -> Option<Vec<IpNet>> {
        let written = self.spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
        if written.is_empty() {
            return None;
        }
        let mut ranges = Vec::with_capacity(written.len());
        for text in written {
            match text.trim().parse::<IpNet>() {
                Ok(range) => ranges.push(range.trunc()),
                Err(_) => self.refuse(
                    format!("spec.loadBalancerSourceRanges: {text:?} is not a range of addresses"),
                    "write it as address/length, for example 203.0.113.0/24; until then it admits nobody",
                ),
            }
        }
        Some(ranges)
    }

    /// How endpoints are to be spread is asked of their slices' hints; here it is only looked whether it is known.
    pub fn check_distribution(&mut self) {
        match self.spec.traffic_distribution.as_deref() {
            None | Some("" | "PreferClose" | "PreferSameZone" | "PreferSameNode") => {}
            Some(other) => self.notice(
                format!("spec.trafficDistribution: {other:?} is not known"),
                "use PreferSameZone or PreferSameNode; endpoints are used as their slices' hints say",
            ),
        }
    }
}
