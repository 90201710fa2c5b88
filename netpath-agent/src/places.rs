//! Where a node keeps what is netpath's, unless a setting says otherwise, and what a setting of a place may be. Agent, plugin
//! and command must agree on each. The maps' and programs' place is [`netpath_common::names::BPF_ROOT`].

use std::path::{Component, PathBuf};

/// What must outlive a restart.
pub const STATE_DIR: &str = "/var/lib/netpath";
/// What lives until the node starts again.
pub const RUN_DIR: &str = "/run/netpath";
/// Where the container runtime looks for network configurations.
pub const CNI_CONF_DIR: &str = "/etc/cni/net.d";
/// The file name of netpath's there.
pub const CONFLIST: &str = "05-netpath.conflist";
/// Where the container runtime looks for plugins.
pub const CNI_BIN_DIR: &str = "/opt/cni/bin";
/// Where the agent answers whether it is healthy.
pub const HEALTH_ADDRESS: &str = "127.0.0.1:9878";

/// A file or folder, as a setting names it.
///
/// # Errors
/// What is expected.
pub fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let plain = path.is_absolute() && path.components().all(|part| part != Component::ParentDir);
    if plain && path.parent().is_some() {
        Ok(path)
    } else {
        Err("expected an absolute path without `..`, and not the root".into())
    }
}

/// The file name of netpath's CNI configuration, as a setting names it.
///
/// # Errors
/// What is expected.
pub fn conflist(name: &str) -> Result<String, String> {
    if name.ends_with(".conflist") && !name.contains('/') && !name.starts_with('.') {
        Ok(name.to_owned())
    } else {
        Err("expected a file name that ends in .conflist, without a folder".into())
    }
}
