//! The hostPorts of one family.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use netpath_common::abi::{
    endpoint::KIND_HOST,
    service::{
        Backend, BackendKey, FLAG_EXTERNAL_IP, FLAG_HOST_PORT, FLAG_LOAD_BALANCER, FLAG_NODE_PORT, FLAG_NODE_PORT_HERE,
        Frontend, HOST_PORT_SETS, Service,
    },
};

use super::{Pod, is_of};
use crate::{
    apply::{
        forget::{UDP, forget},
        sockets,
    },
    cni::{
        error::{Code, Error},
        portmap::HostPort,
    },
    datapath::{config::NodeConfig, error::Result as DatapathResult, maps::Table, pins::Pins, sys, tables},
    family::Family,
    fnv,
    model::Protocol,
};

/// How many numbers are tried for a set. With 1,000 in use the first is free but for one time in two million.
const TRIES: u32 = 16;

/// A family's tables that have entries of hostPorts.
pub struct Ports<F: Family> {
    services: Table<F::Frontend, Service>,
    backends: Table<BackendKey, F::Backend>,
    connections: Table<F::Tuple, F::Connection>,
    sockets: Table<F::SocketKey, F::SocketPeer>,
    own: BTreeSet<F::Address>,
    vxlan_port: u16,
}

/// Frontends that are gone, each with the backend it had.
type Gone<F, B> = BTreeSet<(F, B)>;

impl<F: Family> Ports<F> {
    /// Opens the tables.
    ///
    /// # Errors
    /// [`crate::datapath::error::Error::MapMissing`], [`crate::datapath::error::Error::Map`].
    pub fn open(pins: &Pins) -> DatapathResult<Self> {
        let entries = tables::endpoints::<F>(pins)?.entries()?.into_iter();
        let own = entries.filter(|(_, endpoint)| endpoint.kind == KIND_HOST);
        Ok(Self {
            services: tables::services::<F>(pins)?,
            backends: tables::backends::<F>(pins)?,
            connections: tables::connections::<F>(pins)?,
            sockets: tables::sockets::<F>(pins)?,
            own: own.map(|(address, _)| address.into()).collect(),
            vxlan_port: NodeConfig::open(pins)?.get()?.vxlan_port,
        })
    }

    /// Adds a pod's ports of the family. What is there of them already stays. What fails is for the caller to undo.
    ///
    /// # Errors
    /// As [`super::HostPorts::add`].
    pub fn add(&mut self, ports: &[HostPort], pod: F::Address) -> Result<(), Error> {
        ports.iter().filter(|port| is_of::<F>(port)).try_for_each(|port| {
            self.check(port)?;
            let frontends = self.frontends(port);
            frontends
                .into_iter()
                .try_for_each(|(frontend, flags)| self.add_one(frontend, flags, backend::<F>(port, pod)))
        })
    }

    /// Removes a pod's ports, forgets the connections to them, and aborts the node's sockets that were led to the pod by one.
    ///
    /// # Errors
    /// As [`super::HostPorts::remove`].
    pub fn remove(&mut self, ports: &[HostPort], pod: F::Address) -> DatapathResult<()> {
        let mut gone = BTreeSet::new();
        for port in ports {
            let backend = backend::<F>(port, pod);
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
            if let Some(set) = self.set(backend::<F>(port, pod))? {
                self.backends.remove(&place(set))?;
            }
        }
        Ok(())
    }

    /// What of a pod's ports the tables have not, a line each.
    ///
    /// # Errors
    /// As [`super::HostPorts::differences`].
    pub fn differences(&self, ports: &[HostPort], pod: F::Address) -> DatapathResult<Vec<String>> {
        let mut differences = Vec::new();
        for port in ports {
            let backend = backend::<F>(port, pod);
            for (frontend, flags) in self.frontends(port) {
                let found = self.services.get(&frontend)?;
                let right = match found.filter(|service| service.flags == flags && service.count == 1) {
                    Some(service) => self.backends.get(&place(service.set))? == Some(backend),
                    None => false,
                };
                if !right {
                    let (map, port) = (F::NAMES.service, describe::<F>(frontend));
                    differences.push(format!("{map} has not the pod's hostPort {port}"));
                }
            }
        }
        Ok(differences)
    }

