//! CHECK: is the attachment still what ADD answered? Routes and addresses that plugins after this one added are theirs to
//! check; what is listed in the previous result must be there.

use std::{net::IpAddr, path::Path};

use ipnet::IpNet;
use netpath_common::abi::{
    Layouts, Mac,
    endpoint::{Endpoint, KIND_POD},
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    allocate::{Addresses, boot_id},
    attach::{bridge, open_namespace},
    config::Network,
    error::{Code, Error},
    hostport::HostPorts,
    names::Attachment,
    result::mac_text,
    tables::{self, HOOK, PodTables, require_datapath},
};
use crate::{
    datapath::{pins::Pins, sys::pinned_link},
    family::{V4, V6},
    net::{Error as NetError, Netlink, link::Link},
};

#[derive(Deserialize)]
struct Previous {
    #[serde(default)]
    interfaces: Vec<Interface>,
    #[serde(default)]
    ips: Vec<Ip>,
    #[serde(default)]
    routes: Vec<Route>,
}

#[derive(Deserialize)]
struct Interface {
    name: String,
    #[serde(default)]
    mac: String,
    #[serde(default)]
    sandbox: String,
}

#[derive(Deserialize)]
struct Ip {
    address: IpNet,
    interface: Option<usize>,
}

#[derive(Deserialize)]
struct Route {
    dst: IpNet,
    gw: Option<IpAddr>,
}

/// What CHECK holds reality against.
struct Expected {
    mac: String,
    addresses: Vec<IpNet>,
    routes: Vec<(IpNet, Option<IpAddr>)>,
}

/// Compares an attachment with what ADD answered.
///
/// # Errors
/// [`Code::Differs`] with every difference; [`Code::BadConfig`] without a usable previous result.
pub async fn check(network: &Network, attachment: &Attachment, netns: &Path) -> Result<(), Error> {
    let expected = expected(network, attachment, netns)?;
    let pins = Pins::new(&network.bpf_root);
    require_datapath(&pins)?;
    let namespace = open_namespace(netns)?;
    let netlink = Netlink::connect()?;
    let bridge = bridge(&netlink, network).await?;
    let ifname = &attachment.ifname;
    let (interface, addresses, routes) = namespace.netlink(|inside| async move {
        Ok::<_, NetError>((
            inside.link(ifname).await?,
            inside.addresses().await?,
            inside.routes().await?,
        ))
    })?;
    let mut differences = inside_differences(ifname, &expected, interface.as_ref(), &addresses);
    differences.extend(route_differences(&expected, &routes));
    let addresses: Vec<IpAddr> = expected.addresses.iter().map(IpNet::addr).collect();
    match netlink.link(&attachment.device()).await? {
        None => differences.push(format!("device {} does not exist", attachment.device())),
        Some(port) => {
            differences.extend(port_differences(&port, &bridge));
            if let Some(interface) = &interface {
                differences.extend(datapath_differences(&pins, &port, &addresses, interface.mac)?);
                for address in &addresses {
                    if netlink.permanent_neighbour(&bridge, *address).await? != Some(interface.mac) {
                        differences.push(format!("{address} is not a permanent neighbour on {}", bridge.name));
                    }
                }
            }
        }
    }
    differences.extend(reservation_differences(network, attachment, &addresses, &pins)?);
    if differences.is_empty() {
        return Ok(());
    }
    Err(
        Error::new(Code::Differs, format!("{attachment} is not as it was attached")).details(format!(
            "{}; delete the pod so that it is attached anew",
            differences.join("; ")
        )),
    )
}

/// Of the pod's interface.
fn inside_differences(
    ifname: &str,
    expected: &Expected,
    interface: Option<&Link>,
    addresses: &[(u32, IpNet)],
) -> Vec<String> {
    let Some(link) = interface else {
        return vec![format!("interface {ifname} does not exist")];
    };
    let mut differences = Vec::new();
    if mac_text(link.mac) != expected.mac {
        differences.push(format!("{ifname} has MAC {}, not {}", mac_text(link.mac), expected.mac));
    }
    if !link.up {
        differences.push(format!("{ifname} is down"));
    }
    let missing = expected
        .addresses
        .iter()
        .filter(|address| !addresses.contains(&(link.index, **address)));
    differences.extend(missing.map(|address| format!("{ifname} has no address {address}")));
    differences
}

