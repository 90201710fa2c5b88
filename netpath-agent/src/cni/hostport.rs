//! A pod's hostPorts in the tables: frontends on the node's own addresses that lead to the pod alone. They lie among the
//! agent's, marked as the plugin's, and serve while no agent runs. Which pod has which stands in its address's record.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use netpath_common::{
    abi::{
        config::Config,
        conntrack::v4::{Connection, Tuple},
        endpoint::{Endpoint, KIND_HOST},
        service::{
            BackendKey, FLAG_HOST_PORT, FLAG_NODE_PORT, HOST_PORT_SETS, Service,
            v4::{Backend, Frontend},
        },
    },
    names,
};

use super::{
    error::{Code, Error},
    portmap::HostPort,
};
use crate::{
    apply::forget::forget,
    datapath::{
        config::NodeConfig,
        error::{Error as DatapathError, Result as DatapathResult},
        maps::Table,
        pins::Pins,
        sys,
    },
    family::V4,
    fnv,
    model::Protocol,
};

/// How many numbers are tried for a set. With 1,000 in use the first is free but for one time in two million.
const TRIES: u32 = 16;

/// The tables that have entries of hostPorts. Whoever writes holds the lock of the network's addresses.
pub struct HostPorts {
    services: Table<Frontend, Service>,
    backends: Table<BackendKey, Backend>,
    connections: Table<Tuple, Connection>,
    own: BTreeSet<Ipv4Addr>,
    config: Config,
}

/// Frontends that are gone, each with the backend it had.
type Gone = BTreeSet<(Frontend, Backend)>;

