//! ADD: address, veth pair, table entries, programs, and only then up. What fails is undone; what is killed, DEL undoes.

use std::{fs::File, io::Read, net::IpAddr, path::Path};

use ipnet::IpNet;
use netpath_common::abi::Mac;
use serde_json::Value;

use super::{
    allocate::{Addresses, Reservation, boot_id},
    config::Network,
    detach::{close_ports, dismantle},
    error::{Code, Error},
    hostport::HostPorts,
    log,
    names::Attachment,
    portmap::HostPort,
    record::Record,
    result::{self, Attached},
    tables::{HOOK, PodTables, require_datapath},
};
use crate::{
    datapath::{attach::attach, pins::Pins},
    net::{Error as NetError, Netlink, link::Link, namespace::Namespace, veth::Pair},
};

impl From<NetError> for Error {
    fn from(error: NetError) -> Self {
        Error::new(Code::Attach, error.to_string())
    }
}

/// Opens a container's namespace, which must not be the node's own.
pub(super) fn open_namespace(path: &Path) -> Result<Namespace, Error> {
    let wrong = |error: NetError| Error::new(Code::BadNamespace, error.to_string());
    let namespace = Namespace::open(path).map_err(wrong)?;
    if namespace.is_current().map_err(wrong)? {
        return Err(Error::new(
            Code::BadNamespace,
            format!("CNI_NETNS {} is the node's own namespace", path.display()),
        )
        .details("pods on the host network are not attached"));
    }
    Ok(namespace)
}

/// The bridge of a network.
pub(super) async fn bridge(netlink: &Netlink, network: &Network) -> Result<Link, Error> {
    match netlink.link(&network.bridge).await? {
        Some(link) if link.kind == "bridge" => Ok(link),
        Some(link) => Err(
            Error::new(Code::BadConfig, format!("device {} is not a bridge", link.name))
                .details("rename or delete that device; netpath-agent then makes the bridge"),
        ),
        None => Err(
            Error::new(Code::NotAvailable, format!("bridge {} does not exist", network.bridge))
                .details("start netpath-agent on this node, which makes it"),
        ),
    }
}

/// Attaches a container, and says what the runtime wants to know of it.
///
/// # Errors
/// Nothing is left of what this call did.
pub async fn add(
    network: &Network,
    attachment: &Attachment,
    netns: &Path,
    pod: Option<String>,
) -> Result<Value, Error> {
    let pools = network.pools()?;
    let port_mappings = network.port_mappings()?;
    port_mappings
        .iter()
        .try_for_each(|mapping| HostPort::read(mapping).map(drop))?;
    let pins = Pins::new(&network.bpf_root);
    require_datapath(&pins)?;
    let namespace = open_namespace(netns)?;
    let netlink = Netlink::connect()?;
    let bridge = bridge(&netlink, network).await?;

    let addresses = Addresses::new(&network.state_dir, &network.name, boot_id()?);
    let record = Record {
        container_id: attachment.container_id.clone(),
        ifname: attachment.ifname.clone(),
        boot_id: String::new(),
        netns: Some(netns.to_owned()),
        pod,
        port_mappings,
    };
    let ports = record.host_ports();
    let reservation = addresses.reserve(&pools, record)?;
    let work = Work {
        network,
        attachment,
        addresses: &addresses,
        ports,
        netns,
        pins,
        namespace,
        netlink,
        bridge,
    };
    let outcome = work.attach(&reservation).await;
    if outcome.is_err()
        && let Err(error) = addresses.take_back(attachment, &reservation.addresses())
    {
        log(format_args!("while undoing: {error}"));
    }
    outcome
}

/// What the steps of an ADD share.
struct Work<'a> {
    network: &'a Network,
    attachment: &'a Attachment,
    addresses: &'a Addresses,
    ports: Vec<HostPort>,
    netns: &'a Path,
    pins: Pins,
    namespace: Namespace,
    netlink: Netlink,
    bridge: Link,
}

