//! A pod's entries in the tables: `np_endpoint4` says where its address is, `np_bridge` what its port may send.

use std::net::Ipv4Addr;

use netpath_common::{
    abi::{
        ABI_VERSION, Mac,
        bridge::Port,
        endpoint::{Endpoint, KIND_POD},
    },
    hook::Hook,
    names,
};

use super::error::{Code, Error};
use crate::datapath::{config::NodeConfig, error::Error as DatapathError, maps::Table, pins::Pins};

/// The hooks of a pod's device, in the order of attachment: what comes to the pod first.
pub const HOOKS: [Hook; 2] = [Hook::ToPod, Hook::FromPod];

/// The tables that have entries of pods.
pub struct PodTables {
    endpoints: Table<[u8; 4], Endpoint>,
    ports: Table<u32, Port>,
}

impl From<DatapathError> for Error {
    fn from(error: DatapathError) -> Self {
        let code = match error {
            DatapathError::NoBpffs { .. }
            | DatapathError::MapMissing { .. }
            | DatapathError::MapFull { .. }
            | DatapathError::ProgramMissing { .. } => Code::NotAvailable,
            _ => Code::Attach,
        };
        Error::new(code, error.to_string())
    }
}

/// Checks that the agent has set the datapath up, and that its layouts are the plugin's.
///
/// # Errors
/// [`Code::NotAvailable`]; [`Code::TryAgain`] if agent and plugin are of different builds.
pub fn require_datapath(pins: &Pins) -> Result<(), Error> {
    for hook in HOOKS {
        let path = pins.program(hook);
        if !path.exists() {
            return Err(DatapathError::ProgramMissing { hook, path }.into());
        }
    }
    match NodeConfig::open(pins)?.get()?.abi_version {
        ABI_VERSION => Ok(()),
        0 => Err(
            Error::new(Code::NotAvailable, "the node's datapath is not configured yet")
                .details("wait for netpath-agent on this node, or see its log for what it waits for"),
        ),
        other => Err(Error::new(
            Code::TryAgain,
            format!("the maps are of layout {other}, the plugin of layout {ABI_VERSION}"),
        )
        .details("agent and plugin are of different builds: netpath-agent replaces both when its upgrade is done")),
    }
}

impl PodTables {
    /// Opens the tables.
    ///
    /// # Errors
    /// [`DatapathError::MapMissing`], [`DatapathError::Map`].
    pub fn open(pins: &Pins) -> Result<Self, DatapathError> {
        Ok(Self {
            endpoints: Table::open(pins, names::ENDPOINT4)?,
            ports: Table::open(pins, names::BRIDGE)?,
        })
    }

    /// Opens the tables if they are there.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn open_if_any(pins: &Pins) -> Result<Option<Self>, DatapathError> {
        match Self::open(pins) {
            Ok(tables) => Ok(Some(tables)),
            Err(DatapathError::MapMissing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds a pod.
    ///
    /// # Errors
    /// [`Code::BadConfig`] if the address is the node's own; those of the tables.
    pub fn add(&mut self, address: Ipv4Addr, ifindex: u32, mac: Mac) -> Result<(), Error> {
        if self
            .endpoints
            .get(&address.octets())?
            .is_some_and(|endpoint| endpoint.kind != KIND_POD)
        {
            return Err(
                Error::new(Code::BadConfig, format!("address {address} is the node's own"))
                    .details("the node's address lies in its pod subnet: give the node another spec.podCIDR"),
            );
        }
        // The endpoint first: DEL finds the port's entry through it when the device is gone.
        self.endpoints.insert(
            &address.octets(),
            &Endpoint {
                ifindex,
                mac,
                kind: KIND_POD,
            },
        )?;
        let port = Port {
            mac,
            address4: address.octets(),
            ..Port::default()
        };
        Ok(self.ports.insert(&ifindex, &port)?)
    }

    /// Removes a pod: the entries of its addresses, and those of its device where that is still there.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn remove(&mut self, addresses: &[Ipv4Addr], ifindex: Option<u32>) -> Result<(), DatapathError> {
        for address in addresses.iter().map(Ipv4Addr::octets) {
            let Some(endpoint) = self
                .endpoints
                .get(&address)?
                .filter(|endpoint| endpoint.kind == KIND_POD)
            else {
                continue;
            };
            // The kernel may have given the number of a device that is gone to another pod's.
            if self
                .ports
                .get(&endpoint.ifindex)?
                .is_some_and(|port| port.address4 == address)
            {
                self.ports.remove(&endpoint.ifindex)?;
            }
            self.endpoints.remove(&address)?;
        }
        if let Some(ifindex) = ifindex {
            self.ports.remove(&ifindex)?;
            if addresses.is_empty() {
                for (address, endpoint) in self.endpoints.entries()? {
                    if endpoint.kind == KIND_POD && endpoint.ifindex == ifindex {
                        self.endpoints.remove(&address)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What the tables say of an address and of the device it is at.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn get(&self, address: Ipv4Addr, ifindex: u32) -> Result<(Option<Endpoint>, Option<Port>), DatapathError> {
        Ok((self.endpoints.get(&address.octets())?, self.ports.get(&ifindex)?))
    }

    /// The devices that pods' entries name.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn devices(&self) -> Result<Vec<u32>, DatapathError> {
        let endpoints = self
            .endpoints
            .entries()?
            .into_iter()
            .filter(|(_, endpoint)| endpoint.kind == KIND_POD);
        let ports = self.ports.entries()?.into_iter().map(|(ifindex, _)| ifindex);
        let mut devices: Vec<u32> = endpoints.map(|(_, endpoint)| endpoint.ifindex).chain(ports).collect();
        devices.sort_unstable();
        devices.dedup();
        Ok(devices)
    }
}
