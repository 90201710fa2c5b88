//! What the file of an address says: whose it is, and which ports of the node lead there.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{
    names::Attachment,
    portmap::{HostPort, PortMapping},
};

/// Who has an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// `CNI_CONTAINERID`.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// The kernel's name for the boot in which the address was given out.
    #[serde(rename = "bootID")]
    pub boot_id: String,
    /// The container's network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<PathBuf>,
    /// `namespace/name` of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The ports of the node that lead to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub port_mappings: Vec<PortMapping>,
}

impl Record {
    /// Whose address it is.
    pub fn attachment(&self) -> Attachment {
        Attachment {
            container_id: self.container_id.clone(),
            ifname: self.ifname.clone(),
        }
    }

    /// The ports of the node that lead to it.
    pub fn host_ports(&self) -> Vec<HostPort> {
        // ADD has refused what cannot be served.
        let served = self
            .port_mappings
            .iter()
            .filter_map(|mapping| HostPort::read(mapping).ok());
        served.flatten().collect()
    }
}
