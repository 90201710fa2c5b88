//! The network configuration on standard input: what the agent wrote into the conflist, as the runtime hands it on.
//! Everything is checked before anything is done; DEL and GC need less of it than ADD and must work with less.

use std::{
    net::IpAddr,
    path::{Component, Path, PathBuf},
};

use ipnet::IpNet;
use netpath_common::names;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    error::{Code, Error},
    names::{is_identifier, is_interface_name},
    pool::Pool,
    portmap::PortMapping,
    version::Version,
};
use crate::{family, places::STATE_DIR};

/// The smallest MTU of IPv4 (RFC 791, section 3.2), and the largest that a packet's length field can say.
const MTU: std::ops::RangeInclusive<u32> = 68..=65535;

/// The configuration as it is written. Keys that the plugin does not know are left alone.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    cni_version: Option<String>,
    #[serde(default)]
    name: String,
    bridge: Option<String>,
    mtu: Option<u32>,
    bpf_root: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    #[serde(default)]
    subnets: Vec<RawSubnet>,
    ipam: Option<Value>,
    dns: Option<Map<String, Value>>,
    prev_result: Option<Map<String, Value>>,
    runtime_config: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<Vec<ValidAttachment>>,
}

#[derive(Deserialize)]
struct RawSubnet {
    subnet: IpNet,
    gateway: Option<IpAddr>,
}

/// An attachment that the runtime still has, as GC lists it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ValidAttachment {
    /// `CNI_CONTAINERID` of its ADD.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// `CNI_IFNAME` of its ADD.
    pub ifname: String,
}

/// A network as the plugin works on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// The version that the runtime speaks.
    pub version: Version,
    /// The network's name: an identifier, fit for a file name.
    pub name: String,
    /// The bridge whose ports the pods are.
    pub bridge: String,
    /// The pods' MTU in bytes; none means the bridge's.
    pub mtu: Option<u32>,
    /// Where maps, programs and links are pinned.
    pub bpf_root: PathBuf,
    /// Where addresses are given out.
    pub state_dir: PathBuf,
    /// The node's subnets; see [`Network::pools`].
    subnets: Vec<(IpNet, Option<IpAddr>)>,
    /// What the runtime adds for this container; see [`Network::port_mappings`].
    runtime_config: Option<Value>,
    /// Handed on in results, for the runtime.
    pub dns: Option<Map<String, Value>>,
    /// What the plugins before this one answered, or on CHECK and DEL what ADD answered in the end.
    pub prev_result: Option<Map<String, Value>>,
    /// GC: the attachments to keep. None means that the key is missing, which says nothing about any attachment.
    pub valid_attachments: Option<Vec<ValidAttachment>>,
}