    /// Brings the entries to those of these pods, which are all that the node has. Goes on past errors, and says what they
    /// were.
    ///
    /// # Errors
    /// As [`super::HostPorts::reconcile`].
    pub fn reconcile(&mut self, pods: &[Pod]) -> DatapathResult<Vec<String>> {
        let mut wanted = BTreeMap::new();
        for pod in pods {
            let Some(address) = F::address(pod.address) else {
                continue;
            };
            for port in &pod.ports {
                let frontends = self.frontends(port).into_iter();
                wanted.extend(
                    frontends
                        .map(|(frontend, flags)| ((frontend, backend::<F>(port, address)), (flags, pod.under_way))),
                );
            }
        }
        let mut left = Vec::new();
        let mut gone = BTreeSet::new();
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
        let needed: BTreeSet<F::Backend> = wanted.keys().map(|(_, backend)| *backend).collect();
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
        match address::<F>(port) {
            // To lead other addresses elsewhere would be to take them from whoever has them.
            Some(address) if !is_loopback::<F>(address) && !self.own.contains(&address) => refused(
                &format!("has the hostIP {address}, which is not the node's"),
                "use the node's InternalIP, a loopback address, or none for all of them",
            ),
            Some(address) if is_loopback::<F>(address) => {
                for own in &self.own {
                    let everywhere = frontend::<F>(*own, port);
                    match self.services.get(&everywhere)? {
                        Some(found) if found.flags & FLAG_NODE_PORT != 0 => {
                            return Err(self.taken(everywhere, found)?);
                        }
                        _ => {}
                    }
                }
                Ok(())
            }
            _ if port.protocol == Protocol::Udp && port.port == self.vxlan_port => {
                refused("is the tunnel's port", "use another")
            }
            _ => Ok(()),
        }
    }

    /// The frontends of a port in the family, with their flags. One without an address is on every address of the node, and
    /// for the node's own sockets on its loopback addresses too.
    fn frontends(&self, port: &HostPort) -> Vec<(F::Frontend, u16)> {
        match address::<F>(port) {
            _ if !is_of::<F>(port) => Vec::new(),
            Some(address) => vec![(frontend::<F>(address, port), FLAG_HOST_PORT)],
            None => {
                let all = self.own.iter().copied().chain([F::LOOPBACK]);
                all.map(|address| (frontend::<F>(address, port), FLAG_HOST_PORT | FLAG_NODE_PORT))
                    .collect()
            }
        }
    }

    fn add_one(&mut self, frontend: F::Frontend, flags: u16, backend: F::Backend) -> Result<(), Error> {
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
            maglev: 0,
            reserved: 0,
        };
        if self.services.insert_new(&frontend, &service)? {
            return Ok(());
        }
        match self.services.get(&frontend)? {
            Some(found) if found == service => Ok(()),
            found => Err(self.taken(frontend, found.unwrap_or_default())?),
        }
    }

    /// Why a frontend cannot be had.
    fn taken(&self, frontend: F::Frontend, by: Service) -> DatapathResult<Error> {
        let (code, details) = if is_host_port(&by) {
            let pod: Backend<F> = self.backends.get(&place(by.set))?.unwrap_or_default().into();
            let pod = F::Address::from(pod.address);
            let details = format!("the pod with the address {pod} has it: wait until that is gone");
            (Code::TryAgain, details)
        } else {
            let (code, details) = service_has(by.flags);
            (code, details.to_owned())
        };
        let text = format!("hostPort {} is taken", describe::<F>(frontend));
        Ok(Error::new(code, text).details(details))
    }

    /// The set of a backend, if there is one.
    fn set(&self, backend: F::Backend) -> DatapathResult<Option<u32>> {
        for set in numbers::<F>(backend) {
            if self.backends.get(&place(set))? == Some(backend) {
                return Ok(Some(set));
            }
        }
        Ok(None)
    }

    fn add_set(&mut self, backend: F::Backend) -> Result<u32, Error> {
        for set in numbers::<F>(backend) {
            if self.backends.insert_new(&place(set), &backend)? {
                return Ok(set);
            }
        }
        Err(
            Error::new(Code::TryAgain, "no number is free for a hostPort's set of backends")
                .details("delete other pods with hostPorts on this node"),
        )
    }

    fn forget(&mut self, gone: &Gone<F::Frontend, F::Backend>) -> DatapathResult<()> {
        if gone.is_empty() {
            return Ok(());
        }
        // A program that found the frontend before it went has made its connection known by then.
        sys::grace_period();
        forget::<F>(&mut self.connections, |frontend, backend, _| {
            gone.contains(&(*frontend, *backend))
        })?;
        let datagrams = gone.iter().map(|(frontend, backend)| ((*frontend).into(), backend));
        let datagrams: Vec<(Frontend<F>, &F::Backend)> =
            datagrams.filter(|(frontend, _)| frontend.protocol == UDP).collect();
        if datagrams.is_empty() {
            return Ok(());
        }
        sockets::abort::<F>(&self.sockets, |asked, backend, _| {
            // One that is on all addresses of the node is asked for on more loopback addresses than have a frontend.
            let is_asked = |frontend: &Frontend<F>| match sockets::is_loopback(asked.address) {
                true => frontend.port == asked.port,
                false => frontend == asked,
            };
            datagrams
                .iter()
                .any(|(frontend, gone)| *gone == backend && is_asked(frontend))
        })
        .map(drop)
    }
}

