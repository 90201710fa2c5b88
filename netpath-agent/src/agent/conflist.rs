//! The CNI configuration list: the last thing an agent writes, since a runtime that sees it begins to start pods. It
//! carries all that the plugin needs, so that pods come and go while no agent runs; it stays when the agent ends.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use netpath_common::names::BRIDGE_DEVICE;
use serde_json::{Value, json};

use crate::cni::{self, config::Network};
use crate::family::gateway;

/// The version of the CNI specification that the list is written in.
const CNI_VERSION: &str = "1.1.0";
/// The network's name: the plugin keeps its files under it.
pub const NETWORK: &str = "netpath";
/// The plugin's file name.
pub const PLUGIN: &str = "netpath-cni";

/// What the plugin is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflist {
    /// The largest IP packet of a pod, in bytes.
    pub mtu: u16,
    /// Where the programs and maps are pinned.
    pub bpf_root: PathBuf,
    /// Where allocated addresses are kept.
    pub state_dir: PathBuf,
    /// The node's pod subnets.
    pub subnets: Vec<IpNet>,
}

impl Conflist {
    /// The file's contents.
    pub fn contents(&self) -> String {
        let list = json!({ "cniVersion": CNI_VERSION, "name": NETWORK, "plugins": [self.plugin()] });
        format!("{list:#}\n")
    }

    /// What the plugin is handed by a runtime: its own part with the list's name and version.
    ///
    /// # Errors
    /// The plugin refuses it.
    pub fn network(&self) -> Result<Network, cni::error::Error> {
        let mut plugin = self.plugin();
        plugin["cniVersion"] = CNI_VERSION.into();
        plugin["name"] = NETWORK.into();
        Network::parse(plugin.to_string().as_bytes())
    }

    fn plugin(&self) -> Value {
        let gateways = self
            .subnets
            .iter()
            .filter_map(|subnet| Some((subnet, gateway(*subnet)?)));
        let subnets: Vec<_> = gateways
            .map(|(subnet, gateway)| json!({ "subnet": subnet, "gateway": gateway }))
            .collect();
        json!({
            "type": PLUGIN,
            "bridge": BRIDGE_DEVICE,
            "mtu": self.mtu,
            "bpfRoot": self.bpf_root,
            "stateDir": self.state_dir,
            "subnets": subnets,
            "capabilities": { "portMappings": true },
        })
    }

    /// Brings the file to these contents, if it has others: written beside it and renamed, so that no reader sees half of
    /// it. Returns whether it had to be written.
    ///
    /// # Errors
    /// The folder or the file cannot be written; the path is part of the text.
    pub fn write(&self, folder: &Path, name: &str) -> io::Result<bool> {
        let (path, contents) = (folder.join(name), self.contents());
        if fs::read_to_string(&path).is_ok_and(|present| present == contents) {
            return Ok(false);
        }
        let failed = |error: io::Error| {
            let text = format!("cannot write {}: {error}; see --cni-conf-dir", path.display());
            io::Error::new(error.kind(), text)
        };
        fs::create_dir_all(folder).map_err(failed)?;
        // A runtime reads what ends in .conf, .conflist or .json: this does not.
        let beside = folder.join(format!(".{name}.new"));
        let write = || {
            let mut file = File::create(&beside)?;
            file.set_permissions(fs::Permissions::from_mode(0o644))?;
            file.write_all(contents.as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, &path)
        };
        write().map_err(failed)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflist() -> Conflist {
        Conflist {
            mtu: 1450,
            bpf_root: "/sys/fs/bpf/netpath".into(),
            state_dir: "/var/lib/netpath".into(),
            subnets: vec!["10.244.1.0/24".parse().unwrap()],
        }
    }

    #[test]
    fn the_list_is_what_the_plugin_reads() {
        let written: Value = serde_json::from_str(&conflist().contents()).unwrap();
        assert_eq!(
            written,
            json!({"cniVersion":"1.1.0","name":"netpath","plugins":[{"type":"netpath-cni","bridge":"netpath0","mtu":1450,
                "bpfRoot":"/sys/fs/bpf/netpath","stateDir":"/var/lib/netpath",
                "subnets":[{"subnet":"10.244.1.0/24","gateway":"10.244.1.1"}],"capabilities":{"portMappings":true}}]})
        );
    }

    #[test]
    fn it_is_written_whole_and_only_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("net.d");
        assert!(conflist().write(&below, "05-netpath.conflist").unwrap());
        assert!(!conflist().write(&below, "05-netpath.conflist").unwrap());
        let changed = Conflist {
            mtu: 8950,
            ..conflist()
        };
        assert!(changed.write(&below, "05-netpath.conflist").unwrap());
        let names: Vec<_> = fs::read_dir(&below)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["05-netpath.conflist"]);
        let path = below.join("05-netpath.conflist");
        assert_eq!(fs::read_to_string(&path).unwrap(), changed.contents());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn a_folder_that_cannot_be_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("net.d");
        fs::write(&file, "").unwrap();
        let error = conflist().write(&file, "05-netpath.conflist").unwrap_err().to_string();
        assert!(
            error.contains("net.d/05-netpath.conflist") && error.contains("--cni-conf-dir"),
            "{error}"
        );
    }
}