impl Work<'_> {
    async fn attach(&self, reservation: &Reservation) -> Result<Value, Error> {
        let device = self.attachment.device();
        let (host_mac, pod_mac) = (random_mac()?, random_mac()?);
        let mtu = self.network.mtu.unwrap_or(self.bridge.mtu);
        let pair = Pair {
            host: &device,
            host_mac,
            bridge: &self.bridge,
            pod: &self.attachment.ifname,
            pod_mac,
            namespace: self.namespace.as_fd(),
            mtu,
        };
        // Nothing is there to be undone if this fails; if the names are in use, it is not ours to undo.
        let port = self.netlink.create_pair(&pair).await?;
        let finished = match self.finish(&port, pod_mac, reservation).await {
            Ok(()) => {
                let attached = Attached {
                    bridge_mac: self.bridge.mac,
                    host_mac,
                    pod_mac,
                    addresses: interface_addresses(reservation),
                    mtu,
                };
                result::success(self.network, self.attachment, self.netns, &attached)
            }
            Err(error) => Err(error),
        };
        if finished.is_err() {
            let addresses = reservation.addresses();
            for address in &addresses {
                if let Err(error) = close_ports(self.addresses, &self.pins, &self.ports, *address) {
                    log(format_args!("while undoing: {error}"));
                }
            }
            let left = dismantle(&self.netlink, self.network, &device, Some(&port), &addresses).await;
            for error in left {
                log(format_args!("while undoing: {error}"));
            }
        }
        finished
    }

    async fn finish(&self, port: &Link, mac: Mac, reservation: &Reservation) -> Result<(), Error> {
        let addresses = reservation.addresses();
        self.netlink.settle_port(port, &self.bridge, mac, &addresses).await?;
        // Twice: an agent that puts new maps and programs in place of the pinned ones moves over what it sees, and may have
        // looked just before the first time. The second time finds everything done, or the new ones.
        for _ in 0..2 {
            PodTables::open(&self.pins)?.add(&addresses, port.index, mac)?;
            attach(&self.pins, HOOK, &port.name)?;
        }
        self.netlink.set_up(port).await?;
        let (ifname, bridge_mac) = (&self.attachment.ifname, self.bridge.mac);
        let own = interface_addresses(reservation);
        self.namespace
            .netlink(|inside| async move { inside.configure_pod(ifname, &own, bridge_mac).await })?;
        self.open_ports(&addresses)?;
        // The bridge opens the port when it hears of the carrier, and with its first port sends anything at all; of either the
        // kernel says when it has time, or when asked.
        for device in [&port.name, &self.network.bridge] {
            self.netlink.link(device).await?;
        }
        Ok(())
    }

    /// The pod's hostPorts, last: what comes to them is answered.
    fn open_ports(&self, addresses: &[IpAddr]) -> Result<(), Error> {
        if self.ports.is_empty() {
            return Ok(());
        }
        let _lock = self.addresses.lock_if_any()?;
        // Twice, as above.
        (0..2).try_for_each(|_| HostPorts::open(&self.pins)?.add(&self.ports, addresses))
    }
}

/// The addresses as the pod's interface has them, each with its gateway. In IPv6 the pod has no segment, so that all it
/// sends goes to the gateway: whom it would have to ask there for a MAC is none of its business.
fn interface_addresses(reservation: &Reservation) -> Vec<(IpNet, IpAddr)> {
    let given = reservation.given.iter();
    given
        .map(|(pool, address)| match pool.subnet {
            IpNet::V4(subnet) => (IpNet::new_assert(*address, subnet.prefix_len()), pool.gateway),
            IpNet::V6(_) => (IpNet::from(*address), pool.gateway),
        })
        .collect()
}

/// A MAC address of our own making: locally administered, for one device (IEEE 802, section 8.4).
fn random_mac() -> Result<Mac, Error> {
    let mut mac = Mac::default();
    let read = File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut mac));
    read.map_err(|error| Error::new(Code::Io, "cannot read /dev/urandom").details(error.to_string()))?;
    mac[0] = (mac[0] & 0xfc) | 2;
    Ok(mac)
}
