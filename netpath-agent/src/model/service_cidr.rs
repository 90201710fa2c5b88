//! A range that service addresses are allocated from, from `networking.k8s.io/v1.ServiceCIDR` (Kubernetes 1.33).

use ipnet::IpNet;
use k8s_openapi::api::networking::v1 as networking;
use serde::{Deserialize, Serialize};

use super::{ObjectName, Problem, Reduce};

/// A range, or one of each family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceCidr {
    /// `spec.cidrs`, with the bits beyond the prefix cleared.
    pub cidrs: Vec<IpNet>,
}

impl Reduce for ServiceCidr {
    type Object = networking::ServiceCIDR;
    type Key = String;
    const KIND: &'static str = "ServiceCIDR";

    fn key(name: &ObjectName) -> String {
        name.name().to_owned()
    }

    fn convert(name: &ObjectName, object: &networking::ServiceCIDR) -> Result<Option<Self>, Problem> {
        let written = object.spec.as_ref().and_then(|spec| spec.cidrs.as_deref());
        let cidr = |text: &String| {
            text.parse::<IpNet>().map(|net| net.trunc()).map_err(|_| {
                let what = format!("spec.cidrs: {text:?} is not a subnet");
                let remedy = "write it as address/length, for example 10.96.0.0/12";
                Problem::refused(Self::KIND, name, what, remedy)
            })
        };
        let cidrs = written.unwrap_or_default().iter().map(cidr).collect::<Result<_, _>>()?;
        Ok(Some(Self { cidrs }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn converted(cidrs: &[&str]) -> Result<Option<ServiceCidr>, Problem> {
        let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": "kubernetes"}, "spec": {"cidrs": cidrs}});
        let object = serde_json::from_value(object).unwrap();
        ServiceCidr::convert(&ObjectName::new("", "kubernetes"), &object)
    }

    #[test]
    fn ranges_of_both_families_are_taken_and_a_wrong_one_is_named() {
        let cidrs = converted(&["10.96.0.0/16", "fd00::1/108"]).unwrap().unwrap().cidrs;
        let expected: Vec<IpNet> = vec!["10.96.0.0/16".parse().unwrap(), "fd00::/108".parse().unwrap()];
        assert_eq!(cidrs, expected);
        let problem = converted(&["10.96.0.0"]).unwrap_err().to_string();
        assert_eq!(
            problem,
            "ServiceCIDR kubernetes: spec.cidrs: \"10.96.0.0\" is not a subnet; write it as address/length, for example \
             10.96.0.0/12"
        );
    }
}
