//! A pod's hostPorts in the tables: frontends on the node's own addresses that lead to the pod alone. They lie among the
//! agent's, marked as the plugin's, and serve while no agent runs. Which pod has which stands in its addresses' record.

mod table;

use std::net::IpAddr;

use super::{
    error::{Code, Error},
    portmap::HostPort,
};
use crate::{
    datapath::{
        error::{Error as DatapathError, Result as DatapathResult},
        pins::Pins,
    },
    family::{self, Family, V4, V6},
};
use table::Ports;

/// The tables that have entries of hostPorts. Whoever writes holds the lock of the network's addresses.
pub struct HostPorts {
    v4: Ports<V4>,
    v6: Ports<V6>,
}

/// An address of a pod with the pod's ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// The address.
    pub address: IpAddr,
    /// The ports.
    pub ports: Vec<HostPort>,
    /// Its ADD or DEL is still running, and does with its entries what it will.
    pub under_way: bool,
}

impl HostPorts {
    /// Opens the tables.
    ///
    /// # Errors
    /// [`DatapathError::MapMissing`], [`DatapathError::Map`].
    pub fn open(pins: &Pins) -> DatapathResult<Self> {
        Ok(Self {
            v4: Ports::open(pins)?,
            v6: Ports::open(pins)?,
        })
    }

    /// Opens the tables if they are there.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn open_if_any(pins: &Pins) -> DatapathResult<Option<Self>> {
        match Self::open(pins) {
            Ok(tables) => Ok(Some(tables)),
            Err(DatapathError::MapMissing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds the ports of a pod with these addresses. What is there of them already stays.
    ///
    /// # Errors
    /// [`Code::TryAgain`] if another pod has one, or a service on an address of the node that it shares; [`Code::BadConfig`] or
    /// [`Code::UnsupportedField`] if it can never be had; those of the tables. Nothing of the pod's is left then.
    pub fn add(&mut self, ports: &[HostPort], pod: &[IpAddr]) -> Result<(), Error> {
        let mut added = ports.iter().try_for_each(|port| has_family(port, pod));
        for address in pod {
            added = added.and_then(|()| match address {
                IpAddr::V4(pod) => self.v4.add(ports, *pod),
                IpAddr::V6(pod) => self.v6.add(ports, *pod),
            });
        }
        if added.is_err() {
            pod.iter().try_for_each(|address| self.remove(ports, *address))?;
        }
        added
    }

    /// Removes the ports that lead to an address of a pod, forgets the connections to them, and aborts the node's sockets that were
    /// led there: who has the port next is another.
    ///
    /// # Errors
    /// [`DatapathError::Map`], [`DatapathError::Sockets`].
    pub fn remove(&mut self, ports: &[HostPort], pod: IpAddr) -> DatapathResult<()> {
        match pod {
            IpAddr::V4(pod) => self.v4.remove(ports, pod),
            IpAddr::V6(pod) => self.v6.remove(ports, pod),
        }
    }

    /// What of the ports that lead to an address of a pod the tables have not, a line each.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn differences(&self, ports: &[HostPort], pod: IpAddr) -> DatapathResult<Vec<String>> {
        match pod {
            IpAddr::V4(pod) => self.v4.differences(ports, pod),
            IpAddr::V6(pod) => self.v6.differences(ports, pod),
        }
    }

    /// Brings the entries to those of these pods, which are all that the node has. Goes on past errors, and says what they
    /// were.
    ///
    /// # Errors
    /// [`DatapathError::Map`], if the tables cannot be read.
    pub fn reconcile(&mut self, pods: &[Pod]) -> DatapathResult<Vec<String>> {
        let mut left = self.v4.reconcile(pods)?;
        left.extend(self.v6.reconcile(pods)?);
        Ok(left)
    }
}

/// Whether a port is in a family, by its address.
fn is_of<F: Family>(port: &HostPort) -> bool {
    port.address.is_none_or(|address| F::address(address).is_some())
}

/// A port on an address of a family must lead to a pod's of the same.
fn has_family(port: &HostPort, pod: &[IpAddr]) -> Result<(), Error> {
    match port.address {
        Some(address) if pod.iter().all(|pod| pod.is_ipv4() != address.is_ipv4()) => {
            let family = family::name(address);
            let text = format!(
                "hostPort {}/{} has the hostIP {address}, and the pod has no address of {family}",
                port.port, port.protocol
            );
            Err(Error::new(Code::UnsupportedField, text)
                .details("use an address of a family that the node's pods have"))
        }
        _ => Ok(()),
    }
}