/// A pod with its ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its ports.
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
        let endpoints: Table<[u8; 4], Endpoint> = Table::open(pins, names::ENDPOINT4)?;
        let entries = endpoints.entries()?.into_iter();
        let own = entries.filter(|(_, endpoint)| endpoint.kind == KIND_HOST);
        Ok(Self {
            services: Table::open(pins, names::SERVICE4)?,
            backends: Table::open(pins, names::BACKEND4)?,
            connections: Table::open(pins, names::CONNTRACK4)?,
            own: own.map(|(address, _)| address.into()).collect(),
            config: NodeConfig::open(pins)?.get()?,
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

    /// Adds a pod's ports. What is there of them already stays.
    ///
    /// # Errors
    /// [`Code::TryAgain`] if another pod has one, [`Code::BadConfig`] if it can never be had; those of the tables. Nothing of
    /// the pod's is left then.
    pub fn add(&mut self, ports: &[HostPort], pod: Ipv4Addr) -> Result<(), Error> {
        let added = ports.iter().try_for_each(|port| {
            self.check(port)?;
            let frontends = self.frontends(port);
            frontends
                .into_iter()
                .try_for_each(|(frontend, flags)| self.add_one(frontend, flags, backend(port, pod)))
        });
        if added.is_err() {
            self.remove(ports, pod)?;
        }
        added
    }

    /// Removes a pod's ports, and forgets the connections to them: who has the port next is another.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn remove(&mut self, ports: &[HostPort], pod: Ipv4Addr) -> DatapathResult<()> {
        let mut gone = Gone::default();
        for port in ports {
            let backend = backend(port, pod);
            for (frontend, _) in self.frontends(port) {
                let found = self.services.get(&frontend)?;
                if let Some(service) = found.filter(is_host_port)
                    && self.backends.get(&place(service.set))? == Some(backend)
                {
                    self.services.remove(&frontend)?;
                    gone.insert((frontend, backend));
                }
            }
        }
        self.forget(&gone)?;
        for port in ports {
            if let Some(set) = self.set(backend(port, pod))? {
                self.backends.remove(&place(set))?;
            }
        }
        Ok(())
    }

    /// What of a pod's ports the tables have not, a line each.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn differences(&self, ports: &[HostPort], pod: Ipv4Addr) -> DatapathResult<Vec<String>> {
        let mut differences = Vec::new();
        for port in ports {
            let backend = backend(port, pod);
            for (frontend, flags) in self.frontends(port) {
                let found = self.services.get(&frontend)?;
                let right = match found.filter(|service| service.flags == flags && service.count == 1) {
                    Some(service) => self.backends.get(&place(service.set))? == Some(backend),
                    None => false,
                };
                if !right {
                    differences.push(format!(
                        "np_service4 has not the pod's hostPort {}",
                        describe(&frontend)
                    ));
                }
            }
        }
        Ok(differences)
    }

    /// Brings the entries to those of these pods, which are all that the node has. Goes on past errors, and says what they
    /// were.
    ///
    /// # Errors
    /// [`DatapathError::Map`], if the tables cannot be read.
    pub fn reconcile(&mut self, pods: &[Pod]) -> DatapathResult<Vec<String>> {
        let mut wanted = BTreeMap::new();
        for pod in pods {
            for port in &pod.ports {
                let frontends = self.frontends(port).into_iter();
                wanted.extend(
                    frontends.map(|(frontend, flags)| ((frontend, backend(port, pod.address)), (flags, pod.under_way))),
                );
            }
        }
        let mut left = Vec::new();
        let mut gone = Gone::default();
        for (frontend, service) in self
            .services
            .entries()?
            .into_iter()
            .filter(|(_, service)| is_host_port(service))
        {
            let backend = self.backends.get(&place(service.set))?.unwrap_or_default();
            if wanted.contains_key(&(frontend, backend)) {
                continue;
            }
            left.extend(self.services.remove(&frontend).err().map(|error| error.to_string()));
            gone.insert((frontend, backend));
        }
        self.forget(&gone)?;
        let needed: BTreeSet<Backend> = wanted.keys().map(|(_, backend)| *backend).collect();
        for (place, backend) in self.backends.entries()? {
            if place.set >= HOST_PORT_SETS && !needed.contains(&backend) {
                left.extend(self.backends.remove(&place).err().map(|error| error.to_string()));
            }
        }
        for ((frontend, backend), (flags, _)) in wanted.into_iter().filter(|(_, (_, under_way))| !under_way) {
            left.extend(
                self.add_one(frontend, flags, backend)
                    .err()
                    .map(|error| error.to_string()),
            );
        }
        Ok(left)
    }

    /// Whether a port can be had at all.
    fn check(&self, port: &HostPort) -> Result<(), Error> {
        let refused = |what: &str, remedy: &str| {
            let text = format!("hostPort {}/{} {what}", port.port, port.protocol);
            Err(Error::new(Code::BadConfig, text).details(remedy))
        };
        match port.address {
            // To lead other addresses elsewhere would be to take them from whoever has them.
            Some(address) if !address.is_loopback() && !self.own.contains(&address) => refused(
                &format!("has the hostIP {address}, which is not the node's"),
                "use the node's InternalIP, a loopback address, or none for all of them",
            ),
            Some(address) if address.is_loopback() => {
                let everywhere = frontend(self.config.node4.into(), port);
                match self.services.get(&everywhere)? {
                    Some(found) if found.flags & FLAG_NODE_PORT != 0 => Err(self.taken(&everywhere, found)?),
                    _ => Ok(()),
                }
            }
            _ if port.protocol == Protocol::Udp && port.port == self.config.vxlan_port => {
                refused("is the tunnel's port", "use another")
            }
            _ => Ok(()),
        }
    }

    /// The frontends of a port, with their flags. One without an address is on every address of the node, and for the node's
    /// own sockets on its loopback addresses too.
    fn frontends(&self, port: &HostPort) -> Vec<(Frontend, u16)> {
        match port.address {
            Some(address) => vec![(frontend(address, port), FLAG_HOST_PORT)],
            None => {
                let all = self.own.iter().copied().chain([Ipv4Addr::LOCALHOST]);
                all.map(|address| (frontend(address, port), FLAG_HOST_PORT | FLAG_NODE_PORT))
                    .collect()
            }
        }
    }

    fn add_one(&mut self, frontend: Frontend, flags: u16, backend: Backend) -> Result<(), Error> {
        let set = match self.set(backend)? {
            Some(set) => set,
            None => self.add_set(backend)?,
        };
        let service = Service {
            set,
            count: 1,
            outside_set: set,
            outside_count: 1,
            affinity: 0,
            affinity_timeout: 0,
            sources: 0,
            flags,
            reserved: [0; 2],
        };
        if self.services.insert_new(&frontend, &service)? {
            return Ok(());
        }
        match self.services.get(&frontend)? {
            Some(found) if found == service => Ok(()),
            found => Err(self.taken(&frontend, found.unwrap_or_default())?),
        }
    }

    /// Why a frontend cannot be had.
    fn taken(&self, frontend: &Frontend, by: Service) -> DatapathResult<Error> {
        let text = format!("hostPort {} is taken", describe(frontend));
        if !is_host_port(&by) {
            return Ok(Error::new(Code::BadConfig, text).details(
                "a service has it as its NodePort: use a port outside of the API server's --service-node-port-range",
            ));
        }
        let pod = self.backends.get(&place(by.set))?.unwrap_or_default();
        let pod = Ipv4Addr::from(pod.address);
        Ok(Error::new(Code::TryAgain, text).details(format!(
            "the pod with the address {pod} has it: wait until that is gone"
        )))
    }

    /// The set of a backend, if there is one.
    fn set(&self, backend: Backend) -> DatapathResult<Option<u32>> {
        for set in numbers(backend) {
            if self.backends.get(&place(set))? == Some(backend) {
                return Ok(Some(set));
            }
        }
        Ok(None)
    }

    fn add_set(&mut self, backend: Backend) -> Result<u32, Error> {
        for set in numbers(backend) {
            if self.backends.insert_new(&place(set), &backend)? {
                return Ok(set);
            }
        }
        Err(
            Error::new(Code::TryAgain, "no number is free for a hostPort's set of backends")
                .details("delete other pods with hostPorts on this node"),
        )
    }

    fn forget(&mut self, gone: &Gone) -> DatapathResult<()> {
        if gone.is_empty() {
            return Ok(());
        }
        // A program that found the frontend before it went has made its connection known by then.
        sys::grace_period();
        forget::<V4>(&mut self.connections, |frontend, backend, _| {
            gone.contains(&(*frontend, *backend))
        })
        .map(drop)
    }
}