/// Of the pod's routes: by a gateway, where the answer named one.
fn route_differences(expected: &Expected, routes: &[(IpNet, Option<IpAddr>)]) -> Vec<String> {
    let is_there = |destination: &IpNet, gateway: &Option<IpAddr>| {
        let mut routes = routes.iter();
        routes.any(|(to, via)| to == destination && (gateway.is_none() || via == gateway))
    };
    let missing = expected
        .routes
        .iter()
        .filter(|(destination, gateway)| !is_there(destination, gateway));
    missing
        .map(|(destination, gateway)| {
            let via = gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
            format!("route to {destination}{via} is missing")
        })
        .collect()
}

/// Of the node's end of the pair.
fn port_differences(port: &Link, bridge: &Link) -> Vec<String> {
    let mut differences = Vec::new();
    if !port.up {
        differences.push(format!("device {} is down", port.name));
    }
    if port.controller != Some(bridge.index) {
        differences.push(format!("device {} is not a port of {}", port.name, bridge.name));
    }
    differences
}

/// Of the record of addresses, and of the hostPorts that it has.
fn reservation_differences(
    network: &Network,
    attachment: &Attachment,
    addresses: &[IpAddr],
    pins: &Pins,
) -> Result<Vec<String>, Error> {
    let mut differences = Vec::new();
    let reserved = Addresses::new(&network.state_dir, &network.name, boot_id()?).of(attachment)?;
    for (address, record) in &reserved {
        let ports = record.host_ports();
        if !ports.is_empty() {
            differences.extend(HostPorts::open(pins)?.differences(&ports, *address)?);
        }
    }
    let missing = addresses
        .iter()
        .filter(|address| !reserved.iter().any(|(reserved, _)| reserved == *address));
    let folder = network.state_dir.display();
    differences.extend(missing.map(|address| format!("address {address} is not reserved for it in {folder}")));
    Ok(differences)
}

fn datapath_differences(pins: &Pins, port: &Link, addresses: &[IpAddr], mac: Mac) -> Result<Vec<String>, Error> {
    let mut differences = Vec::new();
    let tables = PodTables::open(pins)?;
    let own = Endpoint {
        ifindex: port.index,
        mac,
        kind: KIND_POD,
    };
    for address in addresses {
        if tables.endpoint(*address)? != Some(own) {
            let map = match address {
                IpAddr::V4(_) => V4::NAMES.endpoint,
                IpAddr::V6(_) => V6::NAMES.endpoint,
            };
            differences.push(format!("{map} has not the pod's entry for {address}"));
        }
    }
    if tables.port(port.index)? != Some(tables::port(addresses, mac)) {
        differences.push(format!(
            "np_bridge has not the pod's entry for port {} ({})",
            port.index, port.name
        ));
    }
    let path = pins.link(&port.name, HOOK);
    let link = pinned_link(&path)
        .map_err(|error| Error::new(Code::Io, format!("cannot open {}", path.display())).details(error.to_string()))?;
    if link.and_then(|link| link.ifindex()) != Some(port.index) {
        differences.push(format!("program {} is not attached to {}", HOOK.name(), port.name));
    }
    Ok(differences)
}

/// Finds the attachment in the previous result.
fn expected(network: &Network, attachment: &Attachment, netns: &Path) -> Result<Expected, Error> {
    let bad = |msg: String| Error::new(Code::BadConfig, msg).details("give CHECK the result of ADD as prevResult");
    let previous = network
        .prev_result
        .clone()
        .ok_or_else(|| bad("there is no prevResult".into()))?;
    let previous: Previous = serde_json::from_value(Value::Object(previous))
        .map_err(|error| Error::new(Code::Decode, "prevResult cannot be read").details(error.to_string()))?;
    let is_ours = |interface: &Interface| interface.name == attachment.ifname && Path::new(&interface.sandbox) == netns;
    let index = previous.interfaces.iter().position(is_ours).ok_or_else(|| {
        bad(format!(
            "prevResult has no interface {} in {}",
            attachment.ifname,
            netns.display()
        ))
    })?;
    let own = previous.ips.iter().filter(|ip| ip.interface == Some(index));
    let addresses: Vec<IpNet> = own.map(|ip| ip.address).collect();
    if addresses.is_empty() {
        return Err(bad(format!("prevResult has no address of {}", attachment.ifname)));
    }
    let routes = previous.routes.iter().map(|route| (route.dst, route.gw));
    Ok(Expected {
        mac: previous.interfaces[index].mac.to_lowercase(),
        addresses,
        routes: routes.collect(),
    })
}
