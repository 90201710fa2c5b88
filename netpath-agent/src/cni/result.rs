//! What ADD answers (CNI SPEC, section 5, "ADD Success"), in the runtime's version.

use std::{net::IpAddr, path::Path};

use ipnet::IpNet;
use netpath_common::abi::Mac;
use serde_json::{Map, Value, json};

use super::{
    config::Network,
    error::{Code, Error},
    names::Attachment,
    version::Version,
};
use crate::family::{Family, V4, V6};

/// A finished attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The bridge's MAC address.
    pub bridge_mac: Mac,
    /// The MAC address of the node's end.
    pub host_mac: Mac,
    /// The pod's MAC address.
    pub pod_mac: Mac,
    /// The pod's addresses as its interface has them, each with its gateway.
    pub addresses: Vec<(IpNet, IpAddr)>,
    /// The MTU of both ends, in bytes.
    pub mtu: u32,
}

/// The result of ADD. Interfaces, addresses and routes of the plugins before this one come first, unchanged.
///
/// # Errors
/// [`Code::Decode`] if the previous result is not of the form it should have.
pub fn success(network: &Network, attachment: &Attachment, netns: &Path, attached: &Attached) -> Result<Value, Error> {
    let mut result = network.prev_result.clone().unwrap_or_default();
    result.insert("cniVersion".into(), network.version.as_str().into());

    let mut host = json!({ "name": attachment.device(), "mac": mac_text(attached.host_mac) });
    let mut pod =
        json!({ "name": attachment.ifname, "mac": mac_text(attached.pod_mac), "sandbox": netns.to_string_lossy() });
    if network.version >= Version::V1_1_0 {
        host["mtu"] = attached.mtu.into();
        pod["mtu"] = attached.mtu.into();
    }
    let interfaces = list(&mut result, "interfaces")?;
    interfaces.push(json!({ "name": network.bridge, "mac": mac_text(attached.bridge_mac) }));
    interfaces.push(host);
    interfaces.push(pod);
    let index = interfaces.len() - 1;

    for (address, gateway) in &attached.addresses {
        let (version, everywhere) = match address {
            IpNet::V4(_) => ("4", V4::ALL),
            IpNet::V6(_) => ("6", V6::ALL),
        };
        let mut entry = json!({ "address": address.to_string(), "gateway": gateway, "interface": index });
        if network.version < Version::V1_0_0 {
            entry["version"] = version.into();
        }
        list(&mut result, "ips")?.push(entry);
        list(&mut result, "routes")?.push(json!({ "dst": everywhere, "gw": gateway }));
    }
    let dns = network.dns.clone().map_or_else(|| json!({}), Value::Object);
    result.entry("dns").or_insert(dns);
    Ok(Value::Object(result))
}

/// A list in a result, empty if it is missing.
fn list<'a>(result: &'a mut Map<String, Value>, key: &str) -> Result<&'a mut Vec<Value>, Error> {
    let value = result.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = json!([]);
    }
    match value {
        Value::Array(list) => Ok(list),
        _ => Err(Error::new(Code::Decode, format!("prevResult.{key} is not a list"))),
    }
}