fn is_host_port(service: &Service) -> bool {
    service.flags & FLAG_HOST_PORT != 0
}

fn frontend(address: Ipv4Addr, port: &HostPort) -> Frontend {
    Frontend {
        address: address.octets(),
        port: port.port,
        protocol: port.protocol.number(),
        reserved: 0,
    }
}

fn backend(port: &HostPort, pod: Ipv4Addr) -> Backend {
    Backend {
        address: pod.octets(),
        port: port.target,
        reserved: [0; 2],
    }
}

/// The only place in a set.
fn place(set: u32) -> BackendKey {
    BackendKey { set, slot: 0 }
}

/// The numbers that a backend's set may have, in their order: from its hash on (FNV-1a).
fn numbers(backend: Backend) -> impl Iterator<Item = u32> {
    let hash = fnv::hash32(bytemuck::bytes_of(&backend).iter().copied());
    (0..TRIES).map(move |number| hash.wrapping_add(number) | HOST_PORT_SETS)
}

fn describe(frontend: &Frontend) -> String {
    let protocol = [Protocol::Tcp, Protocol::Udp]
        .into_iter()
        .find(|protocol| protocol.number() == frontend.protocol);
    let protocol = protocol.map_or_else(|| frontend.protocol.to_string(), |protocol| protocol.to_string());
    format!("{}:{}/{protocol}", Ipv4Addr::from(frontend.address), frontend.port)
}
