//! The runtime's port mappings: which of the node's ports lead to a container (CNI CONVENTIONS.md, "portMappings").

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::error::{Code, Error};
use crate::model::Protocol;

/// A mapping as the runtime writes it: with the keys of the conventions, or, as containerd does (go-cni's `PortMapping`), with capital
/// first letters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// The node's port; 0 for none.
    #[serde(alias = "HostPort")]
    pub host_port: i64,
    /// The container's port.
    #[serde(alias = "ContainerPort")]
    pub container_port: i64,
    /// `tcp`, `udp` or `sctp`; missing for TCP.
    #[serde(alias = "Protocol", default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The node's address; missing or empty for all of them, 0.0.0.0 or :: for those of its family.
    #[serde(
        rename = "hostIP",
        alias = "HostIP",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub host_ip: Option<String>,
}

/// A mapping that can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The node's address; `None` for all of them, the unspecified one for those of its family.
    pub address: Option<IpAddr>,
    /// The node's port.
    pub port: u16,
    /// The container's.
    pub target: u16,
    /// Of both.
    pub protocol: Protocol,
}

impl HostPort {
    /// Checks a mapping; `None` if it asks for no port of the node.
    ///
    /// # Errors
    /// [`Code::BadConfig`]; [`Code::UnsupportedField`] if it is of a kind that is not served.
    pub fn read(mapping: &PortMapping) -> Result<Option<Self>, Error> {
        if mapping.host_port == 0 {
            return Ok(None);
        }
        let port = |name: &str, number: i64| match u16::try_from(number) {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(
                Error::new(Code::BadConfig, format!("portMappings: {name} {number} is no port"))
                    .details("use 1 to 65535"),
            ),
        };
        let written = mapping.protocol.as_deref().unwrap_or_default().to_uppercase();
        let protocol = Protocol::read(Some(&written)).ok_or_else(|| {
            Error::new(
                Code::UnsupportedField,
                format!("portMappings: protocol {written} is not served"),
            )
            .details("netpath serves hostPorts of TCP, UDP and SCTP")
        })?;
        let address = match mapping.host_ip.as_deref() {
            None | Some("") => None,
            Some(text) => match text.parse() {
                Ok(address) => Some(address),
                Err(_) => {
                    return Err(
                        Error::new(Code::BadConfig, format!("portMappings: hostIP {text:?} is no address"))
                            .details("use an address of the node, or leave it out for all of them"),
                    );
                }
            },
        };
        Ok(Some(Self {
            address,
            port: port("hostPort", mapping.host_port)?,
            target: port("containerPort", mapping.container_port)?,
            protocol,
        }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(mapping: Value) -> Result<Option<HostPort>, Error> {
        HostPort::read(&serde_json::from_value(mapping).unwrap())
    }

    #[test]
    fn mappings_are_read_as_runtimes_write_them() {
        let all = HostPort {
            address: None,
            port: 8080,
            target: 80,
            protocol: Protocol::Tcp,
        };
        for mapping in [
            json!({"hostPort": 8080, "containerPort": 80}),
            json!({"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}),
            // containerd 2.
            json!({"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}),
        ] {
            assert_eq!(read(mapping), Ok(Some(all)));
        }
        for (written, protocol) in [
            ("udp", Protocol::Udp),
            ("SCTP", Protocol::Sctp),
            ("sctp", Protocol::Sctp),
        ] {
            let mapping = json!({"hostPort": 8080, "containerPort": 80, "protocol": written});
            assert_eq!(read(mapping), Ok(Some(HostPort { protocol, ..all })));
        }
        let mapping = |ip: &str| json!({"hostPort": 8080, "containerPort": 80, "protocol": "udp", "hostIP": ip});
        for ip in ["0.0.0.0", "::", "127.0.0.1", "2001:db8::7"] {
            let one = HostPort {
                address: Some(ip.parse().unwrap()),
                protocol: Protocol::Udp,
                ..all
            };
            assert_eq!(read(mapping(ip)), Ok(Some(one)));
        }
        let mapping = mapping("127.0.0.1");
        let read_back: PortMapping = serde_json::from_value(mapping.clone()).unwrap();
        assert_eq!(serde_json::to_value(read_back).unwrap(), mapping);
        assert_eq!(read(json!({"hostPort": 0, "containerPort": 80})), Ok(None));
    }

    #[test]
    fn what_cannot_be_served_is_named() {
        for (change, code, said) in [
            (json!({"hostPort": 65536}), Code::BadConfig, "hostPort 65536"),
            (json!({"hostPort": -1}), Code::BadConfig, "hostPort -1"),
            (json!({"containerPort": 0}), Code::BadConfig, "containerPort 0"),
            (json!({"protocol": "dccp"}), Code::UnsupportedField, "protocol DCCP"),
            (json!({"hostIP": "::g"}), Code::BadConfig, "hostIP \"::g\""),
            (json!({"hostIP": "node"}), Code::BadConfig, "hostIP \"node\""),
        ] {
            let mut mapping = json!({"hostPort": 8080, "containerPort": 80});
            let (Value::Object(fields), Value::Object(change)) = (&mut mapping, change) else {
                unreachable!("objects")
            };
            fields.extend(change);
            let error = read(mapping).unwrap_err();
            assert!(error.code == code && error.msg.contains(said), "{error:?}");
        }
    }
}