/// A MAC address as people write it.
pub fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attached() -> Attached {
        Attached {
            bridge_mac: [2, 0, 0, 0, 0, 1],
            host_mac: [2, 0, 0, 0, 0, 2],
            pod_mac: [2, 0, 0, 0, 0, 0xfe],
            addresses: vec![("10.244.1.5/24".parse().unwrap(), "10.244.1.1".parse().unwrap())],
            mtu: 1450,
        }
    }

    fn answer(version: &str, more: Value) -> Value {
        answer_of(&attached(), version, more)
    }

    fn answer_of(attached: &Attached, version: &str, more: Value) -> Value {
        let mut config = json!({ "cniVersion": version, "name": "netpath" });
        config
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let network = Network::parse(config.to_string().as_bytes()).unwrap();
        let attachment = Attachment {
            container_id: "c0ffee".into(),
            ifname: "eth0".into(),
        };
        success(&network, &attachment, Path::new("/run/netns/blue"), attached).unwrap()
    }

    #[test]
    fn each_address_is_told_with_its_own_way_out() {
        let mut both = attached();
        let wide = ("fd00:244:1::5/128".parse().unwrap(), "fd00:244:1::1".parse().unwrap());
        both.addresses.push(wide);
        let result = answer_of(&both, "0.4.0", json!({}));
        assert_eq!(
            result["ips"],
            json!([
                {"version": "4", "address": "10.244.1.5/24", "gateway": "10.244.1.1", "interface": 2},
                {"version": "6", "address": "fd00:244:1::5/128", "gateway": "fd00:244:1::1", "interface": 2},
            ])
        );
        assert_eq!(
            result["routes"],
            json!([{"dst": "0.0.0.0/0", "gw": "10.244.1.1"}, {"dst": "::/0", "gw": "fd00:244:1::1"}])
        );
    }

    #[test]
    fn newest() {
        assert_eq!(
            answer("1.1.0", json!({})),
            json!({
                "cniVersion": "1.1.0",
                "interfaces": [
                    {"name": "netpath0", "mac": "02:00:00:00:00:01"},
                    {"name": "npfd802e5d180", "mac": "02:00:00:00:00:02", "mtu": 1450},
                    {"name": "eth0", "mac": "02:00:00:00:00:fe", "mtu": 1450, "sandbox": "/run/netns/blue"},
                ],
                "ips": [{"address": "10.244.1.5/24", "gateway": "10.244.1.1", "interface": 2}],
                "routes": [{"dst": "0.0.0.0/0", "gw": "10.244.1.1"}],
                "dns": {},
            })
        );
    }

    #[test]
    fn interfaces_have_an_mtu_from_1_1_0_on() {
        let result = answer("1.0.0", json!({}));
        assert_eq!(result["cniVersion"], "1.0.0");
        assert_eq!(
            result["interfaces"][2],
            json!({"name": "eth0", "mac": "02:00:00:00:00:fe", "sandbox": "/run/netns/blue"})
        );
        assert_eq!(
            result["ips"],
            json!([{"address": "10.244.1.5/24", "gateway": "10.244.1.1", "interface": 2}])
        );
    }

    #[test]
    fn addresses_have_a_version_before_1_0_0() {
        for version in ["0.3.1", "0.4.0"] {
            let result = answer(version, json!({"dns": {"nameservers": ["10.96.0.10"]}}));
            assert_eq!(result["cniVersion"], version);
            assert_eq!(
                result["ips"],
                json!([{"version": "4", "address": "10.244.1.5/24", "gateway": "10.244.1.1", "interface": 2}])
            );
            assert_eq!(result["dns"], json!({"nameservers": ["10.96.0.10"]}));
        }
    }

    #[test]
    fn a_previous_result_is_kept_and_ours_comes_after_it() {
        let before = json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "net1", "mac": "02:00:00:00:00:09", "sandbox": "/run/netns/blue"}],
            "ips": [{"address": "192.168.7.2/24", "interface": 0}],
            "dns": {"domain": "example.com"},
        });
        let result = answer(
            "1.1.0",
            json!({"prevResult": before, "dns": {"domain": "ours.example"}}),
        );
        assert_eq!(result["interfaces"][0], before["interfaces"][0]);
        assert_eq!(result["interfaces"][3]["name"], "eth0");
        assert_eq!(result["ips"][0], before["ips"][0]);
        assert_eq!(result["ips"][1]["interface"], 3);
        assert_eq!(result["routes"], json!([{"dst": "0.0.0.0/0", "gw": "10.244.1.1"}]));
        assert_eq!(result["dns"], before["dns"]);
    }

    #[test]
    fn a_previous_result_of_another_form_is_an_error() {
        let config = json!({"cniVersion": "1.1.0", "name": "netpath", "prevResult": {"ips": 7}});
        let network = Network::parse(config.to_string().as_bytes()).unwrap();
        let attachment = Attachment {
            container_id: "c0ffee".into(),
            ifname: "eth0".into(),
        };
        let error = success(&network, &attachment, Path::new("/run/netns/blue"), &attached()).unwrap_err();
        assert_eq!(
            (error.code, error.msg.as_str()),
            (Code::Decode, "prevResult.ips is not a list")
        );
    }
}