impl Network {
    /// Reads and checks a configuration, all but the subnets: DEL must work when they are wrong.
    ///
    /// # Errors
    /// [`Code::Decode`], [`Code::IncompatibleVersion`], [`Code::BadConfig`] or [`Code::UnsupportedField`].
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let unreadable =
            |details: String| Error::new(Code::Decode, "the network configuration cannot be read").details(details);
        // A list would be taken for the fields in their order.
        if json.trim_ascii_start().first().is_some_and(|byte| *byte != b'{') {
            return Err(unreadable("it is no JSON object".to_owned()));
        }
        let raw: Raw = serde_json::from_slice(json).map_err(|error| unreadable(error.to_string()))?;
        if !is_identifier(&raw.name) {
            return Err(bad(
                format!("network name {:?} is not valid", raw.name),
                "use a letter or digit, then letters, digits, '_', '.' and '-', 255 at most",
            ));
        }
        let version = Version::parse(raw.cni_version.as_deref())?;
        if let Some(ipam) = raw
            .ipam
            .filter(|ipam| !ipam.is_null() && ipam.as_object().is_none_or(|map| !map.is_empty()))
        {
            return Err(
                Error::new(Code::UnsupportedField, format!("unsupported field ipam: {ipam}")).details(
                    "netpath gives out addresses itself: remove ipam and list the node's pod subnets in subnets",
                ),
            );
        }
        let bridge = raw.bridge.unwrap_or_else(|| names::BRIDGE_DEVICE.to_owned());
        if !is_interface_name(&bridge) {
            return Err(bad(
                format!("bridge {bridge:?} is not a device name"),
                "use 1 to 15 characters without '/', ':' and white space",
            ));
        }
        if let Some(mtu) = raw.mtu.filter(|mtu| !MTU.contains(mtu)) {
            return Err(bad(
                format!("mtu {mtu} is out of range"),
                format!("use {} to {}", MTU.start(), MTU.end()),
            ));
        }
        Ok(Self {
            version,
            name: raw.name,
            bridge,
            mtu: raw.mtu,
            bpf_root: absolute("bpfRoot", raw.bpf_root.unwrap_or_else(|| names::BPF_ROOT.into()))?,
            state_dir: absolute("stateDir", raw.state_dir.unwrap_or_else(|| STATE_DIR.into()))?,
            subnets: raw.subnets.into_iter().map(|raw| (raw.subnet, raw.gateway)).collect(),
            runtime_config: raw.runtime_config,
            dns: raw.dns,
            prev_result: raw.prev_result,
            valid_attachments: raw.valid_attachments,
        })
    }

    /// The ports of the node that shall lead to the container.
    ///
    /// # Errors
    /// [`Code::Decode`] if they are written otherwise than CONVENTIONS.md says.
    pub fn port_mappings(&self) -> Result<Vec<PortMapping>, Error> {
        let written = self
            .runtime_config
            .as_ref()
            .and_then(|config| config.get("portMappings"));
        let mappings = written.cloned().map(serde_json::from_value::<Option<Vec<PortMapping>>>);
        match mappings.transpose() {
            Ok(mappings) => Ok(mappings.flatten().unwrap_or_default()),
            Err(error) => {
                Err(Error::new(Code::Decode, "runtimeConfig.portMappings cannot be read").details(error.to_string()))
            }
        }
    }

    /// The subnets, checked: each has its gateway inside and room for a pod, and none overlaps another.
    ///
    /// # Errors
    /// [`Code::BadConfig`].
    pub fn pools(&self) -> Result<Vec<Pool>, Error> {
        let mut pools: Vec<Pool> = Vec::new();
        for (given, gateway) in &self.subnets {
            let subnet = given.trunc();
            if subnet != *given {
                return Err(bad(
                    format!("subnet {given} has bits set beyond its prefix"),
                    format!("write {subnet}"),
                ));
            }
            let Some(first) = family::gateway(subnet) else {
                return Err(bad(
                    format!("subnet {subnet} is too small to give out addresses"),
                    format!(
                        "it must hold its own address, a gateway, a pod and a broadcast address: use a prefix of {} or shorter",
                        subnet.max_prefix_len() - 2
                    ),
                ));
            };
            let gateway = match gateway {
                None => first,
                Some(gateway)
                    if subnet.contains(gateway) && *gateway != subnet.network() && *gateway != subnet.broadcast() =>
                {
                    *gateway
                }
                Some(gateway) => {
                    return Err(bad(
                        format!("gateway {gateway} is not a host's address in subnet {subnet}"),
                        format!("use an address such as {first}"),
                    ));
                }
            };
            if let Some(other) = pools
                .iter()
                .find(|pool| pool.subnet.contains(&subnet) || subnet.contains(&pool.subnet))
            {
                return Err(bad(
                    format!("subnets {} and {subnet} overlap", other.subnet),
                    "list each of the node's pod subnets once",
                ));
            }
            pools.push(Pool { subnet, gateway });
        }
        if pools.is_empty() {
            return Err(bad(
                format!("network {} has no subnet", self.name),
                "list the node's spec.podCIDRs in subnets, as the agent does when it writes the configuration",
            ));
        }
        Ok(pools)
    }
}

fn bad(msg: impl Into<String>, remedy: impl Into<String>) -> Error {
    Error::new(Code::BadConfig, msg).details(remedy)
}

/// A path that cannot lead out of where it points: absolute, without `..`, and not the root itself.
fn absolute(key: &str, path: PathBuf) -> Result<PathBuf, Error> {
    let is_plain = |path: &Path| {
        let mut components = path.components();
        components.next() == Some(Component::RootDir)
            && path.components().count() > 1
            && components.all(|part| matches!(part, Component::Normal(_)))
            && !path.as_os_str().as_encoded_bytes().contains(&0)
    };
    if is_plain(&path) {
        return Ok(path);
    }
    Err(bad(
        format!("{key} {path:?} is not usable"),
        "give an absolute path below /, without '..'",
    ))
}
