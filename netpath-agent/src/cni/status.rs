//! STATUS: could ADD work now? Runtimes ask every few seconds, so this reads little and opens no socket.

use std::collections::BTreeSet;

use nix::net::if_::if_nametoindex;

use super::{
    allocate::{Addresses, boot_id},
    config::Network,
    error::{Code, Error},
    pool::{exhausted, families},
    tables::require_datapath,
};
use crate::datapath::pins::Pins;

/// Whether ADD could work now.
///
/// # Errors
/// [`Code::NotAvailable`] if it could not; [`Code::LimitedConnectivity`] if pods are attached, too, that what is missing may
/// have cut off.
pub fn status(network: &Network) -> Result<(), Error> {
    let pools = network.pools()?;
    let addresses = Addresses::new(&network.state_dir, &network.name, boot_id()?);
    if let Err(mut error) = ready(network) {
        let records = addresses.records()?;
        let pods: BTreeSet<_> = records.iter().map(|(_, record)| record.attachment()).collect();
        let pods = pods.len();
        error.code = Code::NotAvailable;
        if pods > 0 {
            error.code = Code::LimitedConnectivity;
            error.msg.push_str(&format!(" ({pods} pods are attached)"));
        }
        return Err(error);
    }
    for pools in families(&pools) {
        if addresses.free(&pools)? == 0 {
            return Err(Error::new(Code::NotAvailable, exhausted(&pools))
                .details("delete pods on this node, or give the node a larger or a second pod subnet"));
        }
    }
    Ok(())
}

fn ready(network: &Network) -> Result<(), Error> {
    require_datapath(&Pins::new(&network.bpf_root))?;
    // Not /sys/class/net: that shows the namespace it was mounted in.
    if_nametoindex(network.bridge.as_str()).map(|_| ()).map_err(|_| {
        Error::new(Code::NotAvailable, format!("bridge {} does not exist", network.bridge))
            .details("start netpath-agent on this node, which makes it")
    })
}
