//! A pod's entries in the tables: `np_endpoint4` and `np_endpoint6` say where its addresses are, `np_bridge` what its port may
//! send.

use std::net::IpAddr;

use netpath_common::{
    abi::{
        ABI_VERSION, Mac,
        bridge::Port,
        endpoint::{Endpoint, KIND_POD},
    },
    hook::Hook,
};

use super::error::{Code, Error};
use crate::{
    datapath::{
        config::NodeConfig,
        error::{Error as DatapathError, Result as DatapathResult},
        maps::Table,
        pins::Pins,
        tables,
    },
    family::{Family, V4, V6},
};

/// The hook of a pod's device. What comes to the pod was seen before: at its sender, or where it left the node's stack.
pub const HOOK: Hook = Hook::FromPod;

/// The tables that have entries of pods.
pub struct PodTables {
    v4: Table<V4, Endpoint>,
    v6: Table<V6, Endpoint>,
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
    let path = pins.program(HOOK);
    if !path.exists() {
        return Err(DatapathError::ProgramMissing { hook: HOOK, path }.into());
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
            v4: tables::endpoints(pins)?,
            v6: tables::endpoints(pins)?,
            ports: tables::bridge(pins)?,
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
    /// [`Code::BadConfig`] if one of the addresses is the node's own; those of the tables.
    pub fn add(&mut self, addresses: &[IpAddr], ifindex: u32, mac: Mac) -> Result<(), Error> {
        let endpoint = Endpoint {
            ifindex,
            mac,
            kind: KIND_POD,
        };
        // The endpoints first: DEL finds the port's entry through them when the device is gone.
        for address in addresses {
            match address {
                IpAddr::V4(address) => add(&mut self.v4, address.octets(), &endpoint),
                IpAddr::V6(address) => add(&mut self.v6, address.octets(), &endpoint),
            }?;
        }
        Ok(self.ports.insert(&ifindex, &port(addresses, mac))?)
    }

    /// Removes a pod: the entries of its addresses, and those of its device where that is still there.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn remove(&mut self, addresses: &[IpAddr], ifindex: Option<u32>) -> DatapathResult<()> {
        for address in addresses {
            match address {
                IpAddr::V4(address) => remove(&mut self.v4, &mut self.ports, address.octets()),
                IpAddr::V6(address) => remove(&mut self.v6, &mut self.ports, address.octets()),
            }?;
        }
        if let Some(ifindex) = ifindex {
            self.ports.remove(&ifindex)?;
            if addresses.is_empty() {
                remove_all_at(&mut self.v4, ifindex)?;
                remove_all_at(&mut self.v6, ifindex)?;
            }
        }
        Ok(())
    }

    /// What the tables say of an address.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn endpoint(&self, address: IpAddr) -> DatapathResult<Option<Endpoint>> {
        match address {
            IpAddr::V4(address) => self.v4.get(&address.octets()),
            IpAddr::V6(address) => self.v6.get(&address.octets()),
        }
    }

    /// What the tables say of a device.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn port(&self, ifindex: u32) -> DatapathResult<Option<Port>> {
        self.ports.get(&ifindex)
    }

    /// The devices that pods' entries name.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn devices(&self) -> DatapathResult<Vec<u32>> {
        let mut devices = devices(&self.v4)?;
        devices.extend(self::devices(&self.v6)?);
        devices.extend(self.ports.entries()?.into_iter().map(|(ifindex, _)| ifindex));
        devices.sort_unstable();
        devices.dedup();
        Ok(devices)
    }
}

/// What a port of a pod with these addresses may send.
pub fn port(addresses: &[IpAddr], mac: Mac) -> Port {
    let mut port = Port { mac, ..Port::default() };
    for address in addresses {
        match address {
            IpAddr::V4(address) => port.address4 = address.octets(),
            IpAddr::V6(address) => port.address6 = address.octets(),
        }
    }
    port
}

fn add<F: Family>(endpoints: &mut Table<F, Endpoint>, address: F, endpoint: &Endpoint) -> Result<(), Error> {
    if endpoints.get(&address)?.is_some_and(|found| found.kind != KIND_POD) {
        let address = F::Address::from(address);
        return Err(
            Error::new(Code::BadConfig, format!("address {address} is the node's own"))
                .details("the node's address lies in its pod subnet: give the node another spec.podCIDR"),
        );
    }
    Ok(endpoints.insert(&address, endpoint)?)
}

fn remove<F: Family>(
    endpoints: &mut Table<F, Endpoint>,
    ports: &mut Table<u32, Port>,
    address: F,
) -> DatapathResult<()> {
    let found = endpoints.get(&address)?;
    let Some(endpoint) = found.filter(|endpoint| endpoint.kind == KIND_POD) else {
        return Ok(());
    };
    // The kernel may have given the number of a device that is gone to another pod's.
    let port = ports.get(&endpoint.ifindex)?;
    if port.is_some_and(|port| F::of_port(&port) == address) {
        ports.remove(&endpoint.ifindex)?;
    }
    endpoints.remove(&address).map(drop)
}

fn remove_all_at<F: Family>(endpoints: &mut Table<F, Endpoint>, ifindex: u32) -> DatapathResult<()> {
    for (address, endpoint) in endpoints.entries()? {
        if endpoint.kind == KIND_POD && endpoint.ifindex == ifindex {
            endpoints.remove(&address)?;
        }
    }
    Ok(())
}

fn devices<F: Family>(endpoints: &Table<F, Endpoint>) -> DatapathResult<Vec<u32>> {
    let entries = endpoints.entries()?.into_iter();
    let pods = entries.filter(|(_, endpoint)| endpoint.kind == KIND_POD);
    Ok(pods.map(|(_, endpoint)| endpoint.ifindex).collect())
}