/// What a service has a port of the node as, by its flags, and what to do; and whether that can be over by itself.
fn service_has(flags: u16) -> (Code, &'static str) {
    if flags & FLAG_LOAD_BALANCER != 0 {
        let details = "a service has it on its load balancer's address, which is the node's: wait until that is another, use another \
             port, or have load balancers' addresses assigned from a range of their own";
        (Code::TryAgain, details)
    } else if flags & FLAG_EXTERNAL_IP != 0 {
        let details = "a service has it on one of its externalIPs, which is the node's: take that address out of the service, or use \
             another port";
        (Code::TryAgain, details)
    } else if flags & (FLAG_NODE_PORT | FLAG_NODE_PORT_HERE) != 0 {
        let details =
            "a service has it as its NodePort: use a port outside of the API server's --service-node-port-range";
        (Code::BadConfig, details)
    } else {
        // It went between two looks.
        (Code::TryAgain, "somebody had it a moment ago")
    }
}

fn is_host_port(service: &Service) -> bool {
    service.flags & FLAG_HOST_PORT != 0
}

/// The address of the family that a port is on; `None` for all of them.
fn address<F: Family>(port: &HostPort) -> Option<F::Address> {
    let address = port.address.filter(|address| !address.is_unspecified());
    address.and_then(F::address)
}

fn is_loopback<F: Family>(address: F::Address) -> bool {
    let address: IpAddr = address.into();
    address.is_loopback()
}

fn frontend<F: Family>(address: F::Address, port: &HostPort) -> F::Frontend {
    let frontend = Frontend {
        address: F::octets(address),
        port: port.port,
        protocol: port.protocol.number(),
        reserved: 0,
    };
    frontend.into()
}

fn backend<F: Family>(port: &HostPort, pod: F::Address) -> F::Backend {
    let backend = Backend {
        address: F::octets(pod),
        port: port.target,
        reserved: [0; 2],
    };
    backend.into()
}

/// The only place in a set.
fn place(set: u32) -> BackendKey {
    BackendKey { set, slot: 0 }
}

/// The numbers that a backend's set may have, in their order: from its hash on (FNV-1a).
fn numbers<F: Family>(backend: F::Backend) -> impl Iterator<Item = u32> {
    let hash = fnv::hash32(bytemuck::bytes_of(&backend).iter().copied());
    (0..TRIES).map(move |number| hash.wrapping_add(number) | HOST_PORT_SETS)
}

fn describe<F: Family>(frontend: F::Frontend) -> String {
    let frontend: Frontend<F> = frontend.into();
    let protocol = Protocol::ALL
        .into_iter()
        .find(|protocol| protocol.number() == frontend.protocol);
    let protocol = protocol.map_or_else(|| frontend.protocol.to_string(), |protocol| protocol.to_string());
    let address: IpAddr = F::Address::from(frontend.address).into();
    format!("{}/{protocol}", SocketAddr::new(address, frontend.port))
}
